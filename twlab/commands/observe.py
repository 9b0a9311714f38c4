"""The command `twlab observe`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twlab.commands.console import complain, err, out, own_command
from twlab.errors import LabError, UsageError

if TYPE_CHECKING:
    from twlab.observe.findings import Findings

_REMEMBER_S = 120.0
_LONGEST_S = 1e6  # aggregates have times below it
_LENGTHS_S = (60.0, 30.0, 15.0, 10.0, 1.0)


def _lengths(values: list[float] | None) -> list[float] | None:
    if not all(0 <= value < _LONGEST_S for value in values or ()):
        raise typer.BadParameter(f"expected seconds from 0 to below {_LONGEST_S:,.0f}")
    return values


def _memory(value: float) -> float:
    if not 1 <= value <= _LONGEST_S:
        raise typer.BadParameter(f"expected seconds from 1 to {_LONGEST_S:,.0f}")
    return value


def observe(
    captures: Annotated[
        list[str], typer.Argument(metavar="CAPTURE ...", help="pcap or pcapng files, - for stdin, or folders of runs.")
    ],
    time_wait: Annotated[
        list[float] | None,
        typer.Option(callback=_lengths, metavar="S", help="A length to work out (may be repeated)."),
    ] = None,
    remember: Annotated[
        float, typer.Option(callback=_memory, metavar="S", help="How long packets are remembered.")
    ] = _REMEMBER_S,
    most: Annotated[
        int, typer.Option("--list", min=0, metavar="N", help="Late packets to show with their evidence.")
    ] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a line for each late packet.")] = None,
    file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the JSON, for twlab report.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the flows concerned as commented pcapng.")
    ] = None,
    anonymize: Annotated[
        bool, typer.Option("--anonymize", help="Replace addresses, keeping prefixes, and drop payload.")
    ] = False,
    publish: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write aggregate figures without addresses.")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Add up files that --publish wrote.")] = False,
) -> None:
    """Find late segments of closed connections in captures.

    Printed are how late they were, what they met, and what a shorter TIME_WAIT would let through.
    Exit status: 0 all was read; 1 a file could not be read to its end, and what was read is shown;
    2 nothing could be read.
    """
    if merge:
        _merge(captures, as_json, publish)
        return
    _check(captures, export)
    found = [_observe(title, paths, time_wait or _LENGTHS_S, remember) for title, paths in _captures(captures)]
    drawings: list[Any] = [[] for _ in found]
    if file and not anonymize:
        from twlab.observe.ladder import ladders

        drawings = [ladders(one) for one in found]
    if export or anonymize:
        _hand_on(found, export, anonymize)
    command = _anonymous(found, time_wait or (), remember) if anonymize else own_command()
    _write(found, drawings, command, csv, file, publish)
    if as_json:
        from twlab.observe.record import as_dict

        print(json.dumps(as_dict(found, command), indent=1))
    else:
        _show(found, most)
    faults = [fault for one in found for fault in one.faults]
    for fault in faults:
        complain(f"{fault}; what was read before it is shown")
    if faults:
        raise typer.Exit(1)


def _anonymous(found: Sequence[Findings], lengths_s: Sequence[float], remember_s: float) -> str:
    """Return the command with the names that stand for those of its files."""
    words = [name for one in found for name, _ in one.files]
    words += [word for length_s in lengths_s for word in ("--time-wait", f"{length_s:g}")]
    words += ["--remember", f"{remember_s:g}"] if remember_s != _REMEMBER_S else []
    return shlex.join(["twlab", "observe", *words, "--anonymize"])


def _check(captures: Sequence[str], export: Path | None) -> None:
    if captures.count("-") > 1:
        raise UsageError("standard input can be read once only", "name - once", "bad-observation")
    for name in captures if export else ():
        if name == "-" or (Path(name).exists() and not Path(name).is_file() and not Path(name).is_dir()):
            raise UsageError(
                f"--export reads captures a second time, and {'standard input' if name == '-' else name} cannot be",
                "save the capture first",
                "bad-observation",
            )


def _captures(names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return titles and files of the observations.

    All captures that are named make one observation. Each arm of a run makes one by itself.
    """
    files: list[str] = []
    found: list[tuple[str, list[str]]] = []
    for name in names:
        path = Path(name)
        if name == "-" or not path.is_dir():
            files.append(name)
            continue
        from twlab.results.result import FILE, read_result

        folders = [path] if (path / FILE).exists() else [inner.parent for inner in sorted(path.glob(f"*/{FILE}"))]
        if not folders:
            raise UsageError(
                f"{name} is a folder without a run",
                "name capture files, or folders that twlab run has made",
                "no-result",
            )
        for folder in folders:
            result = read_result(folder)
            arms = {arm: each.capture for arm, each in result.arms.items() if each.capture}
            found += [(f"{result.scenario} {arm}", [str(folder / Path(capture).name)]) for arm, capture in arms.items()]
    return [("", files), *found] if files else found


