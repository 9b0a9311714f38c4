"""What a class has said: as a distribution, as CSV, and for ``twlab grade``."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from twlab.observation import plain
from twlab.report.html import wording
from twlab.web import questions
from twlab.web.classes import Class, Student
from twlab.web.questions import Question

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute
_MOST_BARS = 12


def distribution(
    asks: Sequence[Question], students: Sequence[Student], observed: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return, for each question, how many said what; and which of it was observed."""
    found = []
    for question in asks:
        fact = question.fact
        said = [student.facts[fact] for student in students if student.facts and fact in student.facts]
        counts = Counter(wording.value(fact, value) for value in said)
        right = {wording.value(fact, value) for value in said if questions.compare({fact: value}, observed)[0].right}
        if counts:
            bars = [
                {"text": text, "count": count, "seen": text in right} for text, count in counts.most_common(_MOST_BARS)
            ]
            seen = wording.value(fact, observed[fact]) if fact in observed else ""
            found.append({"words": question.words, "bars": bars, "of": len(said), "seen": seen})
    return found


def table(asks: Sequence[Question], students: Sequence[Student], observed: Mapping[str, Any]) -> str:
    """Return each student's predictions beside what was observed, as CSV."""
    out = io.StringIO()
    lines = csv.writer(out)
    facts = [question.fact for question in asks]
    lines.writerow(["nickname", *facts, "right", "of"])
    if observed:
        lines.writerow(["(observed)", *(_cell(observed.get(fact, "")) for fact in facts), "", ""])
    for student in students:
        mine = student.facts or {}
        right = sum(row.right for row in questions.compare(mine, observed)) if observed else ""
        asked = sum(fact in observed for fact in facts) if observed else ""
        lines.writerow([_cell(student.nickname), *(_cell(mine.get(fact, "")) for fact in facts), right, asked])
    return out.getvalue()


def for_grader(found: Class, asks: Sequence[Question], students: Sequence[Student]) -> bytes:
    """Return an assignment and all submissions for ``twlab grade``, zipped."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assignment.toml", _assignment(found, asks))
        for number, student in enumerate(students, 1):
            archive.writestr(f"submissions/{number:03}.toml", _submission(f"{number:03}", student))
    return packed.getvalue()


def _assignment(found: Class, asks: Sequence[Question]) -> str:
    about, pairs = found.asked, [pair.split("=", 1) for pair in found.asked.sets]
    sets = ", ".join(f"{_toml(key)} = {_toml(_typed(value))}" for key, value in pairs)
    lines = ["schema = 1", f"title = {_toml(f'Class {found.code}: {about.scenario}')}", f"seed = {about.seed}"]
    for question in asks:
        lines += [
            "",
            "[[questions]]",
            f"id = {_toml(question.fact)}",
            'kind = "prediction"',
            "points = 1",
            f"text = {_toml(f'{about.scenario}, arm {found.arm}: {question.words}?')}",
            f"scenario = {_toml(about.scenario)}",
            f"arm = {_toml(found.arm)}",
            f"fact = {_toml(question.fact)}",
            *([f"tolerance = {questions.TOLERANCE}"] if question.kind == "number" else []),
            *([f"set = {{ {sets} }}"] if sets else []),
        ]
    return "\n".join(lines) + "\n"


def _submission(number: str, student: Student) -> str:
    head = ["schema = 1", f'id = "{number}"', f"name = {_toml(student.nickname)}", "", "[answers]"]
    answers = [f"{_toml(fact)} = {_toml(value)}" for fact, value in (student.facts or {}).items()]
    return "\n".join([*head, *answers, ""])


def _typed(text: str) -> Any:
    if text in ("on", "off"):
        return text == "on"
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def _toml(value: Any) -> str:
    """Return a TOML value; JSON's texts and numbers are TOML's, too."""
    return json.dumps(value, ensure_ascii=False)


def _cell(value: Any) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    text = plain(value)
    return f"'{text}" if text.startswith(_FORMULA) and not isinstance(value, int | float) else text
