"""Compiles our programs around stacks that are libraries."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def compile_once(program: Path, command: Sequence[str], compiler: str, own: Mapping[str, str] | None = None) -> str:
    """Have `command` write `program`, unless it is there; return why it cannot, or "".

    The program appears under its name when it is whole, so that several may compile it at a time.

    Args:
        command: the compiler and its arguments; ``{}`` stands for the file to write.
        compiler: what is missing where there is no such command.
        own: variables of the environment besides those that there are.
    """
    if program.exists():
        return ""
    fresh = program.with_suffix(f".{os.getpid()}")
    try:
        program.parent.mkdir(parents=True, exist_ok=True)
        filled = [str(fresh) if word == "{}" else word for word in command]
        made = subprocess.run(filled, env={**os.environ, **(own or {})}, capture_output=True, text=True, check=False)
        if made.returncode:
            said = [line for line in made.stderr.splitlines() if not line.startswith("#")]  # go names the package
            return next(iter(said), f"{command[0]} says nothing")
        fresh.rename(program)
    except FileNotFoundError:
        return f"there is no {compiler}"
    except OSError as error:
        return f"{program.parent}: {error.strerror}"
    return ""
