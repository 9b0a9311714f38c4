"""Results: written whole or not at all, read back, and broken ones told apart."""

import json

import pytest

from twlab import CapabilityError, UsageError, Verdict
from twlab.results.result import SCHEMA, ArmResult, Result, read_result


def make():
    return Result(
        scenario="claim",
        hypothesis="It is so.",
        reads="RFC 9293",
        topology="pair",
        engine="host",
        seed=7,
        command="twlab run claim",
        arms={
            "control": ArmResult("control", predicted={"x": 1}, observed={"x": 1}, ok=True),
            "treatment": ArmResult("treatment", ok=False),
        },
    )


def test_a_result_reads_back_as_it_was_written(tmp_path):
    """result.json holds everything."""
    make().write(tmp_path)
    assert read_result(tmp_path) == make()
    assert read_result(tmp_path / "result.json").verdict is Verdict.REFUTED
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        (None, "no-result"),
        ("", "broken-result"),
        ('{"schema": 1, "scen', "broken-result"),
        ("[]", "foreign-result"),
        ('{"name": "somebody else\'s"}', "foreign-result"),
        (json.dumps({"schema": SCHEMA + 1, "scenario": "x"}), "newer-result"),
        (json.dumps({"schema": SCHEMA, "scenario": "x"}), "broken-result"),
        (
            json.dumps({"schema": SCHEMA, "scenario": "x", "verdict": "SUPPORTED", "arms": {"a": {"what": 1}}}),
            "broken-result",
        ),
    ],
)
def test_what_is_not_a_result_is_told_by_name(tmp_path, text, slug):
    """Missing, truncated, foreign, newer."""
    if text is not None:
        (tmp_path / "result.json").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_result(tmp_path)
    assert caught.value.slug == slug


def test_what_a_newer_twlab_has_added_is_passed_over(tmp_path):
    """Keys of the run, and of an arm: the schema says when one changes its meaning."""
    values = make().as_dict()
    values["added"] = values["arms"]["control"]["added"] = {"a": 1}
    (tmp_path / "result.json").write_text(json.dumps(values))
    assert read_result(tmp_path) == make()


def damaged(**changes):
    values = make().as_dict()
    for where, value in changes.items():
        target = values["arms"]["control"] if where in values["arms"]["control"] else values
        target[where] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("observed", None),
        ("observed", []),
        ("predicted", None),
        ("mismatches", "x"),
        ("transcript", {}),
        ("transcript", [1]),
        ("counters", {"a": 1}),
        ("capture", 3),
        ("captured", "many"),
        ("virtual_s", "long"),
        ("virtual_s", True),
        ("ok", "yes"),
        ("error", "bad"),
        ("sockets", {"a": [1]}),
        ("tables", {"a": {}}),
        ("kernel", None),
        ("network", []),
        ("seed", "one"),
        ("versions", {"twlab": 1}),
        ("arms", []),
        ("arms", None),
    ],
)
def test_a_value_of_another_type_is_named(tmp_path, name, value):
    """No reader comes upon it later: the message names the field and what stands there."""
    (tmp_path / "result.json").write_text(damaged(**{name: value}))
    with pytest.raises(UsageError) as caught:
        read_result(tmp_path)
    assert caught.value.slug == "broken-result"
    assert name in caught.value.message or name == "arms"


@pytest.mark.parametrize(
    ("name", "content", "what", "reader"),
    [
        ("control.pcapng", b"\n\r\r\n" + bytes(40), "a capture", "Wireshark"),
        ("notes.txt", b"what I saw", "a text", "editor"),
        ("notes", b"what I saw", "a text", "twlab run"),
        ("sweep.csv", b"a,b\n1,2\n", "CSV", "twlab report"),
        ("report.html", b"<!doctype html>", "a page", "browser"),
        ("map.png", b"\x89PNG\r\n", "a picture", ".json"),
        ("mine.py", b"from twlab import scenario", "Python", "twlab run FILE"),
        ("thing", b"\0\1\2", "binary", "twlab run"),
        ("sweep.json", b'{"schema": 2, "scenario": "s", "cells": []}', "a sweep", "twlab report"),
        ("grades.json", b'{"schema": 1, "students": []}', "grades", "twlab grade"),
    ],
)
def test_another_file_is_called_what_it_is(tmp_path, name, content, what, reader):
    """And the remedy says what reads it."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_result(tmp_path / name)
    assert caught.value.slug == "foreign-result"
    assert what in caught.value.message and reader in caught.value.remedy


def test_a_folder_that_takes_nothing_is_one_message(tmp_path):
    """No folder, no result, a remedy."""
    with pytest.raises(CapabilityError, match="--out"):
        make().write(tmp_path / "nowhere")
