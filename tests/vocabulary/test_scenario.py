"""Scenarios: how they are made, found, overridden, judged."""

import itertools
import json

import pytest

from twlab import Arm, Observation, ScenarioError, Settings, UsageError, Verdict, scenario, since
from twlab.catalogue import find_scenario, load_scenarios
from twlab.overrides import Overrides
from twlab.scenario import judge

ARM = Arm(Settings(), expect=Observation(x=1))
ROLES = {"control": "control", "treatment": "treatment", "r": "remedy"}


def make(steps=None, **options):
    def claim(lab, *, count: int = 3, loud: bool = False):
        """The claim.

        The reason."""

    return scenario(**({"topology": "pair", "control": ARM, "treatment": ARM} | options))(steps or claim)


def test_a_scenario_takes_its_name_claim_and_reason_from_its_steps():
    """The function's name is the scenario's, the first paragraph of its docstring the hypothesis."""
    made = make()
    assert (made.name, made.hypothesis, made.explanation) == ("claim", "The claim.", "The reason.")
    assert made.roles == {"control": "control", "treatment": "treatment"}
    assert made.parameters == {"count": 3, "loud": False}


def test_a_scenario_that_predicts_nothing_is_an_error():
    """An arm that cannot fail is refused when the file is loaded."""
    with pytest.raises(ScenarioError) as caught:
        make(treatment=Arm(Settings(), expect=Observation()))
    assert caught.value.slug == "checks-nothing"


def test_a_scenario_that_claims_nothing_is_an_error():
    """Without a docstring there is no hypothesis."""
    with pytest.raises(ScenarioError) as caught:
        make(steps=type(lambda: 0)((lambda lab: None).__code__, {"__name__": "nowhere"}, "silent"))
    assert caught.value.slug == "no-hypothesis"


def test_arms_have_names_of_their_own_and_arguments_that_exist():
    """Two arms of one name, and an argument the steps do not take, are refused."""
    with pytest.raises(ScenarioError, match="two arms"):
        make(remedies={"treatment": ARM})
    with pytest.raises(ScenarioError, match="speed"):
        make(treatment=Arm(Settings(), expect=Observation(x=1), given={"speed": 1}))


def test_settings_lie_in_layers():
    """Base, then the arm, then the arm's node, then what --set says."""
    made = make(
        base=Settings(timestamps=0, sack=True),
        treatment=Arm(Settings(time_wait_s=1), on={"server": Settings(timestamps=2)}, expect=Observation(x=1)),
    )
    assert made.settings_for("treatment", "client") == Settings(timestamps=0, sack=True, time_wait_s=1)
    assert made.settings_for("treatment", "server") == Settings(timestamps=2, sack=True, time_wait_s=1)
    assert made.settings_for("treatment", "server", Settings(sack=False)).sack is False


def test_arguments_of_the_steps_may_stand_in_the_topology():
    """Defaults, then the arm's own, then what --set says; one that the steps do not take is
    refused.
    """
    made = make(topology="nat,clients={count}", treatment=Arm(Settings(), expect=Observation(x=1), given={"count": 7}))
    assert made.topology_in() == f"nat,clients={made.parameters['count']}"
    assert made.topology_in("treatment") == "nat,clients=7"
    assert made.topology_in("treatment", {"count": 9}) == "nat,clients=9"
    with pytest.raises(ScenarioError, match="speed"):
        make(topology="nat,clients={speed}")


@pytest.mark.parametrize("held", list(itertools.product([True, False, None], repeat=3)))
def test_the_verdict_over_every_outcome(held):
    """INCONCLUSIVE if an arm could not be carried out or the control failed; REFUTED if another arm
    failed; else SUPPORTED.
    """
    control, *others = held
    expected = (
        Verdict.INCONCLUSIVE if None in held or not control else Verdict.SUPPORTED if all(others) else Verdict.REFUTED
    )
    assert judge(ROLES, dict(zip(ROLES, held, strict=True))) is expected


def test_nothing_run_is_nothing_shown():
    """No arms, no verdict."""
    assert judge(ROLES, {}) is Verdict.INCONCLUSIVE


def test_overrides_are_settings_or_arguments_of_the_steps():
    """--set takes both; an argument keeps the type of its default."""
    overrides = Overrides.parse(["time_wait_s=2", "count=5", "loud=on"], [make()])
    assert overrides.settings == Settings(time_wait_s=2)
    assert overrides.given == {"count": 5, "loud": True}


def test_a_setting_may_be_for_one_node():
    """NODE:KEY=VALUE, over what is set for all; a node that the topology lacks is refused."""
    overrides = Overrides.parse(["time_wait_s=2", "client:tw_reuse=1", "client:time_wait_s=3"], [make()])
    assert overrides.at("server") == Settings(time_wait_s=2)
    assert overrides.at("client") == Settings(time_wait_s=3, tw_reuse=1)
    overrides.check_nodes(["client", "server"], "pair")
    with pytest.raises(UsageError, match="did you mean 'client1'"):
        overrides.check_nodes(["client1", "server"], "pair")


