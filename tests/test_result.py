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


def test_a_folder_that_takes_nothing_is_one_message(tmp_path):
    """No folder, no result, a remedy."""
    with pytest.raises(CapabilityError, match="--out"):
        make().write(tmp_path / "nowhere")
