"""A class: joined with a code, predicted, shown to all; sheets for its teacher alone."""

import csv
import io
import tomllib
import zipfile

import pytest
from visiting import Visitor, finish, first_told, make_site, streamed, summary

from twlab.grading.assignment import load_assignment
from twlab.grading.submission import read_submissions


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path)


def open_class(application, **fields):
    teacher = Visitor(application)
    answer = teacher.post("/class/open", page="/class", scenario="stale-data", arm="treatment", control="on", **fields)
    return teacher, answer.headers["location"]


def join(application, room, nickname):
    student = Visitor(application)
    answer = student.post("/class/join", page="/class", code=room[-5:].lower(), nickname=nickname)
    return student, answer


def test_a_class_from_its_opening_to_its_sheets(site, tmp_path):
    """Students predict, the first prediction stands; the run is shown with what all said."""
    store, application = site[0].store, site[1]
    teacher, room = open_class(application)
    names = ["ada", "=cmd|' /C calc'!A0", "bob <b>"]
    students = [join(application, room, name)[0] for name in names]
    assert "3</strong> joined" in teacher.get(room).text
    for number, student in enumerate(students[:2]):
        page = student.get(room).text
        assert 'class="predict"' in page and "What the class said" not in page and "sheet.csv" not in page
        said = {"fact.reopened": "yes", "fact.foreign_bytes": str(400 * number)}
        student.post(f"{room}/predict", page=room, **said)
        student.post(f"{room}/predict", page="/class", **{"fact.reopened": "no"})
    assert "Your prediction is kept" in students[0].get(room).text
    assert teacher.post(f"{room}/show", page=room).status_code == 303
    assert site[0].runs.waiting == 1
    page = students[0].get(room).text
    assert "What the class said" in page and "2 of 2" in page and "data-follow" in page and "observed:" not in page
    students[2].post(f"{room}/predict", page="/class", **{"fact.reopened": "yes"})  # too late
    [key] = [run.key for run in site[0].runs._queue]
    store.keep(key, summary(), "<p>the run</p>", {})
    page = students[1].get(room).text
    assert "<p>the run</p>" in page and "observed: yes" in page and "bob &lt;b&gt;" not in page
    rows = list(csv.reader(io.StringIO(teacher.get(f"{room}/sheet.csv").text)))
    assert rows[0][:2] == ["nickname", "reopened"] and rows[1][0] == "(observed)"
    by_name = {row[0]: row for row in rows[2:]}
    assert by_name["ada"][-2:] == ["1", "3"] and by_name["'=cmd|' /C calc'!A0"][-2:] == ["2", "3"]
    assert by_name["bob <b>"][-2:] == ["0", "3"]
    with zipfile.ZipFile(io.BytesIO(teacher.get(f"{room}/grade.zip").content)) as archive:
        archive.extractall(tmp_path / "graded")
    made = load_assignment(tmp_path / "graded" / "assignment.toml")
    assert [question.id for question in made.questions][:2] == ["reopened", "refused_by"]
    handed_in = read_submissions(tmp_path / "graded" / "submissions", [])
    assert [one.answers for one in handed_in][1] == {"reopened": True, "foreign_bytes": 400}
    tomllib.loads((tmp_path / "graded" / "submissions" / "002.toml").read_text())


def test_each_in_class_sees_the_verdict_beside_what_he_said_there(site):
    """As it comes, as on the page afterwards; no one before it is shown, and none from outside."""
    application = site[1]
    teacher, room = open_class(application)
    student, stranger = join(application, room, "ada")[0], Visitor(application)
    student.post(f"{room}/predict", page=room, **{"fact.foreign_bytes": "400"})
    assert student.get(f"{room}/run/events").status_code == 400
    teacher.post(f"{room}/show", page=room)
    assert f'data-follow="{room}/run/events"' in student.get(room).text
    finish(site[0], site[0].runs._queue[0].key)
    for visitor, right in ((student, 1), (teacher, 0)):
        markup = streamed(visitor, f"{room}/run/events")
        assert visitor.get(room).text.count(markup) == 1 and markup.count('class="right"') == right
        assert ("You said" in markup) == bool(right)
    assert stranger.get(f"{room}/run/events").status_code == 400


def test_who_missed_the_moment_of_the_run_is_told_at_once(site):
    """A phone that was locked, or loaded its page just before: the stage comes first on each stream."""
    application = site[1]
    teacher, room = open_class(application)
    student, _ = join(application, room, "ada")
    assert first_told(student, f"{room}/events") == {"stage": "predict"}
    teacher.post(f"{room}/show", page=room)
    assert first_told(student, f"{room}/events") == {"stage": "run"}


