"""The grades of a class, as JSON and CSV.

They are written while they are made, so that an interruption loses none. Each grade is put into
words once: a class of a thousand is written a thousand times."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from textwrap import indent
from typing import Any

from twlab.errors import UsageError
from twlab.grading.marks import Mark
from twlab.grading.untrusted_text import in_spreadsheet, plainly
from twlab.results import files

SCHEMA = 1
_COLUMNS = ("id", "name", "question", "kind", "points", "of", "claimed", "shown", "remark")


@dataclass
class Grade:
    """The grade of one student.

    Attributes:
        digest: of the submission, so that a changed one is graded anew.
        numbers: the student's values of the parameters.
        marks: one for each question, in the assignment's order.
        reasons: what the student wrote to a question, for a person to read.
    """

    id: str
    name: str
    digest: str
    numbers: dict[str, Any]
    marks: list[Mark]
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def points(self) -> float:
        """The points given."""
        return round(sum(mark.points or 0.0 for mark in self.marks), 2)

    @property
    def of(self) -> float:
        """The points that twlab could have given."""
        return round(sum(mark.of for mark in self.marks if mark.points is not None), 2)

    @property
    def by_hand(self) -> float:
        """The points of open questions."""
        return round(sum(mark.of for mark in self.marks if mark.kind == "open"), 2)

    @property
    def unchecked(self) -> list[str]:
        """The questions that could not be checked, through no fault of the student's."""
        return [mark.question for mark in self.marks if mark.unchecked]

    def as_dict(self) -> dict[str, Any]:
        totals = {"points": self.points, "of": self.of, "by_hand": self.by_hand}
        return {"id": self.id, "name": plainly(self.name), "digest": self.digest, **totals, "numbers": self.numbers,
                "marks": [asdict(mark) for mark in self.marks], "reasons": self.reasons}  # fmt: skip

    @cached_property
    def in_json(self) -> str:
        """The grade, which is complete, as it stands in the gradebook's JSON."""
        return indent(json.dumps(self.as_dict(), indent=1), "  ")

    @cached_property
    def in_csv(self) -> str:
        """A line for each question of the grade, which is complete, and one for the total."""
        who = {"id": self.id, "name": plainly(self.name)}
        by_hand = f"{self.by_hand:g} by hand" if self.by_hand else ""
        total = Mark("total", "", self.points, self.of, remark=by_hand)
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        for mark in (*self.marks, total):
            row = {**who, **{key: value for key, value in asdict(mark).items() if key in _COLUMNS}}
            writer.writerow(
                {key: in_spreadsheet(value) if isinstance(value, str) else value for key, value in row.items()}
            )
        return text.getvalue()


@dataclass
class Gradebook:
    """The grades of one assignment.

    Attributes:
        title: the assignment's.
        basis: what, beside a submission, a grade depends on: digest of the assignment, seed, twlab,
            lab kernel.
        others: grades in the file of students who are not graded now; written with the rest.
    """

    title: str
    basis: dict[str, Any]
    grades: dict[str, Grade] = field(default_factory=dict)
    others: dict[str, Grade] = field(default_factory=dict)

    def in_order(self) -> list[Grade]:
        """Return the grades, by id."""
        return [self.grades[name] for name in sorted(self.grades)]

    def json(self) -> str:
        about = {"schema": SCHEMA, "title": self.title, "basis": self.basis, "students": []}
        students = ",\n".join(grade.in_json for grade in self.in_order())
        listed = f"[\n{students}\n ]" if students else "[]"
        return json.dumps(about, indent=1).removesuffix("[]\n}") + listed + "\n}\n"

    def csv(self) -> str:
        """Return a line for each student and question, and one for each total."""
        return ",".join(_COLUMNS) + "\n" + "".join(grade.in_csv for grade in self.in_order())

    def write(self, path: Path) -> None:
        """Write `path` (JSON) and the same as CSV beside it, each whole or not at all.

        Raises:
            CapabilityError: they cannot be written (``cannot-write``).
        """
        whole = Gradebook(self.title, self.basis, self.others | self.grades)
        # The last is in its place first: a CSV without JSON beside it is not ours.
        files.write_all({path.with_suffix(".csv"): whole.csv(), path: whole.json()})

    def resume(self, path: Path, wanted: Sequence[tuple[str, str]]) -> None:
        """Take over the grades in `path` that have the same basis.

        Args:
            wanted: ids with digests of the submissions; grades of any other id are `others`.

        Raises:
            UsageError: the file, or the CSV that would be written beside it, is there and holds no
                grades (``broken-grades``).
        """
        asked = dict(wanted)
        beside = path.with_suffix(".csv")
        if beside.exists() and not path.exists():
            message = f"{beside} is there, and no {path.name} beside it: twlab has not written it"
            raise UsageError(message, "name another file with --out", "broken-grades")
        try:
            values = json.loads(path.read_text())
            same = values["schema"] == SCHEMA and values["basis"] == self.basis
            kept = [_grade(entry) for entry in values["students"] if same]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"{path} holds no grades: {error}", "name another file with --out", "broken-grades"
            ) from error
        self.others |= {grade.id: grade for grade in kept if grade.id not in asked}
        self.grades |= {
            grade.id: grade for grade in kept if asked.get(grade.id) == grade.digest and not grade.unchecked
        }


def _grade(entry: dict[str, Any]) -> Grade:
    """Return the grade in a file; raises KeyError, TypeError, ValueError if `entry` holds none."""
    marks = [Mark(**mark) for mark in entry["marks"]]
    texts = [
        entry["name"],
        *(text for mark in marks for text in (mark.question, mark.kind, mark.claimed, mark.shown, mark.remark)),
    ]
    points = [number for mark in marks for number in (mark.points, mark.of) if number is not None]
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(one, int | float) for one in points):
        raise ValueError(f"the marks of {entry['id']} are damaged")
    reasons = {str(question): str(reason) for question, reason in entry["reasons"].items()}
    return Grade(entry["id"], entry["name"], entry["digest"], dict(entry["numbers"]), marks, reasons)
