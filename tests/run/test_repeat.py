"""A run done many times over: verdicts are counted, seeds count up, and only what is worth looking
at is kept.
"""

import json

from test_runner import Answers, order

from twlab.results.result import read_result
from twlab.run.repeat import repeat
from twlab.scenario import Verdict


class Changing(Answers):
    """An engine whose third run is otherwise than the others."""

    def run(self, request, folder, on_event, real_limit_s):
        self.outcomes = {"treatment": len(self.requests) != 2}
        super().run(request, folder, on_event, real_limit_s)


def test_verdicts_are_counted_and_what_deviates_is_kept(tmp_path):
    """Each time has a seed of its own; the first run stays, and the one that was refuted."""
    engine, rounds = Changing(), []
    (tally,) = repeat(order(tmp_path, seed=7), engine, 5, lambda event: None, rounds.append)
    assert [request["seed"] for request in engine.requests] == [7, 8, 9, 10, 11]
    assert tally.verdicts == {Verdict.SUPPORTED: 4, Verdict.REFUTED: 1} and not tally.steady
    assert [read_result(folder).seed for folder in tally.kept] == [7, 9]
    assert sorted((tmp_path / "runs").iterdir()) == sorted(tally.kept)
    assert rounds == [1, 2, 3, 4, 5]


def test_one_verdict_every_time_is_steady(tmp_path):
    """SUPPORTED each time, as JSON too."""
    (tally,) = repeat(order(tmp_path), Answers(), 3, lambda event: None, lambda number: None)
    assert tally.steady
    assert json.loads(json.dumps(tally.as_dict())) == {
        "scenario": tally.scenario,
        "verdicts": {"SUPPORTED": 3},
        "runs": [str(tally.kept[0])],
    }
