"""A teacher's assignment: questions with points, and parameters for each student."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import tomllib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twlab import user_file
from twlab.catalogue import find_scenario
from twlab.errors import LabError, UsageError
from twlab.grading import formula
from twlab.overrides import Overrides
from twlab.scenario import Scenario
from twlab.settings import Settings

SCHEMA = 1
KINDS = ("prediction", "number", "choice", "scenario", "open")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_FOR_ALL = {"id", "kind", "points", "text"}
_RUN = {"scenario", "arm", "set"}
_KEYS = {
    "prediction": _RUN | {"fact", "tolerance"},
    "number": _RUN | {"formula", "tolerance"},
    "choice": _RUN | {"arms", "safe"},
    "scenario": {"uses"},
    "open": set(),
}
_NEEDED = {
    "prediction": ("scenario", "arm", "fact"),
    "number": ("formula",),
    "choice": ("scenario", "safe"),
    "scenario": (),
    "open": (),
}
_MOST_COMBINATIONS = 10_000  # of parameters in one question: more could not be looked through
_TOLERANCE = {"number": 0.01}


@dataclass(frozen=True)
class Question:
    """One question; `docs/guides/grading.md` says what each key means.

    `{name}` in values stands for a student's number.

    Attributes:
        source: the scenario, as a lab kernel finds it; empty where nothing is run.
        arms: the arms that can be chosen (choice).
        role_arm: the arm that is observed (prediction, number), or that shows the harm (choice).
        sets: setting or argument to value.
        uses: setting to value that the treatment of a student's scenario must have.
    """

    id: str
    kind: str
    points: float
    text: str
    source: str = ""
    role_arm: str = ""
    sets: Mapping[str, Any] = field(default_factory=dict)
    fact: str = ""
    tolerance: float = 0.0
    formula: str = ""
    arms: tuple[str, ...] = ()
    safe: Mapping[str, Any] = field(default_factory=dict)
    uses: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Assignment:
    """All questions.

    Attributes:
        parameters: name to the values that a student may get.
        seed: from which, with a student's id, his values follow.
        digest: of the assignment and of the teacher's own scenario files in it.
    """

    title: str
    seed: int
    parameters: Mapping[str, tuple[Any, ...]]
    questions: tuple[Question, ...]
    digest: str

    def numbers_for(self, student: str) -> dict[str, Any]:
        """Return the student's value of each parameter; the same for the same seed and id."""
        name = unicodedata.normalize("NFC", student)
        drawn = {
            key: hashlib.sha256(f"{self.seed}\0{name}\0{key}".encode(errors="replace")).digest()
            for key in self.parameters
        }
        return {key: values[int.from_bytes(drawn[key], "big") % len(values)] for key, values in self.parameters.items()}


def filled(value: Any, numbers: Mapping[str, Any]) -> Any:
    """Replace ``{name}`` in `value`.

    A text that is only ``{name}`` becomes the number itself.
    """
    if not isinstance(value, str):
        return value
    if value[1:-1] in numbers and value == f"{{{value[1:-1]}}}":
        return numbers[value[1:-1]]
    for name, number in numbers.items():
        value = value.replace(f"{{{name}}}", str(number))
    return value


def pairs(sets: Mapping[str, Any], numbers: Mapping[str, Any]) -> list[str]:
    """``KEY=VALUE`` texts, as ``--set`` takes them."""
    words = {True: "on", False: "off"}
    return [
        f"{key}={words[value] if isinstance(value, bool) else value}"
        for key, raw in sets.items()
        for value in [filled(raw, numbers)]
    ]


def load_assignment(path: Path, seed: int | None = None) -> Assignment:
    """Load the assignment in the file `path`; `seed` replaces its seed.

    Raises:
        UsageError: there is no such file (``no-assignment``), or it is wrong (``broken-
        assignment``).
    """
    try:
        data = path.read_bytes()
        values = tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(
            f"there is no assignment at {path}: {error.strerror}",
            "name it with --assignment FILE.toml",
            "no-assignment",
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is no TOML: {error}", "docs/guides/grading.md shows an assignment", "broken-assignment"
        ) from error
    reader = _Reader(path)
    return reader.assignment(values, data, seed)


