"""tcp_tw_recycle by the lab kernel and by the emulation: the same SYNs, the same answers, and those
that the rule gives.
"""

import importlib.util
import random

import pytest
from conftest import ROOT, lacks

from twlab.catalogue import find_scenario
from twlab.engines import choose
from twlab.run.runner import AGENT, Order, run
from twlab.segment import advance
from twlab.tuning.recycle_rule import RecycleCache

FILE = ROOT / "tests" / "data" / "crafted_syns.py"
SEED = 7


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """A function from engine to arm to what each SYN was answered."""
    scenario = find_scenario(str(FILE))

    def ask(engine):
        (finished,) = run(
            Order([(str(FILE), scenario)], seed=SEED, out=tmp_path_factory.mktemp(engine)), choose(engine, agent=AGENT)
        )
        assert all(arm.ok for arm in finished.result.arms.values()), finished.result.arms
        return {name: arm.observed["answers"] for name, arm in finished.result.arms.items()}

    return {engine: ask(engine) for engine in ("guest", "host") if not lacks(engine)}


def by_the_rule(arm):
    spec = importlib.util.spec_from_file_location("crafted_syns", FILE)
    syns = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(syns)
    cache = RecycleCache()
    cache.remember("server", "client", syns.BASE, 0, 0)
    steps = syns.steps_from(random.Random(f"{SEED} {arm}"))
    tsvals = [None if step is None else advance(syns.BASE, step) for step in steps]
    return "".join("." if cache.refusal("server", "client", tsval, 1) else "A" for tsval in tsvals)


@pytest.mark.guest
@pytest.mark.host
@pytest.mark.parametrize("arm", ["recycle", "recycle-ipv6"])
def test_both_engines_answer_every_syn_alike(answers, arm):
    """36 SYNs of crafted clients: at the edges of the rule, without timestamp, and at random all
    around the circle.
    """
    assert answers["guest"][arm] == answers["host"][arm] == by_the_rule(arm)
    assert "." in answers["guest"][arm] and "A" in answers["guest"][arm]


@pytest.mark.guest
@pytest.mark.host
def test_without_recycle_every_syn_is_answered(answers):
    """The control, on both engines."""
    assert {found["control"].count("A") for found in answers.values()} == {36}
