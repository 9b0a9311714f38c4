"""Blocks of an nginx.conf, as crossplane parses them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Block = list[dict[str, Any]]

PROXY_PASS = re.compile(r"(https?)://((?:[^/$]|\$(?!(?:request_uri|uri)\b))+)([/$].*)?")
"""Scheme, target and URI of a proxy_pass: a variable of the request's URI ends the target."""


def every(block: Block) -> Iterator[dict[str, Any]]:
    """Yield each directive of `block`, however deep."""
    for directive in block:
        yield directive
        yield from every(directive.get("block") or [])


def named(block: Block, *names: str) -> Iterator[Block]:
    """Yield the blocks of the directives called one of `names`."""
    for directive in block:
        if directive["directive"] in names and "block" in directive:
            yield directive["block"]


def values_of(block: Block, name: str) -> Iterator[list[str]]:
    """Yield the arguments of each directive called `name`."""
    for directive in block:
        if directive["directive"] == name and directive["args"]:
            yield directive["args"]


def directive_of(name: str, *arguments: str, block: Block | None = None) -> dict[str, Any]:
    """Return a directive."""
    made: dict[str, Any] = {"directive": name, "line": 1, "args": list(arguments)}
    return made if block is None else {**made, "block": block}
