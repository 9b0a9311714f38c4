"""Keeps the results of an unfinished measurement, so that it can go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twlab.engines import kernel_path
from twlab.engines.kernel import Kernel
from twlab.errors import UsageError
from twlab.results import files

SCHEMA = 1
FILE = "unfinished.json"


def lab_kernel(scheduler: str = "") -> str:
    """Return the release of the lab kernel; empty with a `scheduler`.

    The machines of a cluster have lab kernels that are not known here.

    Raises:
        CapabilityError: it has not been built (``no-lab-kernel``).
    """
    return "" if scheduler else str(Kernel(kernel_path()).facts().get("version", ""))


class Progress:
    """The items of a measurement that are done, in a file that is removed at the end.

    Args:
        folder: of the measurement's results.
        identity: what each result depends on, as JSON values. Only a measurement that is the same
            in all of it is continued.
        kernel: release of the lab kernel, where it is known beforehand; otherwise empty.

    Attributes:
        path: of the file.
        done: number of the item to its result, a JSON value.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], kernel: str = ""):
        self.path = folder / FILE
        self.done: dict[int, Any] = {}
        self._identity = json.loads(json.dumps(identity))
        self._kernel = kernel

    def resume(self) -> None:
        """Take over what an interrupted measurement has left, if anything.

        Raises:
            UsageError: the file is not readable as such (``broken-progress``), or belongs to
                another measurement (``other-progress``).
        """
        try:
            values = json.loads(self.path.read_text())
            schema, identity, kernel = values["schema"], values["identity"], str(values["kernel"])
            done = {int(number): result for number, result in values["done"].items()}
            differing = [key for key in self._identity if identity.get(key) != self._identity[key]]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            message = f"{self.path} does not hold an unfinished measurement: {error}"
            raise UsageError(message, "remove it, or name another folder with --out", "broken-progress") from error
        if schema != SCHEMA:
            differing.append("schema")
        if kernel and self._kernel and kernel != self._kernel:
            differing.append("kernel")
        if differing:
            message = f"{self.path} belongs to another measurement, which differs in {', '.join(differing)}"
            remedy = "finish that one with its own command, remove the file, or name another folder with --out"
            raise UsageError(message, remedy, "other-progress")
        self._kernel = self._kernel or kernel
        self.done = done

    def record(self, number: int, result: Any) -> None:
        """Keep the result of an item; raises CapabilityError (``cannot-write``)."""
        self.done[number] = result
        done = {str(number): self.done[number] for number in sorted(self.done)}
        values = {"schema": SCHEMA, "identity": self._identity, "kernel": self._kernel, "done": done}
        files.write_all({self.path: json.dumps(values) + "\n"})

    def finish(self) -> None:
        """Remove the file: the results have been written."""
        self.path.unlink(missing_ok=True)
