"""The lines of `twlab show`: verdict, predictions, observations, ladders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from twlab.errors import UsageError, did_you_mean
from twlab.report.ladder import ladder
from twlab.report.ladder import text as ladder_text
from twlab.report.text import facts, tables
from twlab.results.result import FILE, ArmResult, Result, read_result


def found(runs: Sequence[Path], *, every: bool) -> list[Path]:
    """Return the runs that are meant, oldest first.

    Args:
        runs: folders of runs, or their ``result.json``; or folders that hold such folders, of which
            the newest run is meant. Empty: the folder ``runs``.
        every: all runs of such a folder.

    Raises:
        UsageError: a folder holds no run (``no-result``).
    """
    meant: list[Path] = []
    for path in runs or [Path("runs")]:
        inner = [path] * bool(runs)
        if path.is_dir() and not (path / FILE).exists():
            inner = sorted((file.parent for file in path.glob(f"*/{FILE}")), key=_begun)
        if not inner:
            raise UsageError(f"there is no run in {path}", "run one first, e.g. twlab run stale-data", "no-result")
        meant += inner if every else inner[-1:]
    return meant


def _begun(folder: Path) -> tuple[int, str]:
    return (folder / FILE).stat().st_mtime_ns, folder.name


def lines(
    run: Path, arms: Sequence[str], *, unfold: bool, width: int, colour: bool, encoding: str = "utf-8"
) -> Iterator[str]:
    """Yield the lines for the run in the folder `run`.

    An arm whose capture is missing or damaged shows that fault; the arms after it follow.

    Args:
        arms: those to show, by name or role; empty: all.

    Raises:
        UsageError: the result cannot be read, see `twlab.results.result.read_result`; or it has no
            such arm (``no-such-arm``).
    """
    result = read_result(run)
    try:
        yield from _lines(result, run, arms, unfold=unfold, width=width, colour=colour, encoding=encoding)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        message = f"{run} holds values that no result has: {type(error).__name__}: {error}"
        raise UsageError(message, "run the scenario again", "broken-result") from error


def shown_arms(result: Result, arms: Sequence[str]) -> list[str]:
    """Return the arms of `result` that `arms` names, by name or by role; all for none.

    Raises:
        UsageError: no arm has that name or role (``no-such-arm``).
    """
    arms = [name for word in arms for name in ({word} & set(result.arms) or _of_role(result, word) or [word])]
    if unknown := [arm for arm in arms if arm not in result.arms]:
        near = did_you_mean(unknown[0], result.arms)
        message = f"this run of {result.scenario} has no arm called {unknown[0]!r}{near}"
        raise UsageError(message, f"its arms are: {', '.join(result.arms)}", "no-such-arm")
    return list(arms or result.arms)


def _lines(
    result: Result, run: Path, arms: Sequence[str], *, unfold: bool, width: int, colour: bool, encoding: str
) -> Iterator[str]:
    wanted = shown_arms(result, arms)
    ascii_only = not _writes(ladder_text.UNICODE, encoding)
    text = [
        f"{result.scenario}: {result.verdict}" if not result.is_session else result.scenario,
        result.hypothesis,
        result.ground,
    ]
    text += [line for made in tables.of(result) for line in ("", *tables.text(made))]
    for name in wanted:
        text += ["", *_arm(name, result.arms[name])]
        try:
            found = ladder.read(run, name)
            text += ladder_text.draw(found.unfolded() if unfold else found, width, colour, ascii_only).split("\n")
        except UsageError as error:
            text.append(f"  no ladder: {error}")
    for line in text:
        yield line.encode(encoding, "replace").decode(encoding)


def _of_role(result: Result, role: str) -> list[str]:
    return [name for name, arm in result.arms.items() if arm.role == role]


def _arm(name: str, arm: ArmResult) -> Iterator[str]:
    if arm.role == "session":
        yield f"{len(arm.given.get('lines', ()))} lines, {arm.virtual_s:.1f} s"
        return
    verdict = {True: "as predicted", False: "NOT as predicted", None: "not carried out"}[arm.ok]
    if arm.no_prediction and not arm.error:
        verdict = arm.no_prediction
    yield f"arm {name}: {verdict}" if name == arm.role else f"arm {name} ({arm.role}): {verdict}"
    yield f"  predicted  {_single(arm.predicted)}"
    yield f"  observed   {_single(arm.observed)}"
    if arm.error:
        yield f"  {arm.error['message']} [{arm.error['slug']}]"
        if arm.error.get("where"):
            yield f"  at {arm.error['where']}"


def _single(values: dict[str, Any]) -> str:
    """Return the facts that are no lists, as one line."""
    return facts.line({name: value for name, value in values.items() if not isinstance(value, list)}) or "nothing"


def _writes(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
