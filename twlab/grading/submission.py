"""Reads what a student hands in, without trust.

It reads plain files of a bounded size in the student's own folder, and runs nothing. Reading never
fails: `problem` says what is wrong with a submission, and that costs its own grade only."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import tomllib
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twlab.errors import UsageError
from twlab.grading.assignment import SCHEMA

ANSWERS = "answers.toml"
MOST_ANSWERS, MOST_SCENARIO = 32 << 10, 256 << 10  # bytes
_SCENARIO = re.compile(r"[^/\0.][^/\0]{0,99}\.py")
# The time that Python takes for a key such as a.a.a... grows with the square of its length.
_DEEP_KEY = re.compile(rb"""(?:[A-Za-z0-9_"'-]++[ \t]*+\.[ \t]*+){40}""")
_LONGEST = 2000  # characters of a reason


class _RefusedError(Exception):
    """A file is not read, and why."""


@dataclass
class Submission:
    """One student's.

    Attributes:
        id: the name of the entry in the class's folder.
        name: what he says he is called; for people to read, and for nothing else.
        answers, reasons: question to what he wrote, as TOML gives it.
        scenarios: question to the text of his scenario file.
        refused: question to why there is no such file.
        problem: why nothing of it counts; empty when it can be graded.
        digest: of all that was read.
    """

    id: str
    name: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    scenarios: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    digest: str = ""


def read_submissions(path: Path, scenario_questions: list[str]) -> list[Submission]:
    """Read one submission, or one for each entry of a folder; sorted by id.

    Args:
        path: an answers file, a folder with one, or a folder of submissions.
        scenario_questions: the questions whose answer names a scenario file.

    Raises:
        UsageError: there is nothing there that could be a submission (``no-submissions``).
    """
    try:
        if not path.is_dir():
            folder, entry = path.absolute().parent, path.name
            alone = (
                [_read(folder, entry, folder.name if entry == ANSWERS else "", scenario_questions)]
                if os.path.lexists(path)
                else []
            )
        elif os.path.lexists(path / ANSWERS):
            alone = [_read(path, ANSWERS, path.absolute().name, scenario_questions)]
        else:
            alone = [
                _read(path, entry, "", scenario_questions)
                for entry in sorted(os.listdir(path))
                if _is_submission(path, entry)
            ]
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", "name a submission or a folder of them", "no-submissions"
        ) from error
    if not alone:
        raise UsageError(
            f"there is no submission at {path}",
            "an answers file ID.toml, or a folder of them; see docs/guides/grading.md",
            "no-submissions",
        )
    return sorted(_without_twins(alone), key=lambda submission: submission.id)


def _is_submission(folder: Path, entry: str) -> bool:
    if entry.startswith((".", "__")):
        return False
    mode = os.lstat(folder / entry).st_mode
    return entry.endswith(".toml") or stat.S_ISDIR(mode) or (stat.S_ISLNK(mode) and not entry.endswith(".py"))


def _without_twins(found: list[Submission]) -> list[Submission]:
    kept: dict[str, Submission] = {}
    for submission in found:
        if submission.id in kept:
            submission = Submission(
                submission.id, problem="was handed in twice, as a file and as a folder, or in two spellings"
            )
        kept[submission.id] = submission
    return list(kept.values())


def _read(folder: Path, entry: str, student: str, scenario_questions: list[str]) -> Submission:
    readable = os.fsencode(student or entry.removesuffix(".toml")).decode(errors="replace")
    submission = Submission(unicodedata.normalize("NFC", "".join(c if c.isprintable() else "\ufffd" for c in readable)))
    content = hashlib.sha256(b"submission")
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            own = student != ""
            if stat.S_ISDIR(os.lstat(entry, dir_fd=place).st_mode):
                inner = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
                os.close(place)
                place, entry, own = inner, ANSWERS, True
            data = _file(place, entry, MOST_ANSWERS)
            content.update(data)
            _take(submission, data)
            for question in scenario_questions:
                if submission.answers.get(question) not in (None, ""):
                    content.update(
                        _take_scenario(submission, place, question, None if own else entry.removesuffix(".toml"))
                    )
        finally:
            os.close(place)
    except _RefusedError as refused:
        submission.problem = str(refused)
    except OSError as error:
        submission.problem = f"cannot be read: {error.strerror}"
    content.update(submission.problem.encode())
    submission.digest = content.hexdigest()
    return submission


def _take(submission: Submission, data: bytes) -> None:
    if _DEEP_KEY.search(data):
        raise _RefusedError("has keys within keys within keys")
    try:
        values = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _RefusedError(f"is no TOML ({_short(error)})") from None
    if values.get("schema") != SCHEMA:
        raise _RefusedError(f"does not say schema = {SCHEMA}")
    claimed = values.get("id")
    if not isinstance(claimed, str) or unicodedata.normalize("NFC", claimed) != submission.id:
        raise _RefusedError("bears another student's id, or none")
    answers, reasons, name = values.get("answers"), values.get("reasons", {}), values.get("name", "")
    if not isinstance(answers, dict) or not isinstance(reasons, dict):
        raise _RefusedError("has no [answers]")
    submission.answers = answers
    submission.reasons = {key: value[:_LONGEST] for key, value in reasons.items() if isinstance(value, str)}
    submission.name = name[:200] if isinstance(name, str) else ""


def _take_scenario(submission: Submission, place: int, question: str, stem: str | None) -> bytes:
    """Read the file that the answer names.

    In the student's own folder any name is allowed; beside other students' files only the student's
    id.
    """
    answer = submission.answers[question]
    try:
        if not isinstance(answer, str) or not _SCENARIO.fullmatch(answer):
            raise _RefusedError("is not the name of a Python file beside the answers")
        if stem is not None and answer != f"{stem}.py":
            raise _RefusedError("is not named as the answers are, and so need not be this student's")
        data = _file(place, answer, MOST_SCENARIO)
        submission.scenarios[question] = data.decode("utf-8-sig")
        return data
    except UnicodeDecodeError:
        submission.refused[question] = "is no text in UTF-8"
    except _RefusedError as refused:
        submission.refused[question] = str(refused)
    except OSError as error:
        submission.refused[question] = f"cannot be read: {error.strerror}"
    return submission.refused[question].encode()


def _file(folder: int, name: str, most: int) -> bytes:
    """A plain file of at most `most` bytes, and not by way of a link."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _RefusedError("is a symbolic link, and links are not followed") from None
        if error.errno == errno.ENOENT:
            raise _RefusedError(f"has no {ANSWERS}" if name == ANSWERS else "is not there") from None
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _RefusedError("is no plain file")
        if status.st_size > most:
            raise _RefusedError(f"has more than {most >> 10} kB")
        data = b""
        while len(data) <= most and (part := os.read(fd, most + 1 - len(data))):
            data += part
        if len(data) > most:
            raise _RefusedError(f"has more than {most >> 10} kB")
        return data
    finally:
        os.close(fd)


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}" if isinstance(error, RecursionError) else str(error)[:100]
