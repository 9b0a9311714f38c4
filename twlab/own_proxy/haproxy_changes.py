"""Changes to a haproxy.cfg."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from twlab.own_proxy.haproxy_sections import lines_of, sections
from twlab.own_proxy.reading import Change, Reading, Route


def changes(
    reading: Reading, text: str, route: Route, own_ports: tuple[int, int], sources: Sequence[str]
) -> list[Change]:
    """Propose changes to `text` for the backend of `route`."""
    backend = route.name.rpartition("backend ")[2] if ", backend " in route.name else route.name.split(maxsplit=1)[1]
    found = []
    if sources and not re.search(r"source\s+\S+:\d+-\d+", text):
        low, high = own_ports
        address = f"[{sources[0]}]" if ":" in sources[0] else sources[0]
        bound = f"source {address}:{low}-{high}"
        edited = _edited(text, backend, lambda line, words: _with_source(line, words, bound))
        found.append(Change("named ports", f"{bound} at each server: ports of HAProxy's own", edited))
    if route.mode == "tcp":
        spoken = re.sub(r"(?m)^([ \t]*mode[ \t]+)tcp\b", r"\1http", text)
        found.append(Change("mode http", "HAProxy knows requests, and ends with RST: for HTTP only", spoken))
    elif _reuse(text, backend) != "always":
        what = "clients share idle connections to the servers (mode http)"
        found.append(Change("http-reuse always", what, _edited(text, backend, _shared)))
    return [change for change in found if change.text != text]


def _reuse(text: str, backend: str) -> str:
    section = next(one for one in sections(text) if one.kind in ("backend", "listen") and one.name == backend)
    return section.value("http-reuse", "safe")


def _edited(text: str, backend: str, edit: Callable[[str, list[str]], str]) -> str:
    """Edit the lines of `backend`, its first one among them."""
    lines, inside = [], False
    for line, words, kind in lines_of(text):
        if kind:
            inside = kind in ("backend", "listen") and words[1:2] == [backend]
        lines.append(edit(line, words) if inside else line)
    return "".join(lines)


def _with_source(line: str, words: list[str], bound: str) -> str:
    """Append a source to a server's line that has none."""
    if words[:1] not in (["server"], ["server-template"]) or "source" in words:
        return line
    body, comment = re.fullmatch(r"([^#\n]*?)(\s*(?:#.*)?\n?)", line, re.DOTALL).groups()  # type: ignore[union-attr]
    return f"{body} {bound}{comment}"


def _shared(line: str, words: list[str]) -> str:
    """Put http-reuse after a section's first line, and take out what it has of it."""
    if words[:1] in (["backend"], ["listen"]):
        return f"{line.rstrip()}\n    http-reuse always\n"
    return "" if words[:1] == ["http-reuse"] else line
