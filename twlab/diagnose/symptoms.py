"""Finds causes by their symptom: an error, a status, a duration, or words.

`symptom_table` has the rows. The table of docs/findings/balancers.md, the command `twlab symptom`
and the findings of `twlab diagnose` all take them from there.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_UNITS_S = {
    **dict.fromkeys(("ms", "msec"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
}
_DURATION = re.compile(rf"~?(\d{{1,9}}(?:[.,]\d{{1,6}})?) ?({'|'.join(_UNITS_S)})\b", re.ASCII | re.IGNORECASE)
_NUMBERS = {str(number): errno.errorcode[number] for number in (98, 99, 101, 104, 110, 111)}
_MESSAGES = {os.strerror(number).lower(): name for number, name in errno.errorcode.items()}
_PLAIN = {"and", "are", "for", "from", "has", "our", "some", "that", "the", "was", "with"}


@dataclass(frozen=True)
class Symptom:
    """One cause, as its user meets it.

    Attributes:
        name: of the cause; stable.
        seen: what is seen.
        clock: which clock it is.
        tell: what to run or look at, on the user's machines, and what it shows if this is the cause.
        remedy: what to set.
        shows: what to run in the lab, e.g. ``ipvs-half-dead`` or ``nat-rest --arm few-ports``; empty
            where no scenario has it.
        words: by which it is found, besides those of `seen`: errors, statuses, names.
        connect_s: how long a connect takes, least and most, in s; None: the time says nothing.
    """

    name: str
    seen: str
    clock: str
    tell: str
    remedy: str
    shows: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    connect_s: tuple[float, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            **{name: plain(text) if isinstance(text, str) else text for name, text in vars(self).items()},
            "shows": list(self.shows),
            "words": list(self.words),
            "connect_s": list(self.connect_s) if self.connect_s else None,
        }

    def meets(self, term: str | float) -> bool:
        """Tell whether a term of `terms` fits."""
        if isinstance(term, float):
            return self.connect_s is not None and self.connect_s[0] <= term <= self.connect_s[1]
        if term.isupper() or term.isdecimal():
            return term in self.words
        own = re.findall(r"[\w.-]+", f"{self.name} {self.seen} {self.clock} {' '.join(self.words)}".lower())
        return any(word.startswith(term.rstrip("s")) for word in own)


def terms(words: Iterable[str]) -> list[str | float]:
    """Return what `words` say: durations in s, names of errors, statuses, other words.

    An error may be given by name, number or message.
    """
    text = " ".join(words)
    found: list[str | float] = [
        float(number.replace(",", ".")) * _UNITS_S[unit.lower()] for number, unit in _DURATION.findall(text)
    ]
    text = _DURATION.sub(" ", text).lower()
    for message, name in _MESSAGES.items():
        if message in text:
            found.append(name)
            text = text.replace(message, " ")
    for word in (word.strip(".-") for word in re.findall(r"[\w.-]+", text)):
        upper = _NUMBERS.get(word, word.upper())
        if upper in _MESSAGES.values() or word.isdecimal():
            found.append(upper)
        elif len(word) > 2 and word not in _PLAIN:
            found.append(word)
    return list(dict.fromkeys(found))


def find(words: Sequence[str], rows: Sequence[Symptom]) -> list[Symptom]:
    """Return the rows that meet most of `words`, the likeliest first.

    Among equals the one whose duration is told more narrowly comes first, then the order of `rows`.
    Without words all rows are returned. Empty: no row meets any.
    """
    asked = terms(words)
    if not asked:
        return list(rows)
    met = {row.name: sum(map(row.meets, asked)) for row in rows}
    most = max(met.values())
    timed = any(isinstance(term, float) for term in asked)
    likeliest = [row for row in rows if met[row.name] == most > 0]
    return sorted(likeliest, key=lambda row: row.connect_s[1] / row.connect_s[0] if timed and row.connect_s else 1e9)


def plain(text: str) -> str:
    """Return `text` without Markdown, for a terminal."""
    return re.sub(r"\[(.+?)\]\((.+?)\)", r"\1 (docs/findings/\2)", text).replace("`", "")


def markdown(rows: Sequence[Symptom]) -> str:
    """Return the table of docs/findings/balancers.md."""
    lines = ["| what is seen | whose clock | what tells it apart | what to set | the command that shows it |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for row in rows:
        command = ", ".join(f"`twlab run {words}`" for words in row.shows) or "-"
        cells = (row.seen, row.clock, row.tell, row.remedy, command)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"
