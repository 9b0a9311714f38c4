"""Turns errors of the command line's parser into twlab's own messages.

Each gets a slug, and names the right help.
"""

from __future__ import annotations

import inspect
import itertools
import re
import types
from collections.abc import Callable, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

from twlab.errors import UsageError, did_you_mean
from twlab.numerals import real

_NO_ARGUMENTS = "NoArgsIsHelpError"
_PLAIN_NUMBER = re.compile(r"parse string as an? (integer|number)|is not a valid (int|float)$")


def is_help(error: Exception) -> bool:
    """Return whether the parser wants to show its help.

    It does so for a command that needs arguments and has none.
    """
    return type(error).__name__ == _NO_ARGUMENTS


def as_usage_error(error: Any, path: str) -> UsageError:
    """Return the message for an exception of the parser.

    Args:
        error: an exception with ``format_message``.
        path: the command as it was typed, for errors that do not know it, e.g. ``twlab``.
    """
    context = getattr(error, "ctx", None)
    path = context.command_path if context else path
    kind = type(error).__name__
    text = str(error.format_message()).rstrip(".")
    remedy = f"see: {path} --help"
    if kind == "NoSuchOption":
        near = did_you_mean(error.option_name, _options(context))
        return UsageError(f"{path} has no option {error.option_name}{near}", remedy, "no-such-option")
    if text.startswith("No such command"):
        wrong = text.partition("'")[2].partition("'")[0]
        near = did_you_mean(wrong, context.command.list_commands(context) if context else ())
        return UsageError(f"{path} has no command {wrong!r}{near}", remedy, "no-such-command")
    if kind == "MissingParameter" or text.startswith("Missing command"):
        return UsageError(f"{path}: {_lower(text)}", remedy, "missing-argument")
    if kind == "BadOptionUsage":
        slug = "missing-argument" if "requires" in text else "bad-value"
        return UsageError(f"{path}: {_lower(text)}", remedy, slug)
    if kind == "BadParameter":
        return UsageError(f"{path}: {_value(text)}", remedy, "bad-value")
    return UsageError(f"{path}: {_lower(text)}", remedy, "bad-usage")


def check_numbers(function: Callable[..., Any], arguments: Sequence[str]) -> None:
    """Refuse an option's number in digits of another script.

    The parser would accept it.

    Args:
        function: carries out the command; its annotations say which options are numbers.
        arguments: the command line, without the program.

    Raises:
        UsageError: a value is a number for Python, and not one of digits 0 to 9 (``bad-value``).
    """
    numeric = _numeric_options(function)
    for word, after in itertools.pairwise([*arguments[1:], ""]):
        option, sign, value = word.partition("=")
        value = value if sign else after
        if option in numeric and not _is_plain(value):
            path = f"twlab {arguments[0]}"
            raise UsageError(
                f"{path}: {option} {value} is no number of digits 0 to 9", f"see: {path} --help", "bad-value"
            )


def _is_plain(value: str) -> bool:
    """Return whether `value` is a number of plain digits, or no number for Python.

    The parser refuses the latter.
    """
    try:
        float(value)
    except ValueError:
        return True
    try:
        real(value)
    except ValueError:
        return False
    return True


def _numeric_options(function: Callable[..., Any]) -> set[str]:
    hints = get_type_hints(function, include_extras=True)
    found = set()
    for name in inspect.signature(function).parameters:
        kind, *marks = get_args(hints[name]) or (hints[name],)
        if _parts(kind) & {int, float}:
            # In an annotation, the first name of an option stands where its default would.
            words = [
                word
                for mark in marks
                for word in (getattr(mark, "default", None), *(getattr(mark, "param_decls", None) or ()))
            ]
            declared = [word for word in words if isinstance(word, str) and word.startswith("--")]
            found.update(declared or [f"--{name.replace('_', '-')}"])
    return found


def _parts(kind: Any) -> set[Any]:
    """The plain types in ``list[float] | None``."""
    if get_origin(kind) in (Union, types.UnionType, list):
        return {part for inner in get_args(kind) for part in _parts(inner)}
    return {kind}


def _options(context: Any) -> list[str]:
    params = context.command.get_params(context) if context else ()
    return [word for param in params for word in (*param.opts, *param.secondary_opts) if word.startswith("--")]


def _value(text: str) -> str:
    """Return the parser's words about a value, without those for programmers only."""
    hint, _, why = text.partition(": ")
    number = _PLAIN_NUMBER.search(why)
    why = f"a {'whole ' if number[1] == 'integer' or number[2] == 'int' else ''}number is needed" if number else why
    why = why.removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{_lower(hint)}: {why}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
