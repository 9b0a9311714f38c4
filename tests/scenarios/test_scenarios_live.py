"""The catalogue, run on this machine's kernel: every scenario that comes with twlab is SUPPORTED
there, too.
"""

import re

import pytest
from whole_catalogue import CATALOGUE, carry_out

MOST_TRIES = 4  # beyond the first
# What the host engine need not have: there the arm's message is what is tested.
LAB_KERNEL_ONLY = {"no-ipvs", "no-flow-table", "no-clocks-past-flow-table", "no-tun"}
PER_CATALOGUE = pytest.mark.parametrize("name", CATALOGUE)


@pytest.mark.host
@pytest.mark.slow
@PER_CATALOGUE
def test_this_machine_gives_the_same_verdict(name, tmp_path):
    """This machine's kernel, in real time, shows the same; what it lacks for an arm is told by
    name, and skipped, but for what the lab kernel alone is sure to have.
    """
    result = carry_out("host", (name,), tmp_path)[name]
    for _ in range(MOST_TRIES):
        # Where a premise does not hold, a load that a busy machine put on late for one, the arm has
        # said nothing, and is asked again.
        unasked = tuple(arm for arm, run in result.arms.items() if run.error and run.error["slug"] == "premise-failed")
        result.arms |= carry_out("host", (name,), tmp_path, unasked)[name].arms if unasked else {}
    beyond = {arm for arm, run in result.arms.items() if run.error and run.error["slug"] in LAB_KERNEL_ONLY}
    assert all("--engine guest" in result.arms[arm].error["remedy"] for arm in beyond)
    lacking = {
        arm: run.error["message"]
        for arm, run in result.arms.items()
        if run.error and re.match("no-(?!such-node|route)", run.error["slug"]) and arm not in beyond
    }
    wrong = {
        arm: run.error or run.mismatches
        for arm, run in result.arms.items()
        if not run.ok and arm not in beyond | lacking.keys()
    }
    assert not wrong
    if lacking:
        pytest.skip("; ".join(f"{arm}: {message}" for arm, message in lacking.items()))


@PER_CATALOGUE
def test_every_scenario_says_what_it_claims_and_where_from(name):
    """One claim in one sentence, an explanation, and sources."""
    scenario = CATALOGUE[name]
    assert scenario.hypothesis.endswith(".")
    assert scenario.explanation
    assert scenario.reads
