"""A driver of the pool for tests: does what its task says."""

import os
from typing import Any

from twlab.engines.pool import Answer
from twlab.errors import CapabilityError


def carry_out(task: dict[str, Any], answer: Answer) -> None:
    """Answer, print, die or refuse."""
    for value in task.get("say", []):
        print("this is no answer")
        answer([value, os.getpid()] if task.get("pid") else value)
    if task.get("die"):
        os._exit(7)
    if task.get("refuse"):
        raise CapabilityError("it cannot", "do something", "no-guest")
