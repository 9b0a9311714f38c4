"""A student's sheet: an answers file without answers.

The questions and the student's numbers stand in its comments."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from twlab.grading.assignment import SCHEMA, Assignment, Question, filled

_WIDTH = 100
_HOW = {
    "prediction": "true or false, a number, or a text",
    "number": "a number",
    "choice": "a list of names",
    "scenario": 'the name of your file, e.g. "mine.py"',
    "open": "a text",
}


def sheet(assignment: Assignment, student: str) -> str:
    """Return the file as text: valid TOML and valid answers, none of them given."""
    return "\n".join(_lines(assignment, student)) + "\n"


def _lines(assignment: Assignment, student: str) -> Iterator[str]:
    numbers = assignment.numbers_for(student)
    yield from _comment(assignment.title)
    yield from _comment(
        f'This sheet is for {student}: its numbers are drawn for that name. Write an answer in the place of each "".'
    )
    yield from ("", f"schema = {SCHEMA}", f"id = {_quoted(student)}", 'name = ""', "", "[answers]")
    for question in assignment.questions:
        points = f"{question.points:g} point{'' if question.points == 1 else 's'}"
        yield ""
        yield from _comment(filled(" ".join(question.text.split()), numbers))
        yield from _comment(f"{points}; {_HOW[question.kind]}{_choices(question)}")
        yield f'{question.id} = ""'
    yield from ("", "[reasons]", "# Why, question by question, if you like: the same names, a text for each.")


def _choices(question: Question) -> str:
    return f" from: {', '.join(question.arms)}" if question.arms else ""


def _comment(text: str) -> Iterator[str]:
    printable = "".join(character if character.isprintable() else " " for character in text)
    yield from (f"# {line}" for line in textwrap.wrap(printable, _WIDTH, break_long_words=False))


def _quoted(text: str) -> str:
    return json.dumps(text.replace("\x7f", ""), ensure_ascii=False)
