"""Grading without a lab kernel: assignments, sheets, submissions of any kind, marks, and the
gradebook.
"""

from __future__ import annotations

import csv
import io
import json
import re
import time
import tomllib
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from classroom import ASSIGNMENT, answers, make
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from twlab.engines import pool
from twlab.errors import CapabilityError, EngineError, UsageError
from twlab.grading import driver, formula
from twlab.grading.assignment import Assignment, Question, load_assignment, pairs
from twlab.grading.grade import results
from twlab.grading.gradebook import Grade, Gradebook
from twlab.grading.jail import GONE
from twlab.grading.marks import Mark, agrees, mark, number_in
from twlab.grading.scenario_mark import mark_scenario
from twlab.grading.sheet import sheet
from twlab.grading.submission import MOST_ANSWERS, Submission, read_submissions
from twlab.grading.tasks import key, tasks_for
from twlab.grading.untrusted_text import claimed, in_spreadsheet, plainly

PAGE = (ROOT / "docs" / "guides" / "grading.md").read_text()
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
PREDICTION = Question("q", "prediction", 2.0, "", source="stale-data", role_arm="treatment", fact="reopened")
CHOICE = Question("q", "choice", 4.0, "", source="x", role_arm="bad", arms=("a", "b", "c", "d"), safe={"harm": 0})
SCENARIO = Question("q", "scenario", 4.0, "", uses={"time_wait_s": "{cut_s}"})
SHOWN = {
    "bad": {"observed": {"harm": 9}},
    **{arm: {"observed": {"harm": harm}} for arm, harm in zip("abcd", (0, 0, 5, 1), strict=True)},
}


@cache
def example() -> Assignment:
    return load_assignment(ASSIGNMENT)


def test_the_page_shows_the_example() -> None:
    """The assignment in docs/guides/grading.md is the one in docs/examples, and its answers are a
    student's.
    """
    shown = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert shown[0] == ASSIGNMENT.read_text()
    assert set(tomllib.loads(shown[1])["answers"]) == {question.id for question in example().questions}


def test_numbers_follow_from_seed_and_id() -> None:
    """The same id has the same numbers, however its letters are encoded; others have others;
    another seed gives others.
    """
    assignment, other = example(), load_assignment(ASSIGNMENT, seed=7)
    assert assignment.numbers_for("J\u00f6rg") == assignment.numbers_for("Jo\u0308rg")
    students = [f"student-{number}" for number in range(100)]
    assert len({str(assignment.numbers_for(student)) for student in students}) > 30
    assert sum(assignment.numbers_for(student) != other.numbers_for(student) for student in students) > 80
    assert all(
        assignment.numbers_for(student)[key] in values
        for student in students
        for key, values in assignment.parameters.items()
    )


@settings(deadline=None)  # the machine may be busy
@given(st.text(min_size=1, max_size=80))
def test_a_sheet_is_an_answers_file_without_answers(student: str) -> None:
    """For any name of a student the sheet is TOML, for him, and has every question."""
    assignment = example()
    values = tomllib.loads(sheet(assignment, student))
    assert values["answers"] == {question.id: "" for question in assignment.questions}
    assert values["id"] == student.replace("\x7f", "")


def test_a_sheet_has_the_students_numbers() -> None:
    """The questions in its comments are those that he has to answer."""
    assignment = example()
    text = " ".join(sheet(assignment, "ada").replace("\n#", "").split())
    numbers = assignment.numbers_for("ada")
    assert f"A segment is {numbers['delay_s']} s late, TIME_WAIT is {numbers['cut_s']} s" in text
    assert "{" not in text
    assert "from: timestamps, timestamp-lost, one-way" in text