def _observe(title: str, paths: list[str], lengths_s: Sequence[float], remember_s: float) -> Findings:
    from twlab.commands.progress import is_live
    from twlab.observe.reading import observe as read

    def progress(frames: int) -> None:
        err.print(f"{frames:,} frames", end="\r")

    live = is_live(err)
    try:
        return read(paths, title=title, lengths_s=lengths_s, remember_s=remember_s, progress=progress if live else None)
    finally:
        if live:
            err.print(" " * 40, end="\r")


def _hand_on(found: list[Findings], export: Path | None, anonymize: bool) -> None:
    from twlab.observe.anonymize import Anonymizer
    from twlab.observe.export import write

    names = Anonymizer() if anonymize else None
    if export:
        titles: set[str] = set()
        for one in found:
            for path in write(one, export, titles, names):
                err.print(str(path), markup=False)
    if names:
        for one in found:
            names.findings(one)


def _write(
    found: list[Findings],
    drawings: list[Any],
    command: str,
    csv: Path | None,
    file: Path | None,
    publish: Path | None,
) -> None:
    from twlab.observe import publish as publishing
    from twlab.observe import record

    if csv:
        _put(csv, record.as_csv(found))
    if file:
        values = record.as_dict(found, command)
        for one, drawn in zip(values["observations"], drawings, strict=True):
            one["ladders"] = drawn
        _put(file, json.dumps(values, indent=1) + "\n")
    if publish:
        parts = [publishing.aggregate(one) for one in found]
        _put(publish, json.dumps(parts[0] if len(parts) == 1 else publishing.merge(parts), indent=1) + "\n")


def _put(path: Path, text: str) -> None:
    from twlab.results.files import cannot_write

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as fault:
        raise cannot_write(path, fault) from fault
    err.print(str(path), markup=False)


def _merge(names: Sequence[str], as_json: bool, publish: Path | None) -> None:
    from twlab.observe import publish as publishing
    from twlab.observe.text import summary

    parts: list[dict[str, Any]] = []
    faults: list[LabError] = []
    for name in names:
        try:
            parts.append(publishing.read(Path(name)))
        except LabError as error:
            faults.append(error)
    if not parts:
        raise faults[0]
    total = publishing.merge(parts)
    if publish:
        _put(publish, json.dumps(total, indent=1) + "\n")
    if as_json:
        print(json.dumps(total, indent=1))
    else:
        _print(list(summary(total)))
    for fault in faults:
        complain(str(fault))
    if faults:
        raise typer.Exit(1)


def _show(found: Sequence[Findings], most: int) -> None:
    from twlab.observe.publish import aggregate
    from twlab.observe.text import evidence, notes, pairs, summary

    for number, one in enumerate(found):
        lines: list[Any] = [""] if number else []
        lines += [one.title, "", *notes(one), *summary(aggregate(one))]
        for part in (list(pairs(one, 5)), list(evidence(one, most))):
            lines += ["", *part] if part else []
        _print(lines)


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        out.print(line, markup=False)
