"""A claim about TIME_WAIT that can fail: hypothesis, topology, arms with their predictions, and the
steps. Pure.

INCONCLUSIVE   the control did not behave as predicted, or an arm could not be carried out, or has no prediction for its size: nothing follows
REFUTED        the control behaved, but another arm did not do what was predicted
SUPPORTED      every arm did what was predicted
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from twlab import user_file
from twlab.errors import ScenarioError, UsageError, did_you_mean
from twlab.numerals import real, whole
from twlab.observation import Observation
from twlab.settings import Settings, no_such_setting, parse_setting, setting_names


class Verdict(StrEnum):
    """What a run says about its hypothesis. A value, never an exception."""

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

    def chosen(self, wanted: Sequence[str]) -> list[str]:
        """The arms that `wanted` names, each by its own name or by its role, in the scenario's
        order; all where nothing is named.

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
        """The settings of `node` in `arm`: base, then the arm's, then the arm's for this node, then
        `overrides`.
        """
        chosen = self.arms[arm]
        settings = chosen.settings.over(self.base)
        if node in chosen.on:
            settings = chosen.on[node].over(settings)
        return overrides.over(settings) if overrides else settings

    def topology_in(self, arm: str = "control", given: Mapping[str, Any] | None = None) -> str:
        """The topology of `arm`, the arguments of its steps filled in, where `given` overrides the
        arm's own.
        """
        return self.topology.format(**{**self.parameters, **self.arms[arm].given, **(given or {})})

    @property
    def parameters(self) -> dict[str, Any]:
        """Arguments that the steps take beside the lab, with their defaults: settable with
        ``--set`` like settings.
        """
        return {
            name: p.default for name, p in inspect.signature(self.steps).parameters.items() if p.kind is p.KEYWORD_ONLY
        }

    def as_dict(self) -> dict[str, Any]:
        """Return what ``twlab explain --json`` prints: the claim, the network, and each arm with
        its prediction.
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
                }
                for name, arm in self.arms.items()
            },
        }

    def resized(self, arm: str, overrides: Overrides) -> dict[str, Any]:
        """Return the sizes that `overrides` changes in `arm`, name to new value."""
        chosen = self.arms[arm]
        own = {**self.parameters, **chosen.given}
        changed = {
            name: value for name, value in overrides.given.items() if name not in _NO_SIZE and value != own[name]
        }
        before = [self.settings_for(arm, node).as_dict() for node in chosen.on or ("",)]
        sizes = {name: value for name, value in overrides.settings.as_dict().items() if name in self.sizes}
        return changed | {
            name: value for name, value in sizes.items() if any(values.get(name) != value for values in before)
        }

    def prediction(self, arm: str, overrides: Overrides | None = None) -> Observation | None:
        """Return what `arm` is predicted to show, or None where its size has no prediction.

        A setting that is no size leaves the prediction as it is: whether it still holds is then the
        question.
        """
        if not overrides or not self.resized(arm, overrides):
            return self.arms[arm].expect
        if not self.predict:
            return None
        given = {**self.parameters, **self.arms[arm].given, **overrides.given}
        return self.predict(arm, lambda node: self.settings_for(arm, node, overrides.settings), given)

    @property
    def digest(self) -> str:
        """Of the file that it stands in: what was found with one text of it is not mixed with what
        is found with another.
        """
        file = inspect.getsourcefile(self.steps)
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12] if file else ""


def scenario(
    *,
    topology: str,
    control: Arm,
    treatment: Arm | Mapping[str, Arm],
    remedies: Mapping[str, Arm] | None = None,
    base: Settings | None = None,
    reads: str = "",
    predict: Predict | None = None,
    sizes: Iterable[str] = (),
) -> Callable[[Callable[..., Observation]], Scenario]:
    """Make a `Scenario` of the function below: its name, its docstring's claim, and its steps.

    Args:
        topology: name and options, e.g. ``proxy`` or ``nat,clients=2``; ``nat,clients={clients}``
            has an argument of the steps in it.
        control: TIME_WAIT as the RFC wants it. Without it, nothing that the treatment shows has a
            cause.
        treatment: what the claim is about; several as a mapping of names.
        remedies: what is said to help, and what is wrongly said to.
        base: settings that all arms share.
        reads: the sources.
        predict: what an arm shows with another size than its own: called with the arm's name, a
            function from a node's name to its settings, and the arguments of the steps; None where
            it cannot be said, or it is another claim then.
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
            "treatment": {"treatment": treatment} if isinstance(treatment, Arm) else dict(treatment),
            "remedy": dict(remedies or {}),
        }
        arms = {arm: value for group in groups.values() for arm, value in group.items()}
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
        )
        for arm, value in arms.items():
            if not value.expect:
                raise ScenarioError(
                    f"arm {arm} of {name} predicts nothing, so it cannot fail",
                    "name at least one fact in its Observation",
                    "checks-nothing",
                )
            if unknown := set(value.given) - set(made.parameters):
                raise ScenarioError(
                    f"arm {arm} of {name} gives {', '.join(sorted(unknown))}, which its steps do not take",
                    "add a keyword argument",
                    "no-such-argument",
                )
        try:
            made.topology_in()
        except (KeyError, IndexError, ValueError) as error:
            message = f"the topology of {name} has {topology!r}, where {error} is no argument of the steps"
            raise ScenarioError(message, "add a keyword argument", "no-such-argument") from None
        return made

    return decorate