GOOD = ASSIGNMENT.read_text()
MISTAKES = {
    "schema": ("schema = 1", "schema = 2", "reads schema = 1"),
    "seed": ("seed = 2026", 'seed = "x"', "no whole number"),
    "no questions": (GOOD[GOOD.index("[[questions]]") :], "", "asks nothing"),
    "kind": ('kind = "open"', 'kind = "essay"', "question surprise is of kind 'essay'"),
    "twins": ('id = "share"', 'id = "ceiling"', "has the id 'ceiling' of another"),
    "key": ("safe =", "sound =", "question remedies has sound, which means nothing"),
    "safe": ("safe = { foreign_bytes = 0 }", "safe = {}", "question remedies has a safe that names no fact"),
    "lacking": ('fact = "reopened"\n', "", "question reopened lacks fact"),
    "scenario": ('scenario = "stale-segment"', 'scenario = "stale-fish"', "no scenario called 'stale-fish'"),
    "arm": ('"timestamp-lost", "one-way"]', '"one-wax"]', "names the arm 'one-wax'"),
    "setting": ("set = { time_wait_s", "set = { time_weight_s", "there is no setting called"),
    "value": ("short_s = [0.5, 1, 5, 10]", "short_s = [0.5, -1]", "is not possible with {'short_s': -1}"),
    "uses": ("uses = { time_wait_s", "uses = { time_weight_s", "names a setting that does not exist"),
    "formula": ("(60999 - 32768 + 1) / cut_s", "cut_s.real", "Attribute cannot stand"),
    "unknown name": ("(60999 - 32768 + 1) / cut_s", "28232 / short", "short in its formula"),
    "points": ("points = 3", "points = -3", "points = -3"),
    "tolerance": ("tolerance = 0.01", "tolerance = 2", "tolerance = 2"),
    "parameters": ("cut_s = [5, 10, 15, 20]", "cut_s = 5", "no list of values for cut_s"),
}


