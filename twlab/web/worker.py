"""A worker process, driven by the server's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any, Self

from twlab import paths
from twlab.errors import EngineError

_LONGEST_LINE = 64 << 20  # bytes of an answer
LOST = {
    "slug": "worker-ended-early",
    "message": "the process that carried out this run has ended",
    "remedy": "run it again",
}


class Worker:
    """A process that carries out tasks, while this is entered.

    Args:
        driver: dotted name of the module that does, see `twlab.engines.pool`.
    """

    def __init__(self, driver: str):
        self._driver = driver

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "twlab.engines.pool", self._driver),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(paths.IMPORT_FROM)},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        self._process.stdin.close()
        await self._process.communicate()  # to the end of its output, so that nothing of it stays open

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def gone(self) -> None:
        """Wait until it has ended."""
        await self._process.wait()

    async def answers(self, task: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Have it carry out `task`; yields its answers.

        Raises:
            EngineError: what it raised, or that it has ended (`LOST`).
        """
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(task).encode() + b"\n")
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the end of its output says so, too
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            if "answer" in said:
                yield said["answer"]
                continue
            if error := said["ended"]:
                raise EngineError(error["message"], error["remedy"], error["slug"])
            return
        await self._process.wait()
        raise EngineError(LOST["message"], LOST["remedy"], LOST["slug"])
