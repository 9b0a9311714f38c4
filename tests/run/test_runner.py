"""The runner: what it asks of an engine, and what becomes of the answers. The engine here is a
stand-in that answers from a list.
"""

import json

import pytest

from twlab import Arm, CapabilityError, EngineError, Observation, Settings, UsageError, Verdict, scenario
from twlab.overrides import Overrides
from twlab.results.result import read_result
from twlab.run.runner import Order, run


def _claim(lab):
    """The claim."""


def _arm(**settings):
    return Arm(Settings(**settings), expect=Observation(x=1))


# In a list, where the pytest plugin does not find it: it would run it.
CLAIMS = [
    scenario(topology="pair", control=_arm(), treatment=_arm(time_wait_s=1), remedies={"cure": _arm(timestamps=1)})(
        _claim
    )
]


class Answers:
    """An engine that gives each arm the outcome named for it; an outcome that is an exception is
    raised.
    """

    name = "stand-in"
    release = ""

    def __init__(self, **outcomes):
        self.outcomes = outcomes
        self.requests = []

    def run(self, request, folder, on_event, real_limit_s):
        self.requests.append(request)
        for index, job in enumerate(request["jobs"]):
            on_event({"event": "start", "job": index})
            outcome = self.outcomes.get(job["arm"], True)
            if isinstance(outcome, BaseException):
                raise outcome
            on_event(
                {
                    "event": "arm",
                    "job": index,
                    "kernel": "6.1-test",
                    "result": {"ok": outcome, "observed": {"x": 1 if outcome else 2}},
                }
            )
        on_event({"event": "end"})

    @property
    def arms_run(self):
        return [job["arm"] for request in self.requests for job in request["jobs"]]


def order(tmp_path, **options):
    return Order(scenarios=[("claim", CLAIMS[0])], out=tmp_path / "runs", **options)


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ({}, Verdict.SUPPORTED),
        ({"treatment": False}, Verdict.REFUTED),
        ({"cure": False}, Verdict.REFUTED),
        ({"control": False}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_answers_become_a_verdict_on_disk(tmp_path, outcomes, verdict):
    """What the engine reports is judged and written."""
    (finished,) = run(order(tmp_path), Answers(**outcomes))
    assert finished.result.verdict is verdict
    assert read_result(finished.folder) == finished.result
    assert json.loads((finished.folder / "result.json").read_text())["verdict"] == verdict


def test_an_engine_that_dies_loses_one_arm_and_nothing_runs_twice(tmp_path):
    """The arm under way is recorded with the reason; those after it get a fresh boot; those before
    it are not repeated.
    """
    engine = Answers(treatment=EngineError("it panicked", "see the log", "guest-panicked"))
    (finished,) = run(order(tmp_path), engine)
    assert engine.arms_run == [
        "control",
        "treatment",
        "cure",
        "cure",
    ]  # asked; the second boot was asked for the last alone
    assert [len(request["jobs"]) for request in engine.requests] == [3, 1]
    arms = finished.result.arms
    assert (arms["control"].ok, arms["treatment"].ok, arms["cure"].ok) == (True, None, True)
    assert arms["treatment"].error["slug"] == "guest-panicked"
    assert finished.result.verdict is Verdict.INCONCLUSIVE


def test_an_engine_that_dies_after_its_work_loses_nothing(tmp_path):
    """A panic at power-off, when every arm has been reported: the results stand, nothing is run
    again, and the user is told.
    """

    class DiesLate(Answers):
        def run(self, request, folder, on_event, real_limit_s):
            super().run(request, folder, on_event, real_limit_s)
            raise EngineError("it panicked", "see the log", "guest-panicked")

    engine, events = DiesLate(), []
    (finished,) = run(order(tmp_path), engine, events.append)
    assert finished.result.verdict is Verdict.SUPPORTED
    assert len(engine.requests) == 1
    assert "it panicked" in events[-1]["text"]


def test_an_interruption_keeps_what_was_finished(tmp_path):
    """Ctrl-C in the second arm: the first stands in result.json, the others say that they were not
    run.
    """
    with pytest.raises(KeyboardInterrupt):
        run(order(tmp_path), Answers(treatment=KeyboardInterrupt()))
    (folder,) = (tmp_path / "runs").iterdir()
    arms = read_result(folder).arms
    assert arms["control"].ok
    assert arms["treatment"].error["slug"] == arms["cure"].error["slug"] == "not-run"


def test_a_machine_that_cannot_leaves_no_folder(tmp_path):
    """A capability missing from the start is an error and not a result."""
    with pytest.raises(CapabilityError):
        run(order(tmp_path), Answers(control=CapabilityError("no namespaces", "be root", "no-namespaces")))
    assert list((tmp_path / "runs").iterdir()) == []


def test_set_changes_every_arm_but_the_control(tmp_path):
    """Unless the control was asked for by name. A job carries values, not their text."""
    engine, changed = Answers(), {"settings": {"time_wait_s": 5.0}, "given": {}, "on": {}}
    run(order(tmp_path, sets=["time_wait_s=5"]), engine)
    assert [job["set"] for job in engine.requests[0]["jobs"]] == [Overrides().as_dict(), changed, changed]
    engine = Answers()
    run(order(tmp_path, sets=["time_wait_s=5"], arms=["control"]), engine)
    assert [job["set"] for job in engine.requests[0]["jobs"]] == [changed]


def test_wrong_requests_are_refused_before_anything_is_made(tmp_path):
    """An unknown arm, an unknown setting: no folder."""
    for options in ({"arms": ["placebo"]}, {"sets": ["speed=1"]}):
        with pytest.raises(UsageError):
            run(order(tmp_path, **options), Answers())
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path):
    """A file stands where the folder should be."""
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(CapabilityError, match="--out"):
        run(order(tmp_path), Answers())


def test_two_runs_in_one_second_do_not_meet(tmp_path):
    """Each has a folder of its own."""
    folders = {run(order(tmp_path), Answers())[0].folder for _ in range(3)}
    assert len(folders) == 3
