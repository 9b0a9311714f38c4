"""Scenarios: claims about TIME_WAIT that can fail, and how they are judged.

INCONCLUSIVE   the control did not behave as predicted, or an arm could not be carried out, or has
               no prediction for its size: nothing follows
REFUTED        the control behaved, but another arm did not do what was predicted
SUPPORTED      every arm did what was predicted
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from twlab.errors import ScenarioError, UsageError, did_you_mean
from twlab.observation import Observation, Since
from twlab.overrides import Overrides
from twlab.settings import Settings, no_such_setting, setting_names


class Verdict(StrEnum):
    """The verdict of a run on its hypothesis. A value, never an exception."""

    SUPPORTED = "SUPPORTED"
    REFUTED = "REFUTED"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, init=False)
class Arm:
    """One setting of the world, and what it is predicted to show.

    Settings and facts may be given as plain dictionaries, as the pytest marker takes them:
    ``Arm({"time_wait_s": 1}, expect={"reopened": True}, on={"proxy": {"tw_reuse": 1}})``.

    Attributes:
        settings: what differs from the scenario's base, on every node.
        expect: the predicted observation. Must name at least one fact.
        on: what differs further on single nodes, by node name.
        given: arguments for the scenario's steps, where arms differ in what is done and not in how
            nodes are set.

    Raises:
        ScenarioError: an argument of another type (``bad-arm``).
        UsageError: a setting that there is not, or a value that it cannot have.
    """

    settings: Settings
    expect: Observation
    on: Mapping[str, Settings]
    given: Mapping[str, Any]

    def __init__(
        self,
        settings: Settings | Mapping[str, Any],
        expect: Observation | Mapping[str, Any],
        on: Mapping[str, Settings | Mapping[str, Any]] | None = None,
        given: Mapping[str, Any] | None = None,
    ):
        for name, value, kind in (
            ("settings", settings, Settings),
            ("expect", expect, Observation),
            ("on", on, dict),
            ("given", given, dict),
        ):
            if value is not None and not isinstance(value, kind | Mapping):
                raise ScenarioError(
                    f"{name}={value!r} is no argument of an arm",
                    f"write {name}={kind.__name__}(...), or a dictionary of names and values",
                    "bad-arm",
                )
        object.__setattr__(self, "settings", _as_settings(settings))
        object.__setattr__(self, "expect", expect if isinstance(expect, Observation) else Observation(**expect))
        object.__setattr__(self, "on", {node: _as_settings(values) for node, values in (on or {}).items()})
        object.__setattr__(self, "given", dict(given or {}))


Predict = Callable[[str, Callable[[str], Settings], Mapping[str, Any]], Observation | None]
_NO_SIZE = ("family",)  # a claim is about IPv4 and IPv6 alike


@dataclass(frozen=True)
class Scenario:
    """A hypothesis with its arms and steps. Made by the decorator `scenario`.

    Attributes:
        name: what the command line calls it, e.g. ``stale-data``.
        hypothesis: the first paragraph of the steps' docstring: the claim, in the present tense.
        explanation: the rest of the docstring: why it is so, how likely it is, what the arms show.
        topology: a topology's name with options as Mininet writes them, e.g. ``nat,clients=2``.
            Arguments of the steps may stand in it, as in ``nat,clients={clients}``; see
            `topology_in`.
        arms: name to arm; ``control`` first, then the treatments, then the remedies.
        roles: name of an arm to ``control``, ``treatment`` or ``remedy``.
        base: settings that all arms share.
        reads: where the claim comes from: RFC sections, kernel files.
        steps: the function that is given a Lab and returns an Observation.
        predict: see `scenario`; None: predictions hold for the sizes that they were written for,
            and no other.
        sizes: settings that are a size here, as the arguments of the steps are.
        by_release: the arms that older kernels carry out otherwise, see `on`. What `arms` has of
            them are the newest, with the predictions of both.
    """

    name: str
    hypothesis: str
    explanation: str
    topology: str
    arms: Mapping[str, Arm]
    roles: Mapping[str, str]
    base: Settings
    reads: str
    steps: Callable[..., Observation]
    predict: Predict | None = None
    sizes: tuple[str, ...] = ()
    by_release: Mapping[str, Since] = field(default_factory=dict)

    def on(self, release: str) -> Scenario:
        """Return the scenario as the kernel of `release` carries it out.

        Where that is empty, nothing is decided.
        """
        if not release:
            return self
        return replace(self, arms={**self.arms, **{arm: s.on(release) for arm, s in self.by_release.items()}})

    def chosen(self, wanted: Sequence[str]) -> list[str]:
        """Return the arms that `wanted` names, in the scenario's order.

        An arm is named by its own name or by its role. Without a name, all are chosen.

        Raises:
            UsageError: no arm has that name or role (``no-such-arm``).
        """
        names = set()
        for word in wanted:
            known = {word} & set(self.arms) or {arm for arm, role in self.roles.items() if role == word}
            if not known:
                guess = did_you_mean(word, self.arms)
                raise UsageError(
                    f"{self.name} has no arm called {word!r}{guess}",
                    f"its arms are: {', '.join(self.arms)}",
                    "no-such-arm",
                )
            names |= known
        return [arm for arm in self.arms if arm in names or not wanted]

    def settings_for(self, arm: str, node: str, overrides: Settings | None = None) -> Settings:
        """Return the settings of `node` in `arm`.

        The later wins: base, the arm's, the arm's for this node, `overrides`.
        """
        chosen = self.arms[arm]
        settings = chosen.settings.over(self.base)
        if node in chosen.on:
            settings = chosen.on[node].over(settings)
        return overrides.over(settings) if overrides else settings

    def topology_in(self, arm: str = "control", given: Mapping[str, Any] | None = None) -> str:
        """Return the topology of `arm`, with the arguments of its steps filled in.

        `given` overrides the arm's own arguments.
        """
        return self.topology.format(**{**self.parameters, **self.arms[arm].given, **(given or {})})

    @property
    def parameters(self) -> dict[str, Any]:
        """Arguments that the steps take beside the lab, with their defaults.

        ``--set`` changes them, like settings.
        """
        return {
            name: p.default for name, p in inspect.signature(self.steps).parameters.items() if p.kind is p.KEYWORD_ONLY
        }

    def as_dict(self) -> dict[str, Any]:
        """Return what ``twlab explain --json`` prints.

        That is the claim, the network, and each arm with its prediction.
        """
        return {
            "scenario": self.name,
            "hypothesis": self.hypothesis,
            "explanation": self.explanation,
            "topology": self.topology_in(),
            "reads": self.reads,
            "parameters": self.parameters,
            "arms": {
                name: {
                    "role": self.roles[name],
                    "settings": arm.settings.over(self.base).as_dict(),
                    "on": {node: settings.as_dict() for node, settings in arm.on.items()},
                    "given": dict(arm.given),
                    "predicted": arm.expect.as_dict(),
                    "before": {release: older.over(self.base).as_dict() for release, older in self.older(name).items()},
                }
                for name, arm in self.arms.items()
            },
        }

    def older(self, arm: str) -> dict[str, Settings]:
        """Map the releases at which `arm` changed to its settings on older kernels."""
        found, value = {}, self.by_release.get(arm)
        while isinstance(value, Since):
            found[value.release] = _newest(value.before).settings
            value = value.before
        return found

    def given_in(self, arm: str, overrides: Overrides) -> dict[str, Any]:
        """Return the arguments of the steps in `arm`.

        The later wins: defaults, the arm's own, `overrides`.
        """
        return {**self.parameters, **self.arms[arm].given, **overrides.given}

    def resized(self, arm: str, overrides: Overrides) -> dict[str, Any]:
        """Return the sizes that `overrides` changes in `arm`, name to new value.

        The size of a single node has the name ``NODE:KEY``.
        """
        chosen = self.arms[arm]
        own = {**self.parameters, **chosen.given}
        changed = {
            name: value for name, value in overrides.given.items() if name not in _NO_SIZE and value != own[name]
        }
        before = [self.settings_for(arm, node).as_dict() for node in chosen.on or ("",)]
        sizes = {name: value for name, value in overrides.settings.as_dict().items() if name in self.sizes}
        changed |= {name: value for name, value in sizes.items() if any(values.get(name) != value for values in before)}
        return changed | {
            f"{node}:{name}": value
            for node, settings in overrides.on.items()
            for name, value in settings.as_dict().items()
            if name in self.sizes and self.settings_for(arm, node).as_dict().get(name) != value
        }

    def prediction(self, arm: str, overrides: Overrides | None = None) -> Observation | None:
        """Return the prediction of `arm`, or None if its size has no prediction.

        A setting that is not a size leaves the prediction unchanged: the run shows whether it still
        holds.
        """
        if not overrides or not self.resized(arm, overrides):
            return self.arms[arm].expect
        if not self.predict:
            return None
        given = self.given_in(arm, overrides)
        return self.predict(arm, lambda node: self.settings_for(arm, node, overrides.at(node)), given)

    @property
    def digest(self) -> str:
        """The digest of the scenario's file, 12 hexadecimal digits; empty without a file.

        It keeps results of one version of the file apart from those of another.
        """
        import hashlib  # which loads OpenSSL

        file = inspect.getsourcefile(self.steps)
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12] if file else ""


def scenario(
    *,
    topology: str,
    control: Arm | Since,
    treatment: Arm | Since | Mapping[str, Arm | Since],
    remedies: Mapping[str, Arm | Since] | None = None,
    base: Settings | None = None,
    reads: str = "",
    predict: Predict | None = None,
    sizes: Iterable[str] = (),
) -> Callable[[Callable[..., Observation]], Scenario]:
    """Make a `Scenario` of the function below.

    The function gives the name, the claim (the first paragraph of its docstring), and the steps.

    Args:
        topology: name and options, e.g. ``proxy`` or ``nat,clients=2``; ``nat,clients={clients}``
            has an argument of the steps in it.
        control: TIME_WAIT as the RFC wants it. Without it, nothing that the treatment shows has a
            cause.
        treatment: what the claim is about; several as a mapping of names. An arm that older kernels
            cannot carry out is ``since("6.5", Arm(...), before=Arm(...))``.
        remedies: what is said to help, and what is wrongly said to.
        base: settings that all arms share.
        reads: the sources.
        predict: what an arm shows with another size than its own: called with the arm's name, a
            function from a node's name to its settings, and the arguments of the steps; None if no
            prediction is possible, or the claim becomes another one.
        sizes: settings that are a size here, e.g. ``time_wait_s`` where what is predicted is a
            number of connections.

    Raises:
        ScenarioError: no docstring, a prediction without facts, two arms of one name, or an
            argument that the steps do not take.
    """

    def decorate(steps: Callable[..., Observation]) -> Scenario:
        name = steps.__name__.replace("_", "-")
        hypothesis, _, explanation = inspect.cleandoc(steps.__doc__ or "").partition("\n\n")
        if not hypothesis:
            raise ScenarioError(
                f"scenario {name} claims nothing: it has no docstring",
                "state the claim in its first line",
                "no-hypothesis",
            )
        groups = {
            "control": {"control": control},
            "treatment": {"treatment": treatment} if isinstance(treatment, Arm | Since) else dict(treatment),
            "remedy": dict(remedies or {}),
        }
        given = {arm: value for group in groups.values() for arm, value in group.items()}
        arms = {arm: _newest(value) for arm, value in given.items()}
        if len(arms) != sum(len(group) for group in groups.values()):
            raise ScenarioError(
                f"scenario {name} has two arms of one name", "give every arm a name of its own", "same-arm"
            )
        made = Scenario(
            name=name,
            hypothesis=" ".join(hypothesis.split()),
            explanation=explanation,
            topology=topology,
            arms=arms,
            roles={arm: role for role, group in groups.items() for arm in group},
            base=base or Settings(),
            reads=reads,
            steps=steps,
            predict=predict,
            sizes=tuple(sizes),
            by_release={arm: value for arm, value in given.items() if isinstance(value, Since)},
        )
        _check_arms(made)
        return made

    return decorate


def _check_arms(made: Scenario) -> None:
    """Check that each arm predicts something, and what arms and topology name.

    Raises:
        ScenarioError: ``checks-nothing``, ``no-such-argument``.
    """
    for arm, value in made.arms.items():
        if not value.expect:
            raise ScenarioError(
                f"arm {arm} of {made.name} predicts nothing, so it cannot fail",
                "name at least one fact in its Observation",
                "checks-nothing",
            )
        if unknown := set(value.given) - set(made.parameters):
            raise ScenarioError(
                f"arm {arm} of {made.name} gives {', '.join(sorted(unknown))}, which its steps do not take",
                "add a keyword argument",
                "no-such-argument",
            )
    try:
        made.topology_in()
    except (KeyError, IndexError, ValueError) as error:
        message = f"the topology of {made.name} has {made.topology!r}, where {error} is no argument of the steps"
        raise ScenarioError(message, "add a keyword argument", "no-such-argument") from None


def judge(roles: Mapping[str, str], held: Mapping[str, bool | None]) -> Verdict:
    """The verdict over the arms that ran.

    Args:
        roles: arm to ``control``, ``treatment`` or ``remedy``.
        held: arm to whether its prediction held; None when the arm could not be carried out, or had
            no prediction.
    """
    if not held or any(ok is None for ok in held.values()):
        return Verdict.INCONCLUSIVE
    if any(not ok for arm, ok in held.items() if roles[arm] == "control"):
        return Verdict.INCONCLUSIVE
    return Verdict.SUPPORTED if all(held.values()) else Verdict.REFUTED


def _newest(arm: Arm | Since) -> Arm:
    """Return the arm of the newest kernels, with what is predicted of older ones beside it."""
    if isinstance(arm, Arm):
        return arm
    newest, before = _newest(arm.then), _newest(arm.before).expect
    both = {
        fact: value if before.get(fact) == value else Since(arm.release, value, before.get(fact))
        for fact, value in newest.expect.items()
    }
    return Arm(newest.settings, Observation(**both), newest.on, newest.given)


def _as_settings(values: Settings | Mapping[str, Any]) -> Settings:
    if isinstance(values, Settings):
        return values
    for name in values:
        if name not in setting_names():
            raise no_such_setting(name)
    return Settings(**values)
