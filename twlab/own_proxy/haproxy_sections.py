"""Sections of a haproxy.cfg: their lines, what they inherit, their variables."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from twlab.own_proxy.reading import Place, Reading, parse_place

_KINDS = {
    *("global", "defaults", "frontend", "backend", "listen", "resolvers", "peers", "userlist", "program"),
    *("cache", "mailers", "ring", "http-errors", "fcgi-app", "log-forward", "crt-store", "traces"),
}
_VARIABLE = re.compile(r"\$\{(\w+)(?:\[\*\])?(?:-([^}]*))?\}")


@dataclass
class Section:
    """A section.

    Attributes:
        kind: its first word.
        name: empty where it has none.
        base: the defaults that it inherits; None: HAProxy's own.
        lines: in words.
    """

    kind: str
    name: str
    base: Section | None = None
    lines: list[list[str]] = field(default_factory=list)

    def all(self, *words: str) -> Iterator[list[str]]:
        """Yield what follows `words` in each line that begins with them."""
        for line in self.lines:
            if tuple(line[: len(words)]) == words:
                yield line[len(words) :]

    def inherited(self, *words: str) -> list[list[str]]:
        """Return the same of this section or, if it has no such line, of its defaults."""
        return list(self.all(*words)) or (self.base.inherited(*words) if self.base else [])

    def every(self, *words: str) -> list[list[str]]:
        """Return the same of its defaults and of this section: lines that add up."""
        return [*(self.base.every(*words) if self.base else []), *self.all(*words)]

    def value(self, word: str, otherwise: str) -> str:
        """Return the word after `word`, here or in its defaults."""
        return next((line[0] for line in reversed(self.inherited(word)) if line), otherwise)

    def servers(self) -> Iterator[list[str]]:
        """Yield its servers: name, address, words; those of default-server come first."""
        shared = [word for line in (self.base.inherited("default-server") if self.base else []) for word in line]
        for line in self.lines:
            if line[0] == "default-server":
                shared += line[1:]
            elif line[0] == "server" and len(line) > 2:
                yield [*line[1:3], *shared, *line[3:]]
            elif line[0] == "server-template" and len(line) > 3:  # PREFIX NUMBER ADDRESS
                yield [line[1], line[3], *shared, *line[4:]]


def is_on(words: list[str], flag: str) -> bool:
    """Return whether a server's words switch a `flag` on: the last one counts."""
    last = next((word for word in reversed(words) if word in (flag, f"no-{flag}")), "")
    return last == flag


def sections(text: str) -> list[Section]:
    """Return the sections of a haproxy.cfg, with its variables expanded."""
    found: list[Section] = []
    for _, words, kind in lines_of(text):
        if kind:
            found.append(_begun(words, found))
        elif words and found:
            found[-1].lines.append(words)
    return found


def lines_of(text: str) -> Iterator[tuple[str, list[str], str]]:
    """Yield (line, its words, the kind of the section that it begins) for each line."""
    for line in text.splitlines(keepends=True):
        words = words_of(line)
        yield line, words, words[0] if words and words[0] in _KINDS else ""


def _begun(words: list[str], before: list[Section]) -> Section:
    kind, rest = words[0], words[1:]
    base = None
    if "from" in rest:
        at = rest.index("from")
        name = rest[at + 1 : at + 2]
        base = next((section for section in before if section.kind == "defaults" and [section.name] == name), None)
        rest = rest[:at]
    elif kind in ("frontend", "backend", "listen"):
        base = next((section for section in reversed(before) if section.kind == "defaults"), None)
    section = Section(kind, rest[0] if rest else "", base)
    if kind == "listen" and len(rest) > 1:  # listen NAME ADDRESS, of old
        section.lines.append(["bind", *rest[1:]])
    return section


def words_of(line: str) -> list[str]:
    """Return the words of a line, without its comment."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.partition("#")[0].split()


def expanded(text: str, reading: Reading) -> str:
    """Put the values of variables in their place: the file's, or this process's."""
    own: dict[str, str] = {}
    for words in map(words_of, text.splitlines()):
        if words[:1] == ["setenv"] and len(words) > 2:
            own[words[1]] = words[2]
        elif words[:1] == ["presetenv"] and len(words) > 2 and words[1] not in os.environ:
            own.setdefault(words[1], words[2])
    for name, otherwise in dict.fromkeys(_VARIABLE.findall(text)):
        if name not in own and (not otherwise or name in os.environ):
            reading.note_variables([name])
    known = reading.environment | own
    return _VARIABLE.sub(lambda found: known.get(found[1], "") or found[2] or "", text)


def place_at(text: str, port: int = 0, tls: bool = False) -> Place | None:
    """Read an address and port as HAProxy does: the port follows the last colon.

    None where it is no address of TCP, such as a Unix socket.
    """
    text = re.sub(r"^(ipv4|ipv6|tcp4|tcp6|tcp)@", "", text)
    if text.startswith(("/", "@")) or re.match(r"(unix|abns|fd|quic\w*|sockpair|rhttp|uxst)@", text):
        return None
    host, colon, given = text.rpartition(":")
    return parse_place(f"[{host}]:{given}" if colon and not text.startswith("[") else text, port, tls)