@pytest.mark.parametrize(("before", "after", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_an_assignment_is_told(tmp_path: Path, before: str, after: str, message: str) -> None:
    """One message, naming the file and the question, before anything runs."""
    assert before in GOOD
    path = tmp_path / "assignment.toml"
    path.write_text(GOOD.replace(before, after, 1))
    with pytest.raises(UsageError) as caught:
        load_assignment(path)
    assert caught.value.slug == "broken-assignment"
    assert message in caught.value.message
    assert str(path) in caught.value.message


def test_an_editors_mark_of_utf_8_is_no_mistake(tmp_path: Path) -> None:
    """Some editors begin every file with it."""
    path = tmp_path / "assignment.toml"
    path.write_text(GOOD, encoding="utf-8-sig")
    assert load_assignment(path).questions == example().questions


def test_no_assignment(tmp_path: Path) -> None:
    """A file that is not there, and one that is no text."""
    with pytest.raises(UsageError) as caught:
        load_assignment(tmp_path / "none.toml")
    assert caught.value.slug == "no-assignment"
    (tmp_path / "binary.toml").write_bytes(b"\xff\x00")
    with pytest.raises(UsageError) as caught:
        load_assignment(tmp_path / "binary.toml")
    assert caught.value.slug == "broken-assignment"


@settings(deadline=None)  # the machine may be busy
@given(st.integers(-1000, 1000), st.floats(0.001, 1000), st.sampled_from(["+", "-", "*", "/", "//", "%"]))
def test_a_formula_is_arithmetic(one: int, other: float, sign: str) -> None:
    """It comes to what Python says."""
    known = {"a": one, "b": other}
    assert formula.value(f"(a {sign} b) * 2 - min(a, b)", known) == eval(f"float((a {sign} b) * 2 - min(a, b))", known)


NO_FORMULAS = [
    "",
    "a.b",
    "a[0]",
    "'x'",
    "lambda: 1",
    "[1]",
    "open(1)",
    "x",
    "1 / 0",
    "9 ** 9 ** 9",
    "a if a else a",
    "f'{a}'",
    "(" * 300,
    "1e999",
]


@pytest.mark.parametrize("text", [*NO_FORMULAS, "True", "a < 2", "not a", "min(*a)", "a := 1"])
def test_nothing_else_is_a_formula(text: str) -> None:
    """Neither attributes nor calls nor what never ends."""
    with pytest.raises(ValueError, match=r"."):
        formula.value(text, {"a": 1})


@settings(deadline=None)  # the machine may be busy
@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
def test_fractions_are_numbers(over: int, under: int) -> None:
    """As a number and as text they agree with what they are."""
    assert number_in(f"{over}/{under}") == pytest.approx(float(Fraction(over, under)))
    assert agrees(f"{over}/{under}", over / under, 1e-9)


@pytest.mark.parametrize(
    "answer",
    ["1e99999999", "1/0", "0x10", "nan", "inf", float("nan"), 10**400, True, [1], {"a": 1}, None, "", "1" * 50],
)
def test_what_is_no_number(answer: Any) -> None:
    """And takes no time to be told so."""
    assert number_in(answer) is None


@settings(deadline=None)  # the machine may be busy
@given(VALUES, st.sampled_from([True, 3, 0.5, "EADDRNOTAVAIL", ""]))
def test_any_answer_gets_a_mark(answer: Any, shown: Any) -> None:
    """For anything that TOML can say: a mark, printable, on one line."""
    submission = Submission("x", answers={"q": answer})
    given_mark = mark(PREDICTION, submission, {}, {"treatment": {"observed": {"reopened": shown}}})
    assert given_mark.points in (0.0, 2.0)
    assert given_mark.claimed.isprintable()
    assert len(given_mark.claimed) <= 200


@pytest.mark.parametrize(
    ("answer", "shown", "right"),
    [
        (True, True, True),
        ("yes", True, True),
        ("no", True, False),
        (1, True, False),
        (True, 1, False),
        (400, 400, True),
        ("400", 400, True),
        (" eaddrnotavail", "EADDRNOTAVAIL", True),
        ("none", "", True),
        ("Nothing", "", True),
        ("nothing", "none", False),
        (400.5, 400, False),
    ],
)
def test_predictions(answer: Any, shown: Any, right: bool) -> None:
    """Yes and no, numbers and texts, as people write them; a number is no yes."""
    assert agrees(answer, shown, 0.0) is right


@pytest.mark.parametrize(
    ("chosen", "points"),
    [
        (["a", "b"], 4.0),
        (["a"], 2.0),
        (["a", "b", "c"], 2.0),
        (["c", "d"], 0.0),
        ([], 0.0),
        (["a", "b", "x"], 3.0),
        ("a", 0.0),
    ],
)
def test_choices(chosen: Any, points: float) -> None:
    """Rightly chosen or left out counts one, anything else takes one away; all, or none, is no way
    to points.
    """
    got = mark(CHOICE, Submission("x", answers={"q": chosen}), {}, SHOWN)
    assert (got.points, got.shown) == (points, "" if chosen == "a" else "these help: a, b")


def test_a_question_that_cannot_be_checked_costs_nobody_points() -> None:
    """An arm that did not run, a fact that it does not show, a treatment without harm: no points
    are given, and none taken.
    """
    submission = Submission("x", answers={"q": ["a"]})
    no_arm, no_harm = {"bad": {"error": {"message": "no"}}}, {**SHOWN, "bad": {"observed": {"harm": 0}}}
    for outcomes in ({}, no_arm, no_harm, {**SHOWN, "bad": {"observed": {"harms": 9}}}):
        got = mark(CHOICE, submission, {}, outcomes)
        assert (got.points, got.unchecked) == (None, True)
    assert mark(PREDICTION, submission, {}, {"treatment": {"observed": {"other": 1}}}).unchecked


@pytest.mark.parametrize("where", ["guest", "worker"])
def test_a_fault_of_the_machine_costs_no_points(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Of its memory, of the process that drives the lab kernel: the scenario is graded again."""
    task = {"kind": "examination", "text": "x = 1", "seed": 1}
    if where == "guest":

        def no_memory(*_: Any) -> None:
            raise EngineError("the machine had no memory left for the guest", slug="guest-out-of-memory")

        monkeypatch.setattr(driver.Guest, "run", no_memory)
        found = driver.result_of(task)
    else:
        ended = EngineError("the worker process ended early", slug="worker-ended-early").as_dict()
        monkeypatch.setattr(pool, "answers", lambda *_: iter([(0, pool.Ended(ended))]))
        [(_, found)] = results([task], jobs=1)
    submission = Submission("x", answers={"q": "x.py"}, scenarios={"q": "..."})
    got = mark_scenario(SCENARIO, submission, {"cut_s": 5}, found["report"])
    assert (got.points, got.unchecked) == (None, True)
    assert got.remark.startswith("could not be checked: ")


def test_a_kernel_that_came_up_at_the_second_try_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what ends it once the scenario has begun costs the scenario's points."""
    tries = []

    def at_the_second(*arguments: Any) -> None:
        tries.append(arguments)
        if len(tries) == 2:
            arguments[3]({"event": "begin"})
        raise EngineError("the guest hung")

    monkeypatch.setattr(driver.Guest, "run", at_the_second)
    found = driver.result_of({"kind": "examination", "text": "x = 1", "seed": 1})["report"]
    assert len(tries) == 2 and (found["unchecked"], found["problem"]) == ("", GONE)


def report(**changes: Any) -> dict[str, Any]:
    """An examiner's report of a sound scenario, but for `changes`."""
    nodes = {"client": {"time_wait_s": 5.0}}
    evidence = {"differs": [], "segments": 9, "connections": 1, "time_wait": 1}
    names = ("control", "short", "long")
    ran = {
        name: {"problem": "", "ended": False, "observed": {"open": name != "control"}, "evidence": evidence}
        for name in names
    }
    arms = {"control": "control", "short": "treatment", "long": "remedy"}
    described = {
        name: {"role": role, "expect": {"open": role != "control"}, "given": {}, "nodes": nodes}
        for name, role in arms.items()
    }
    sound = {"problem": "", "described": {"arms": described}, "arms": ran, "placebo": {"short": ran["control"]}}
    for path, value in changes.items():
        *folders, last = path.split("__")
        place: Any = sound
        for folder in folders:
            place[folder] = dict(place[folder])
            place = place[folder]
        place[last] = value
    return sound


@pytest.mark.parametrize(
    ("changes", "points", "remark"),
    [
        ({}, 4.0, ""),
        ({"problem": "SyntaxError"}, 0.0, "does not load: SyntaxError"),
        ({"arms__control__observed": {"open": True}}, 1.0, "control: open: predicted no, observed yes"),
        ({"arms__control__evidence__segments": 0}, 1.0, "no TCP segment"),
        ({"arms__control__evidence__differs": ["client net.x"]}, 1.0, "not set as it says"),
        ({"arms": {}}, 1.0, "was not run"),
        ({"arms__short__problem": "it raised"}, 2.0, "short: it raised"),
        ({"placebo__short__observed": {"open": True}}, 2.0, "it does not look"),
        (
            {
                "placebo": {},
                "arms__short__observed": {"open": False},
                "described__arms__short__expect": {"open": False},
            },
            2.0,
            "do not differ",
        ),
        ({"arms__short__observed": {"open": False}}, 3.0, "short: open: predicted yes"),
        ({"arms__long__observed": {"open": False}}, 3.0, "long: open: predicted yes"),
        ({"described__arms__short__nodes": {"client": {"time_wait_s": 7.0}}}, 3.0, "no treatment has time_wait_s=5"),
    ],
)
def test_scenarios_are_marked_criterion_by_criterion(changes: dict[str, Any], points: float, remark: str) -> None:
    """Loads, control holds, can fail, supported: a quarter each, and why there is no more."""
    submission = Submission("x", answers={"q": "x.py"}, scenarios={"q": "..."})
    got = mark_scenario(SCENARIO, submission, {"cut_s": 5}, report(**changes))
    assert got.points == points
    assert remark in got.remark


@settings(deadline=None)  # the machine may be busy
@given(st.dictionaries(st.sampled_from(["problem", "described", "arms", "placebo"]), VALUES))
def test_no_report_breaks_the_marking(changes: dict[str, Any]) -> None:
    """It comes from a kernel that ran a stranger's code."""
    submission = Submission("x", answers={"q": "x.py"}, scenarios={"q": "..."})
    got = mark_scenario(SCENARIO, submission, {"cut_s": 5}, report(**changes))
    assert got.points is not None and 0 <= got.points <= 4
    assert got.remark.isprintable()


def test_a_class_of_forty_is_read(tmp_path: Path) -> None:
    """Every entry is a submission, in the order of ids, with any content; a fault in it costs
    itself only.
    """
    expected = make(tmp_path)
    found = read_submissions(tmp_path, ["mine"])
    assert len(found) == len(expected) == 40
    assert [submission.id for submission in found] == sorted(submission.id for submission in found)
    problems = {submission.id: submission.problem for submission in found if submission.problem}
    assert set(problems) == {
        "empty",
        "binary",
        "giant",
        "deep",
        "dotted",
        "impostor",
        "no-answers",
        "hollow",
        "pipe",
        "link",
    }
    assert "symbolic link" in problems["link"]
    assert "no plain file" in problems["pipe"]
    refused = {submission.id: submission.refused["mine"] for submission in found if submission.refused}
    assert set(refused) == {"climber", "rooted", "thief", "linker", "numbers", "turned"}


@pytest.mark.parametrize("key", ["a", "'a'", '" "', "a "])
def test_no_answers_file_takes_long_to_read(tmp_path: Path, key: str) -> None:
    """However its keys are nested: Python's own reader takes minutes for a megabyte of them."""
    text = f"{key}." * (MOST_ANSWERS // (len(key) + 1) - 10) + "a = 1\n"
    (tmp_path / "ada.toml").write_text(text)
    began_s = time.process_time()
    assert read_submissions(tmp_path, [])[0].problem
    assert time.process_time() - began_s < 5


def test_places(tmp_path: Path) -> None:
    """A file, a folder, and a class; beside others' files a scenario has its student's name."""
    assignment = example()
    (tmp_path / "ada.toml").write_text(answers(assignment, "ada", mine='"ada.py"'))
    (tmp_path / "ada.py").write_text("a")
    (tmp_path / "bob.toml").write_text(answers(assignment, "bob", mine='"ada.py"'))
    (tmp_path / "cyd").mkdir()
    (tmp_path / "cyd" / "answers.toml").write_text(answers(assignment, "cyd"))
    (tmp_path / "cyd" / "mine.py").write_text("c")
    (tmp_path / "notes.txt").write_text("n")
    (tmp_path / ".hidden").mkdir()
    found = {submission.id: submission for submission in read_submissions(tmp_path, ["mine"])}
    assert {name: submission.scenarios for name, submission in found.items()} == {
        "ada": {"mine": "a"},
        "bob": {},
        "cyd": {"mine": "c"},
    }
    assert "need not be" in found["bob"].refused["mine"]
    for alone in (tmp_path / "cyd", tmp_path / "cyd" / "answers.toml"):
        assert read_submissions(alone, ["mine"]) == [found["cyd"]]
    assert read_submissions(tmp_path / "ada.toml", ["mine"]) == [found["ada"]]
    (tmp_path / "ada").mkdir()
    assert "handed in twice" in read_submissions(tmp_path, [])[0].problem


@pytest.mark.parametrize("place", ["none", "empty"])
def test_no_submissions(tmp_path: Path, place: str) -> None:
    """Nothing there, or nothing in it."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError) as caught:
        read_submissions(tmp_path / place, [])
    assert caught.value.slug == "no-submissions"


@settings(deadline=None)  # the machine may be busy
@given(data=st.binary(max_size=300) | st.text().map(str.encode))
def test_any_bytes_are_a_submission(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Perhaps a broken one."""
    place = tmp_path_factory.getbasetemp() / "any.toml"
    place.write_bytes(data)
    (submission,) = read_submissions(place, ["mine"])
    assert submission.id == "any"
    assert submission.problem.isprintable()


def test_students_with_the_same_numbers_share_what_is_run() -> None:
    """And a submission that cannot be read has nothing run."""
    assignment = example()
    names = [f"student-{number}" for number in range(100)]
    tasks = [tasks_for(assignment, Submission(name)) for name in names]
    assert set(tasks[0]) == {"reopened", "share", "remedies"}
    assert len({key(task) for needed in tasks for task in needed.values()}) == 4 + 16 + 1
    assert tasks_for(assignment, Submission("x", problem="is empty")) == {}
    assert pairs({"a": "{cut_s}", "b": True, "c": "x{cut_s}"}, {"cut_s": 5}) == ["a=5", "b=on", "c=x5"]


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=400))
def test_what_strangers_wrote_is_shown_plainly(text: str) -> None:
    """One line, printable, not too long, and no formula to a spreadsheet."""
    shown = plainly(text)
    assert shown == "" or (shown.isprintable() and len(shown) <= 160)
    assert plainly(shown) == shown
    assert in_spreadsheet(shown)[:1] not in ("=", "@")


def test_claims() -> None:
    """Numbers that would fill a page are not spelled out, addresses in memory are not told."""
    assert claimed(10**400) == "a number of more than 30 digits"
    assert plainly("<object at 0x7f0012345678>") == "<object at 0x...>"
    assert in_spreadsheet("-5") == "-5"
    assert in_spreadsheet("-5+cmd") == "'-5+cmd"


def test_a_worker_that_dies_costs_its_own_task(capfd: pytest.CaptureFixture[str]) -> None:
    """The others are done by another one."""
    tasks = [{"kind": "broken", "number": number} for number in range(3)]
    found = dict(results(tasks, jobs=2))
    assert set(found) == {key(task) for task in tasks}
    assert all("ended early" in result["report"]["unchecked"] for result in found.values())
    capfd.readouterr()


def book(*names: str) -> Gradebook:
    """Grades of one question."""
    made = Gradebook("a title", {"seed": 1})
    for name in names:
        marks = [Mark("q", "open", None, 2.0, "@x"), Mark("r", "number", 1.5, 3.0)]
        made.grades[name] = Grade(name, "=1+1", f"digest of {name}", {"cut_s": 5}, marks)
    return made


def test_the_gradebook_is_read_back(tmp_path: Path) -> None:
    """What was graded on the same basis is taken over; another submission, another basis, and what
    could not be checked, are not.
    """
    path = tmp_path / "deep" / "grades.json"
    first = book("ada", "bob", "cyd")
    first.grades["cyd"].marks.append(Mark("s", "number", None, 1.0, unchecked=True))
    first.write(path)
    again = book()
    again.resume(path, [("ada", "digest of ada"), ("bob", "another"), ("cyd", "digest of cyd")])
    assert set(again.grades) == {"ada"}
    assert again.grades["ada"].as_dict() == first.grades["ada"].as_dict()
    other = Gradebook("a title", {"seed": 2})
    other.resume(path, [("ada", "digest of ada")])
    assert other.grades == {}
    rows = list(csv.DictReader(io.StringIO(path.with_suffix(".csv").read_text())))
    assert [(row["id"], row["question"], row["points"]) for row in rows[:3]] == [
        ("ada", "q", ""),
        ("ada", "r", "1.5"),
        ("ada", "total", "1.5"),
    ]
    assert rows[0]["name"] == "'=1+1"
    assert rows[0]["claimed"] == "'@x"


def test_a_table_of_the_teachers_own_is_left_alone(tmp_path: Path) -> None:
    """A CSV without grades in JSON beside it is not twlab's; with them it is."""
    path = tmp_path / "roster.csv"
    path.write_text("name,mail\n")
    with pytest.raises(UsageError) as caught:
        book().resume(path.with_suffix(".json"), [])
    assert caught.value.slug == "broken-grades" and path.read_text() == "name,mail\n"
    path.unlink()
    book("ada").write(path.with_suffix(".json"))
    book().resume(path.with_suffix(".json"), [])


def test_one_student_is_graded_into_the_gradebook_of_all(tmp_path: Path) -> None:
    """The others stay in the files, and are not among those who are graded."""
    path = tmp_path / "grades.json"
    first = book("ada", "bob", "cyd")
    first.write(path)
    again = book()
    again.resume(path, [("bob", "another")])
    assert again.grades == {}
    again.grades |= book("bob").grades
    again.write(path)
    assert [student["id"] for student in json.loads(path.read_text())["students"]] == ["ada", "bob", "cyd"]
    assert [student["id"] for student in json.loads(again.json())["students"]] == ["bob"]
    assert path.read_text() == first.json() and path.with_suffix(".csv").read_text() == first.csv()
    other = Gradebook("a title", {"seed": 2})
    other.resume(path, [])
    assert other.others == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1, "basis": {"seed": 1}, "students": [3]}'])
def test_a_file_that_holds_no_grades_is_left_alone(tmp_path: Path, text: str) -> None:
    """The teacher named the wrong one, perhaps."""
    path = tmp_path / "grades.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        book().resume(path, [("ada", "x")])
    assert caught.value.slug == "broken-grades"
    assert path.read_text() == text


def test_no_place_for_grades(tmp_path: Path) -> None:
    """One message."""
    (tmp_path / "file").touch()
    with pytest.raises(CapabilityError) as caught:
        book("ada").write(tmp_path / "file" / "grades.json")
    assert caught.value.slug == "cannot-write"


@pytest.mark.parametrize("names", [(), ("ada",), ("ada", "\x85\u2028\n", "Jörg"), ("\v\f\x1c", '"students": []\n}')])
def test_grades_are_json(names: tuple[str, ...]) -> None:
    """Whole, as it is usually written, although it is put together from the grades' own."""
    made = book(*names)
    text = made.json()
    assert text == json.dumps(json.loads(text), indent=1) + "\n"
    assert json.loads(text)["students"] == [grade.as_dict() for grade in made.in_order()]
    assert len(list(csv.DictReader(io.StringIO(made.csv())))) == 3 * len(names)


def test_grades_name_what_they_rest_on() -> None:
    """And have totals."""
    values = json.loads(book("ada").json())
    assert (values["schema"], values["basis"]) == (1, {"seed": 1})
    assert [values["students"][0][key] for key in ("points", "of", "by_hand")] == [1.5, 3.0, 2.0]
