"""Calls a function of the tests inside the lab kernel, and hands back what it returns: an agent of
the guest engine's.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def run_in_guest(function: Callable[..., Any], *arguments: Any, folder: Path, real_limit_s: float = 90.0) -> Any:
    """Call `function(*arguments)` as root of a lab kernel of its own, in virtual time.

    Args:
        function: one at the top level of its module, which the guest imports by name and which
            imports little.
        arguments: JSON values; what is returned is one too.
        folder: where the console's log is kept if it goes wrong.
    """
    from twlab.engines.guest.engine import Guest

    answers: list[dict[str, Any]] = []
    request = {"module": function.__module__, "function": function.__name__, "arguments": arguments}
    Guest(agent=__name__).run(request, folder, answers.append, real_limit_s)
    return next(event["answer"] for event in answers if event["event"] == "answer")  # a slow machine is told first


def carry_out(request: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """The agent's part, inside. The second since boot is a stamp to TCP, in which 0 means never: so
    begin in a later one.
    """
    time.sleep(2)
    answer = getattr(importlib.import_module(request["module"]), request["function"])(*request["arguments"])
    emit({"event": "answer", "answer": answer})
    emit({"event": "end"})
