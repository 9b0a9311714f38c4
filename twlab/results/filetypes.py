"""Names the type of a file given in place of a result, and checks field types."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from twlab.errors import UsageError

_CAPTURE = "a capture", "Wireshark opens it, and twlab show FOLDER draws it, with the folder that it is in"
_PICTURE = (
    "a picture",
    "a viewer of pictures opens it; the table that it shows is the .json file beside it: twlab report FILE.json",
)
_MAGIC = {
    b"\n\r\r\n": _CAPTURE,  # pcapng
    b"\xd4\xc3\xb2\xa1": _CAPTURE,
    b"\xa1\xb2\xc3\xd4": _CAPTURE,
    b"\x4d\x3c\xb2\xa1": _CAPTURE,
    b"\x89PNG": _PICTURE,
}
_SUFFIXES = {
    ".csv": ("a table in CSV", "a spreadsheet opens it; twlab report reads the .json file beside it"),
    ".html": ("a page", "a browser opens it"),
    ".svg": _PICTURE,
    ".py": ("a Python file", "if it holds a scenario: twlab run FILE"),
    ".md": ("a text", "any editor opens it"),
    ".txt": ("a text", "any editor opens it"),
    ".log": ("a text", "any editor opens it"),
}
_RESULTS = "name a folder that twlab run has made, e.g. runs/..., or its result.json"
_WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def foreign(file: Path) -> UsageError | None:
    """Return the message for a file that is no JSON (``foreign-result``).

    None: it may be JSON that was cut short.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(4096)
    except OSError:
        return None
    known = next((about for magic, about in _MAGIC.items() if head.startswith(magic)), None) or _SUFFIXES.get(
        file.suffix
    )
    if known is None and (file.suffix == ".json" or head.lstrip()[:1] in (b"{", b"[", b"")):
        return None
    what, reader = known or (("binary data" if b"\0" in head else "a text"), _RESULTS)
    return UsageError(f"{file} is {what}, not a result of twlab", reader, "foreign-result")


def foreign_json(file: Path, values: Any) -> UsageError:
    """Return the message for JSON that is no result (``foreign-result``)."""
    message = f"{file} is not a result of twlab"
    if isinstance(values, dict):
        for key, what, reader in (
            ("cells", "a sweep", "twlab report FILE draws it"),
            ("rows", "a table of measurements", "twlab report FILE draws it"),
            (
                "students",
                "a class's grades",
                "twlab grade continues it, and the .csv file beside it is for a spreadsheet",
            ),
        ):
            if key in values:
                return UsageError(f"{message}: it is {what}", reader, "foreign-result")
    return UsageError(message, _RESULTS, "foreign-result")


def wrong_field(record: Any) -> str:
    """Return what is wrong with the first field of a record; empty if nothing is.

    A field is wrong if its value is not of the type that the dataclass declares.
    """
    hints = get_type_hints(type(record))
    for spec in fields(record):
        if wrong := _wrong(getattr(record, spec.name), hints[spec.name], spec.name):
            return wrong
    return ""


def _wrong(value: Any, kind: Any, name: str) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or (origin is None and not isinstance(kind, type)):
        return ""
    if origin in (Union, types.UnionType):
        return "" if any(not _wrong(value, each, name) for each in inner) else f"{name} is {_word(value)}"
    plain = origin or kind
    if plain in (int, float) and isinstance(value, bool):
        return f"{name} is true or false, not {_WORDS[plain]}"
    if not isinstance(value, (int, float) if plain is float else plain):
        return f"{name} is {_word(value)}, not {_WORDS.get(plain, 'what it should be')}"
    if isinstance(value, Mapping) and inner:
        return next((wrong for key, each in value.items() if (wrong := _wrong(each, inner[1], f"{name}.{key}"))), "")
    if isinstance(value, list) and inner:
        return next((wrong for at, each in enumerate(value) if (wrong := _wrong(each, inner[0], f"{name}[{at}]"))), "")
    return ""


def _word(value: Any) -> str:
    return _WORDS.get(type(value), type(value).__name__)