def test_arms_are_chosen_by_name_or_role():
    """In the scenario's order; an arm of that name goes before a role."""
    made = make(treatment={"one": ARM, "two": ARM}, remedies={"r": ARM})
    assert made.chosen([]) == ["control", "one", "two", "r"]
    assert made.chosen(["treatment"]) == ["one", "two"]
    assert made.chosen(["r", "one"]) == ["one", "r"]
    assert make(treatment={"treatment": ARM, "two": ARM}).chosen(["treatment"]) == ["treatment"]
    with pytest.raises(UsageError, match="did you mean 'two'"):
        made.chosen(["tow"])


@pytest.mark.parametrize(
    "pair",
    ["client:speed=1", "client:count=1", ":sack=1", "time_wait_s", "=3", "speed=1", "count=many", "loud=perhaps"],
)
def test_overrides_that_mean_nothing_are_refused(pair):
    """A --set that no scenario takes, or with a value of the wrong type, is wrong usage."""
    with pytest.raises(UsageError):
        Overrides.parse([pair], [make()])


def test_every_scenario_that_comes_with_twlab_loads_and_has_a_source():
    """Each has a claim, a source, and at least control and treatment."""
    for found in load_scenarios().values():
        assert found.hypothesis.endswith(".")
        assert found.reads
        assert {"control", "treatment"} <= set(found.roles.values())


def test_a_scenario_is_found_by_name_and_by_file(tmp_path):
    """A name of ours, or a file of the user's, also one of several in it."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from twlab import *\n"
        "arm = Arm(Settings(), expect=Observation(x=1))\n"
        "def first(lab):\n    'One.'\n"
        "def second(lab):\n    'Two.'\n"
        "a, b = (scenario(topology='pair', control=arm, treatment=arm)(f) for f in (first, second))\n"
    )
    assert find_scenario("stale-data").name == "stale-data"
    assert find_scenario(str(file)).name == "first"
    assert find_scenario(f"{file}:second").name == "second"
    with pytest.raises(UsageError, match="third"):
        find_scenario(f"{file}:third")


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        (None, "broken-scenario-file"),
        ("x = 1", "broken-scenario-file"),
        ("def (", "broken-scenario-file"),
        ("1/0", "broken-scenario-file"),
        ("import nowhere_at_all", "broken-scenario-file"),
    ],
)
def test_a_file_that_holds_no_scenario_gets_one_message(tmp_path, text, slug):
    """Missing, empty, wrong syntax, failing: one usage error each."""
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError) as caught:
        find_scenario(str(file))
    assert caught.value.slug == slug


def test_an_unknown_scenario_is_answered_with_the_known_ones():
    """A wrong name is answered with the right ones."""
    with pytest.raises(UsageError, match="stale-data") as caught:
        find_scenario("stale-dat")
    assert caught.value.slug == "no-such-scenario"


def test_overrides_travel_as_values():
    """What a job carries is what was parsed, after a turn through JSON; the control is spared
    unless it is named.
    """
    parsed = Overrides.parse(["time_wait_s=2", "count=5", "loud=on", "client:tw_reuse=1"], [make()])
    carried = json.loads(json.dumps(parsed.as_dict()))
    assert Overrides.from_dict(carried) == parsed
    assert Overrides.from_dict({}) == Overrides()
    assert parsed.for_arm("treatment", []) is parsed
    assert parsed.for_arm("control", ["treatment"]) == Overrides()
    assert parsed.for_arm("control", ["control"]) is parsed


def test_an_arm_may_follow_the_kernel():
    """The newest stands in `arms`, with the predictions of both; a release decides."""
    newest = Arm(Settings(syn_retries=1), expect=Observation(x=1, y=2), given={"count": 4})
    older = Arm(Settings(syn_retries=3), expect=Observation(x=1, y=9), given={"count": 5})
    oldest = Arm(Settings(syn_retries=5), expect=Observation(x=1, y=9), given={"count": 6})
    made = make(treatment=since("6.5", newest, before=since("5.4", older, before=oldest)))
    assert made.arms["treatment"].expect.as_dict() == {"x": 1, "y": {"since": "6.5", "then": 2, "before": 9}}
    assert made.older("treatment") == {"6.5": older.settings, "5.4": oldest.settings}
    assert made.older("control") == {}
    described = made.as_dict()["arms"]
    assert described["treatment"]["before"] == {"6.5": {"syn_retries": 3}, "5.4": {"syn_retries": 5}}
    assert described["control"]["before"] == {}
    for release, arm in (("7.3.4", newest), ("6.5", newest), ("6.1.192-twlab", older), ("4.9", oldest)):
        assert made.on(release).arms == {"control": ARM, "treatment": arm}
    assert made.on("") is made
    assert made.on("6.1").on("7.3").arms["treatment"] == newest


def test_no_arm_asks_of_a_kernel_what_only_newer_ones_have():
    """Sysctls newer than Linux 6.1: an arm asks for none on it, or for the value that it has anyway."""
    newer = {"syn_linear_timeouts": 0, "tw_reuse_delay_ms": 1000}
    for name, made in load_scenarios().items():
        old = made.on("6.1.192-twlab")
        for arm, role in old.roles.items():
            for settings in (old.settings_for(arm, node) for node in ("", *old.arms[arm].on)):
                asked = {key: value for key, value in settings.as_dict().items() if newer.get(key, value) != value}
                assert asked == {}, (name, arm, role)
