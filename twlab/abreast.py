"""Arms of scenarios in several lab kernels side by side, results as they come.

Each boot is driven by a process of its own (this module as a program: one JSON request in, one line of JSON for each arm out), so that
whatever ends this process ends the boots.
"""

from __future__ import annotations

import json
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twlab.engines import choose
from twlab.errors import EngineError, LabError
from twlab.syscalls import die_with_parent

_REAL_LIMIT_S = 300.0  # for one arm
_PARTS = 4  # boots for each kernel that runs at a time, so that none waits long for the last
Result = dict[str, Any]


def run(arms: Sequence[tuple[str, str, Sequence[str]]], *, seed: int, kernels: int) -> Iterator[tuple[int, Result]]:
    """Carry out `arms`; yields the number of each with its result (``observed``, ``ok``, ``mismatches``, ``kernel``, ``error``) when it is done.

    Args:
        arms: scenario (name, or path of a file), arm, and ``KEY=VALUE`` over its settings.
        seed: for everything random.
        kernels: boots side by side.
    """
    parts = min(len(arms), kernels * _PARTS)
    waiting = [list(range(number, len(arms), parts)) for number in range(parts)]
    running: dict[subprocess.Popen[bytes], list[int]] = {}
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or running:
                while waiting and len(running) < kernels:
                    numbers = waiting.pop(0)
                    process = _start({"arms": [list(arms[number]) for number in numbers], "seed": seed})
                    running[process] = numbers
                    selector.register(process.stdout, selectors.EVENT_READ, process)  # type: ignore[arg-type]
                for key, _ in selector.select():
                    process = key.data
                    if line := process.stdout.readline():
                        index, result = json.loads(line)
                        yield running[process].pop(index), result
                    else:
                        selector.unregister(process.stdout)
                        process.stdout.close()
                        status = process.wait()
                        for number in running.pop(process):
                            yield number, _failed(f"the process that drove its boot ended with status {status}")
        finally:
            for process in running:
                process.terminate()  # it ends its guest and removes its folder
                process.wait()
                assert process.stdout
                process.stdout.close()


def _start(part: dict[str, Any]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True)
    assert process.stdin
    process.stdin.write(json.dumps(part).encode())
    process.stdin.close()
    return process


def carry_out(part: dict[str, Any], on_result: Callable[[Result], None], engine: str = "guest") -> None:
    """The arms of one part, in their order. One that the engine does not survive is told as such; those after it get a fresh boot."""
    left = list(part["arms"])
    with tempfile.TemporaryDirectory(prefix="twlab-abreast-") as folder:
        while left:
            done = 0

            def on_event(event: dict[str, Any]) -> None:
                nonlocal done
                if event["event"] == "arm":
                    done += 1
                    on_result({name: event["result"].get(name) for name in ("observed", "ok", "mismatches", "kernel", "error")})
                    for file in Path(folder).glob("*.pcapng"):
                        file.unlink()

            jobs = [{"source": source, "arm": arm, "folder": folder, "set": sets} for source, arm, sets in left]
            try:
                choose(engine).run(
                    {"jobs": jobs, "seed": part["seed"], "engine": engine, "mechanisms": {}}, Path(folder), on_event, _REAL_LIMIT_S * len(left)
                )
            except EngineError as error:
                if done < len(left):
                    done += 1
                    on_result(_failed(str(error)))
            left = left[done:]


def _failed(message: str) -> Result:
    return {"observed": None, "error": {"slug": "engine", "message": message}}


def main() -> None:
    """Carry out the part on standard input; end with the process that started us."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    die_with_parent(signal.SIGTERM)
    part = json.load(sys.stdin)

    def tell(result: Result) -> None:
        print(json.dumps([0, result]), flush=True)  # of what is left, always the first

    try:
        carry_out(part, tell)
    except LabError as error:
        tell(_failed(str(error)))


if __name__ == "__main__":
    main()
