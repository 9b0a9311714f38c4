"""Classes in the store: a teacher, a question, students with their predictions."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twlab import loop
from twlab.errors import UsageError
from twlab.web.store import Asked, Store

LETTERS = "BCDFGHJKLMNPQRSTVWXYZ23456789"  # none that look alike, and no vowels: no words
CODE = 5  # letters
STAGES = ("predict", "run")  # students predict; the run is shown to all, with the distribution
LONGEST_NICKNAME = 24
MOST_STUDENTS = 400
_KEPT_S = 120 * 86_400


@dataclass(frozen=True)
class Class:
    """One class.

    Attributes:
        code: by which students join it.
        teacher: the visitor who opened it.
        asked, key: the run that is predicted, and shown.
        arm: what the predictions are about.
        stage: one of `STAGES`.
    """

    code: str
    teacher: str
    asked: Asked
    key: str
    arm: str
    stage: str


@dataclass(frozen=True)
class Student:
    """A student of a class: a nickname, and the facts predicted; None: not yet."""

    student: str
    nickname: str
    facts: dict[str, Any] | None


class Classes:
    """The classes in a store."""

    def __init__(self, store: Store):
        self._db = store.db
        old = "select code from classes where made < ?"
        self._db.execute(f"delete from students where code in ({old})", (loop.wall_s() - _KEPT_S,))
        self._db.execute("delete from classes where made < ?", (loop.wall_s() - _KEPT_S,))

    def open(self, teacher: str, asked: Asked, key: str, arm: str) -> Class:
        """Make a class, with a code of its own."""
        while True:
            code = "".join(secrets.choice(LETTERS) for _ in range(CODE))
            try:
                values = (code, teacher, asked.as_text(), key, arm, STAGES[0], loop.wall_s())
                self._db.execute("insert into classes values (?, ?, ?, ?, ?, ?, ?)", values)
            except sqlite3.IntegrityError:
                continue
            return Class(code, teacher, asked, key, arm, STAGES[0])

    def find(self, code: str) -> Class:
        """Return the class of that code.

        Raises:
            UsageError: there is no such class (``no-such-class``).
        """
        row = self._db.execute(
            "select code, teacher, asked, key, arm, stage from classes where code = ?", (code[: 2 * CODE].upper(),)
        ).fetchone()
        if not row:
            raise UsageError("there is no class of that code", "ask your teacher for the code", "no-such-class")
        return Class(row[0], row[1], Asked.from_text(row[2]), *row[3:])

    def of_teacher(self, teacher: str) -> list[tuple[str, str]]:
        """Return the codes of a teacher's classes and their scenarios, the newest first."""
        rows = self._db.execute(
            "select code, asked from classes where teacher = ? order by made desc limit 20", (teacher,)
        )
        return [(code, Asked.from_text(asked).scenario) for code, asked in rows]

    def show(self, code: str, key: str) -> None:
        """Close the predictions, and show the run of that key to all."""
        self._db.execute("update classes set stage = ?, key = ? where code = ?", (STAGES[1], key, code))

    def join(self, code: str, student: str, nickname: str) -> None:
        """Enter a student under a nickname; one who is in the class stays as he is.

        Raises:
            UsageError: no nickname, one that is taken (``bad-name``), or the class is full
                (``class-full``).
        """
        if self.student(code, student):
            return
        plain = " ".join("".join(letter for letter in nickname if letter.isprintable()).split())
        if not 1 <= len(plain) <= LONGEST_NICKNAME:
            message = f"a nickname has 1 to {LONGEST_NICKNAME} characters"
            raise UsageError(message, "choose one, but not your full name", "bad-name")
        [count] = self._db.execute("select count(*) from students where code = ?", (code,)).fetchone()
        if count >= MOST_STUDENTS:
            raise UsageError(f"the class has {count} students", "a teacher may open another", "class-full")
        try:
            values = (code, student, plain, None, loop.wall_s())
            self._db.execute("insert into students values (?, ?, ?, ?, ?)", values)
        except sqlite3.IntegrityError:
            raise UsageError(f"{plain!r} is taken", "choose another nickname", "bad-name") from None

    def predict(self, code: str, student: str, facts: Mapping[str, Any]) -> None:
        """Keep a student's prediction. The first one stands, and none comes after the run."""
        self._db.execute(
            "update students set facts = ? where code = ? and student = ? and facts is null "
            "and (select stage from classes where code = ?) = ?",
            (json.dumps(facts), code, student, code, STAGES[0]),
        )

    def student(self, code: str, student: str) -> Student | None:
        """Return the student, if the visitor is one of this class."""
        row = self._db.execute(
            "select student, nickname, facts from students where code = ? and student = ?", (code, student)
        ).fetchone()
        return _student(row) if row else None

    def students(self, code: str) -> list[Student]:
        """Return all students, in the order in which they joined."""
        rows = self._db.execute(
            "select student, nickname, facts from students where code = ? order by made, nickname", (code,)
        )
        return [_student(row) for row in rows]


def _student(row: tuple[str, str, str | None]) -> Student:
    return Student(row[0], row[1], json.loads(row[2]) if row[2] is not None else None)