@dataclass(frozen=True)
class Overrides:
    """What ``--set`` changes: settings and arguments of the steps. It applies to every arm but the
    control, which stays what it is, unless the control is asked for by name.

    Attributes:
        settings: of every node.
        given: arguments of the steps.
        on: of single nodes, over `settings`, by node name: from ``NODE:KEY=VALUE``.
    """

    settings: Settings = field(default_factory=Settings)
    given: Mapping[str, Any] = field(default_factory=dict)
    on: Mapping[str, Settings] = field(default_factory=dict)

    def at(self, node: str) -> Settings:
        """What they change on `node`."""
        return self.on[node].over(self.settings) if node in self.on else self.settings

    @classmethod
    def parse(cls, pairs: list[str], scenarios: list[Scenario]) -> Overrides:
        """From ``KEY=VALUE`` and ``NODE:KEY=VALUE`` texts. An argument must be one of every
        scenario named, and has its default's type.

        Raises:
            UsageError: not of that form, no such setting, or no value for it.
        """
        settings: dict[str, Any] = {}
        given: dict[str, Any] = {}
        on: dict[str, dict[str, Any]] = {}
        for pair in pairs:
            key, sign, text = pair.partition("=")
            if not sign or not key or key.startswith(":"):
                raise UsageError(
                    f"--set {pair} is not of the form KEY=VALUE", "for example: --set time_wait_s=10", "bad-setting"
                )
            node, colon, name = key.partition(":")
            if colon:
                on.setdefault(node, {})[name] = parse_setting(name, text)
                continue
            defaults = [s.parameters[key] for s in scenarios if key in s.parameters]
            if key not in setting_names() and defaults and len(defaults) == len(scenarios):
                given[key] = _parse_like(key, text, defaults[0])
            else:
                if key not in setting_names():
                    raise no_such_setting(key, [name for s in scenarios for name in s.parameters])
                settings[key] = parse_setting(key, text)
        return cls(Settings(**settings), given, {node: Settings(**values) for node, values in on.items()})

    def check_nodes(self, names: Sequence[str], topology: str) -> None:
        """Raise UsageError where they set a node that is not one of `names`, those of `topology`
        (``no-such-node``).
        """
        if unknown := sorted(set(self.on) - set(names)):
            message = (
                f"--set names the node {unknown[0]!r}, which {topology} does not have{did_you_mean(unknown[0], names)}"
            )
            raise UsageError(message, f"its nodes are: {', '.join(names)}", "no-such-node")


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


def load_scenarios() -> dict[str, Scenario]:
    """All scenarios that come with twlab, by name, in the order of their files."""
    package = importlib.import_module("twlab.scenarios")
    modules = [
        importlib.import_module(f"twlab.scenarios.{info.name}") for info in pkgutil.iter_modules(package.__path__)
    ]
    return {s.name: s for module in modules for s in _scenarios_in(module)}


def find_scenario(name: str) -> Scenario:
    """The scenario called `name`, or the one in the file of that path (``lab/mine.py``, or
    ``lab/mine.py:second-claim``).

    Raises:
        UsageError: nothing of that name (``no-such-scenario``), or a file that holds no scenario
            (``broken-scenario-file``).
    """
    path, _, wanted = name.partition(":")
    if path.endswith(".py"):
        found = _load_file(Path(path))
        if wanted and wanted not in found:
            near = did_you_mean(wanted, found)
            raise UsageError(
                f"{path} holds no scenario called {wanted!r}{near}", f"it holds: {', '.join(found)}", "no-such-scenario"
            )
        return found[wanted] if wanted else next(iter(found.values()))
    known = load_scenarios()
    if name not in known:
        near = did_you_mean(name.replace("_", "-"), known)
        raise UsageError(
            f"there is no scenario called {name!r}{near}", f"the scenarios are: {', '.join(known)}", "no-such-scenario"
        )
    return known[name]


def _load_file(path: Path) -> dict[str, Scenario]:
    found = {s.name: s for s in _scenarios_in(user_file.load(path, f"scenario_{path.stem}", "broken-scenario-file"))}
    if not found:
        raise UsageError(f"{path} holds no scenario", "decorate a function with @scenario(...)", "broken-scenario-file")
    return found


def _as_settings(values: Settings | Mapping[str, Any]) -> Settings:
    if isinstance(values, Settings):
        return values
    for name in values:
        if name not in setting_names():
            remedy = f"the settings are: {', '.join(setting_names())}"
            raise UsageError(
                f"there is no setting called {name!r}{did_you_mean(name, setting_names())}",
                remedy,
                "no-such-setting",
            )
    return Settings(**values)


def _scenarios_in(module: object) -> list[Scenario]:
    return [value for value in vars(module).values() if isinstance(value, Scenario)]


def _parse_like(key: str, text: str, default: Any) -> Any:
    words = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}
    try:
        if isinstance(default, bool):
            return words[text.lower()]
        read: Callable[[str], Any] = {int: whole, float: real}.get(type(default), type(default))
        return read(text)
    except (KeyError, ValueError):
        raise UsageError(
            f"{key}={text} is not possible: a value like {default!r} is wanted",
            f"for example: --set {key}={default}",
            "bad-setting",
        ) from None