class _Reader:
    """Checks an assignment while it makes it: every complaint names file and question."""

    def __init__(self, path: Path):
        self._path = path
        self._where = ""
        self._sources: dict[str, bytes] = {}

    def assignment(self, values: dict[str, Any], data: bytes, seed: int | None) -> Assignment:
        self._require(
            values.get("schema") == SCHEMA,
            f"says schema = {values.get('schema')!r}; this twlab reads schema = {SCHEMA}",
        )
        self._only(values, {"schema", "title", "seed", "parameters", "questions"})
        chosen = values.get("seed", 1) if seed is None else seed
        self._require(_is(chosen, int), f"has seed = {chosen!r}, which is no whole number")
        parameters = self._parameters(values.get("parameters", {}))
        listed = values.get("questions")
        self._require(_is(listed, list) and listed, "asks nothing: it has no [[questions]]")
        questions = []
        for number, entry in enumerate(listed or [], 1):
            self._where = f", question {number}"
            self._require(_is(entry, dict), "is no table")
            questions.append(self._question(entry, parameters))
            self._require(
                len({question.id for question in questions}) == number,
                f"has the id {questions[-1].id!r} of another one",
            )
        digest = hashlib.sha256(
            json.dumps(
                [data.hex(), chosen, {name: text.hex() for name, text in sorted(self._sources.items())}]
            ).encode()
        )
        return Assignment(
            str(values.get("title", self._path.stem)), chosen, parameters, tuple(questions), digest.hexdigest()
        )

    def _parameters(self, values: Any) -> dict[str, tuple[Any, ...]]:
        self._require(_is(values, dict), "has parameters that are no table")
        for name, listed in values.items():
            self._require(name.isidentifier(), f"has a parameter called {name!r}; letters, digits and _ are possible")
            possible = _is(listed, list) and listed and all(_is(value, int, float, str) for value in listed)
            self._require(possible, f"gives no list of values for {name}")
        return {name: tuple(listed) for name, listed in values.items()}

    def _question(self, entry: dict[str, Any], parameters: Mapping[str, tuple[Any, ...]]) -> Question:
        kind, name, points = entry.get("kind"), entry.get("id"), entry.get("points", 1)
        self._require(
            _is(name, str) and _NAME.fullmatch(name or ""),
            f"has the id {name!r}; letters, digits, - and _ are possible",
        )
        self._where = f", question {name}"
        self._require(kind in KINDS, f"is of kind {kind!r}; there are {', '.join(KINDS)}")
        assert isinstance(kind, str) and isinstance(name, str)
        self._only(entry, _FOR_ALL | _KEYS[kind])
        if lacking := [key for key in _NEEDED[kind] if key not in entry]:
            self._complain(f"lacks {lacking[0]}")
        self._require(_is(points, int, float) and 0 <= points < 1e6, f"has points = {points!r}")
        tolerance = entry.get("tolerance", _TOLERANCE.get(kind, 0.0))
        self._require(
            _is(tolerance, int, float) and 0 <= tolerance < 1,
            f"has tolerance = {tolerance!r}; expected a share from 0 to 1",
        )
        for key in ("text", "scenario", "arm", "fact", "formula"):
            self._require(_is(entry.get(key, ""), str), f"has a {key} that is no text")
        for key in ("set", "safe", "uses"):
            self._require(
                _is(entry.get(key, {}), dict), f"has a {key} that is no table, as in {key} = {{ time_wait_s = 10 }}"
            )
        question = Question(
            name,
            kind,
            float(points),
            entry.get("text", ""),
            fact=entry.get("fact", ""),
            tolerance=float(tolerance),
            sets=entry.get("set", {}),
            formula=entry.get("formula", ""),
            safe=entry.get("safe", {}),
            uses=entry.get("uses", {}),
        )
        self._require(question.safe or kind != "choice", "has a safe that names no fact")
        self._try_all(question.uses, parameters, lambda settings: Settings(**settings))
        if kind == "number":
            self._check_formula(question, parameters, runs="scenario" in entry)
        return self._with_scenario(question, entry, parameters) if "scenario" in entry else question

    def _check_formula(self, question: Question, parameters: Mapping[str, Any], *, runs: bool) -> None:
        try:
            unknown = formula.names(question.formula) - set(parameters)
        except ValueError as error:
            self._complain(str(error))
        if unknown and not runs:
            self._complain(
                f"has {sorted(unknown)[0]} in its formula, which is no parameter; for a fact, name scenario and arm"
            )

    def _with_scenario(
        self, question: Question, entry: dict[str, Any], parameters: Mapping[str, tuple[Any, ...]]
    ) -> Question:
        source = entry["scenario"]
        if user_file.split(source)[0]:
            source = str((self._path.parent / source).resolve())
        try:
            scenario = find_scenario(source)
            if user_file.split(source)[0]:
                self._sources[entry["scenario"]] = Path(user_file.split(source)[0]).read_bytes()
        except (LabError, OSError) as error:
            self._complain(getattr(error, "message", str(error)))
        treatments = [arm for arm, role in scenario.roles.items() if role == "treatment"]
        remedies = [arm for arm, role in scenario.roles.items() if role == "remedy"]
        arm = entry.get("arm", treatments[0] if question.kind == "choice" else "")
        arms = entry.get("arms", remedies) if question.kind == "choice" else []
        self._require(_is(arms, list) and all(_is(name, str) for name in arms), "has arms that are no list of names")
        for name in [arm, *arms]:
            self._require(
                name in scenario.arms,
                f"names the arm {name!r}; the arms of {scenario.name} are {', '.join(scenario.arms)}",
            )
        self._require(arms or question.kind != "choice", f"has nothing to choose from: {scenario.name} has no remedies")
        self._try_all(question.sets, parameters, lambda sets: _try_sets(sets, scenario))
        return Question(**{**vars(question), "source": source, "role_arm": arm, "arms": tuple(arms)})

    def _try_all(
        self,
        raw: Mapping[str, Any],
        parameters: Mapping[str, tuple[Any, ...]],
        check: Callable[[dict[str, Any]], object],
    ) -> None:
        """No student may get a value with which the question cannot be checked."""
        used = [name for name in parameters if any(f"{{{name}}}" in str(value) for value in raw.values())]
        for number, combination in enumerate(itertools.product(*(parameters[name] for name in used))):
            self._require(number < _MOST_COMBINATIONS, "has more combinations of parameters than can be looked through")
            try:
                check({key: filled(value, dict(zip(used, combination, strict=True))) for key, value in raw.items()})
            except UsageError as error:
                values = dict(zip(used, combination, strict=True)) or "what it sets"
                self._complain(f"is not possible with {values}: {error.message}")
            except TypeError:
                self._complain(f"names a setting that does not exist: {', '.join(raw)}")

    def _only(self, values: dict[str, Any], known: set[str]) -> None:
        if unknown := sorted(set(values) - known):
            self._complain(f"has {unknown[0]}, which means nothing here; known are {', '.join(sorted(known))}")

    def _require(self, holds: object, otherwise: str) -> None:
        if not holds:
            self._complain(otherwise)

    def _complain(self, what: str) -> Any:
        raise UsageError(
            f"{self._path}{self._where} {what}", "docs/guides/grading.md describes assignments", "broken-assignment"
        )


def _try_sets(sets: dict[str, Any], scenario: Scenario) -> None:
    Overrides.parse(pairs(sets, {}), [scenario])


def _is(value: object, *kinds: type) -> bool:
    """Of one of these types; a truth value is not taken for a number."""
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