def test_an_open_class_outlives_another_lab_kernel(site):
    """And another version of twlab: the run that is shown is the one that is made."""
    teacher, room = open_class(site[1])
    site[0].kernel = "another"
    teacher.post(f"{room}/show", page=room)
    finish(site[0], site[0].runs._queue[0].key)
    assert 'class="outcome"' in teacher.get(room).text
    assert "(observed)" in teacher.get(f"{room}/sheet.csv").text


def test_a_class_whose_run_is_lost_has_it_made_again(site):
    """By its teacher, in the class; a student's own run would be in the class of no one."""
    teacher, room = open_class(site[1])
    student, _ = join(site[1], room, "ada")
    teacher.post(f"{room}/show", page=room)
    key = site[0].runs._queue[0].key
    finish(site[0], key, lasts=False)
    site[0].runs._over.clear()
    site[0].kernel = "another"
    assert f'action="{room}/show"' in teacher.get(room).text and "Run it again" not in student.get(room).text
    teacher.post(f"{room}/show", page=room)
    finish(site[0], site[0].runs._queue[0].key)
    assert 'class="outcome"' in student.get(room).text


def test_who_said_nothing_in_class_said_nothing(site):
    """Although he has said something of the same run in the catalogue."""
    teacher, room = open_class(site[1])
    student, _ = join(site[1], room, "ada")
    student.post(f"{room}/predict", page=room)
    student.order(fact__foreign_bytes="400")
    teacher.post(f"{room}/show", page=room)
    finish(site[0], site[0].runs._queue[0].key)
    page = student.get(room).text
    assert "you made no prediction" in page and 'class="right"' not in page


def test_only_the_teacher_teaches(site):
    """Other students' links: no sheet, no run, no prediction in another's name."""
    application = site[1]
    teacher, room = open_class(application)
    student, _ = join(application, room, "ada")
    stranger = Visitor(application)
    for visitor in (student, stranger):
        for path in ("sheet.csv", "grade.zip"):
            answer = visitor.get(f"{room}/{path}")
            assert answer.status_code == 400 and "only the teacher" in answer.text
        assert visitor.post(f"{room}/show", page="/class").status_code == 400
    assert stranger.post(f"{room}/predict", page="/class", **{"fact.reopened": "yes"}).status_code == 400
    assert "ada" not in stranger.get(room).text and "predict" not in stranger.get(f"{room}").url.path
    assert site[0].runs.waiting == 0 and "1</strong> joined" in teacher.get(room).text
    replayed = student.client.post(f"{room}/predict", data={"token": teacher.token("/class"), "fact.reopened": "no"})
    assert replayed.status_code == 403


def test_who_is_in_a_full_class_comes_back(site, monkeypatch):
    """And no other comes in."""
    monkeypatch.setattr("twlab.web.classes.MOST_STUDENTS", 1)
    _, room = open_class(site[1])
    ada, _ = join(site[1], room, "ada")
    assert ada.post("/class/join", page="/class", code=room[-5:], nickname="ada").status_code == 303
    assert "the class has 1 students" in join(site[1], room, "bob")[1].text


def test_a_nickname_is_one_of_a_class(site):
    """Bounded, printable, and taken once; joining twice is being there once."""
    application = site[1]
    teacher, room = open_class(application)
    ada, _ = join(application, room, "ada")
    assert "is taken" in join(application, room, "ada")[1].text
    for bad in ("", " ", "x" * 25, "\x07\n"):
        assert join(application, room, bad)[1].status_code == 400
    again = ada.post("/class/join", page="/class", code=room[-5:], nickname="other")
    assert again.status_code == 303 and "1</strong> joined" in teacher.get(room).text
    assert join(application, "/class/ZZZZZ", "x")[1].status_code == 404


def test_a_reachable_server_wants_the_teachers_token(tmp_path):
    """Tries at it, and at codes, are counted."""
    _, application = make_site(tmp_path, teacher_token="opens it")
    guesser = Visitor(application)
    fields = {"scenario": "stale-data", "arm": "treatment"}
    answers = [
        guesser.post("/class/open", page="/class", teacher=f"guess {number}", **fields).text for number in range(25)
    ]
    assert "not the teacher" in answers[0] and "too many tries" in answers[-1]
    teacher = Visitor(application)
    assert 'name="teacher"' in teacher.get("/class").text
    assert teacher.post("/class/open", page="/class", teacher="opens it", **fields).status_code == 303
