"""A run as an object: verdict, arms, observations, packets, ladders, plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from markupsafe import Markup

from twlab.errors import LabError, UsageError, did_you_mean
from twlab.notebook.frames import table
from twlab.notebook.shown import Shown
from twlab.report.html import line_chart, series, topology_svg
from twlab.report.html.ladders import MOST_BYTES
from twlab.report.ladder import ladder as ladders
from twlab.report.ladder import svg
from twlab.report.ladder import text as ladder_text
from twlab.report.text import facts, show
from twlab.results.pcapng import read_capture
from twlab.results.result import ArmResult, Result
from twlab.scenario import Verdict

_COLUMNS = 120  # of a ladder as text
_LONGEST_BYTES = 400_000  # of a ladder inside a run; alone it may be longer
_PACKETS = (
    "number", "at_s", "interface", "outbound", "source", "source_port", "destination", "destination_port",
    "flags", "seq", "ack", "length", "window", "tsval", "tsecr", "comment",
)  # fmt: skip


class LadderView(Shown):
    """The ladder of an arm: segments over time, with what the lab did to them."""

    template = "ladder.html.j2"

    def __init__(self, folder: Path, arm: str):
        self._ladder = ladders.read(folder, arm)

    def text(self) -> str:
        return ladder_text.draw(self._ladder, _COLUMNS, False, False)

    @property
    def unfolded(self) -> str:
        """The ladder as text, with each segment of the bulk."""
        return ladder_text.draw(self._ladder.unfolded(), _COLUMNS, False, False)

    @property
    def svg(self) -> str:
        """The ladder as one ``<svg>`` element, which can be saved as a file."""
        return svg.draw(self._ladder)

    def values(self) -> dict[str, Any]:
        return {"svg": Markup(self.svg)}


class PlotView(Shown):
    """Curves over time: TIME_WAIT sockets, ports held, connects.

    Attributes:
        title: what is counted.
        curves: name to points ``(at_s, value)``; a value holds until the next.
    """

    template = "plot.html.j2"

    def __init__(self, plot: series.Plot, last_s: float):
        self.title, self.curves = plot.title, plot.curves
        self._plot, self._last_s = plot, last_s

    def text(self) -> str:
        peaks = ", ".join(f"{name} at most {max(v for _, v in points):,g}" for name, points in self.curves.items())
        return f"{self.title} over {self._last_s:.4g} s: {peaks}"

    def values(self) -> dict[str, Any]:
        return {"title": self.title, "svg": line_chart.draw(self._plot, self._last_s)}


class RunArm(Shown):
    """One arm of a run.

    Attributes:
        name, role: ``control``, ``treatment`` or ``remedy``.
        result: all of its evidence, see `twlab.results.evidence.ArmEvidence`.
    """

    template = "arm.html.j2"

    def __init__(self, name: str, result: ArmResult, folder: Path):
        self.name, self.role, self.result = name, result.role, result
        self._folder = folder

    @property
    def ok(self) -> bool | None:
        """Whether all was observed as predicted; None: the arm has no verdict."""
        return self.result.ok

    @property
    def observed(self) -> dict[str, Any]:
        """Fact to observed value."""
        return self.result.observed

    @property
    def predicted(self) -> dict[str, Any]:
        """Fact to predicted value, or to ``{"low", "high"}``."""
        return self.result.predicted

    @property
    def counters(self) -> dict[str, dict[str, int]]:
        """Node to the kernel's counters that moved, by name."""
        return self.result.counters

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Node to the settings that were applied."""
        return self.result.settings

    @property
    def capture(self) -> Path:
        """The file of its packets, for Wireshark."""
        return self._folder / (self.result.capture or f"{self.name}.pcapng")

    @cached_property
    def packets(self) -> Any:
        """Each TCP segment at each interface, a row each.

        It is a DataFrame, or a list of dicts without pandas.

        Columns: number in the capture, ``at_s`` since the arm began, interface, outbound, addresses
        and ports, flags, seq, ack, length, window, tsval, tsecr (None without timestamps), and the
        comment that says what the lab did to it.

        Raises:
            UsageError: the arm left no capture, or a damaged one.
        """
        rows = []
        for seen in read_capture(self.capture):
            one = seen.segment
            stamps = one.timestamp or (None, None)
            rows.append(
                dict(
                    zip(
                        _PACKETS,
                        (seen.number, one.at_s, seen.interface, seen.outbound, *one.flow, one.flags, one.seq, one.ack,
                         one.length, one.window, *stamps, seen.comment),
                        strict=True,
                    )
                )
            )  # fmt: skip
        return table(rows, _PACKETS)

    @cached_property
    def ladder(self) -> LadderView:
        """Its ladder diagram.

        Raises:
            UsageError: the arm left no capture, or a damaged one.
        """
        return LadderView(self._folder, self.name)

    @property
    def plots(self) -> list[PlotView]:
        """The curves over time that have something to show."""
        return [PlotView(plot, self.result.virtual_s) for plot in series.of(self.result)]

    def text(self) -> str:
        lines = [f"{self.name} ({self.role}): {self.result.outcome}"]
        lines += [f"  predicted  {facts.line(self.predicted) or 'nothing'}"]
        lines += [f"  observed   {facts.line(self.observed) or 'nothing'}"]
        return "\n".join(lines)

    def values(self) -> dict[str, Any]:
        return {"arm": self, "facts": self._facts(), "wrong": self._wrong(), "drawn": self.drawn()}

    def _facts(self) -> list[str]:
        return list(self.predicted) + [fact for fact in self.observed if fact not in self.predicted]

    def _wrong(self) -> list[str]:
        return [mismatch.split(":")[0] for mismatch in self.result.mismatches]

    def drawn(self) -> tuple[Markup, str]:
        """Return the ladder for a page, or nothing and the reason why it is missing."""
        if self.capture.exists() and self.capture.stat().st_size > MOST_BYTES:
            return Markup(), "Too long to draw here: .ladder draws it alone."
        try:
            drawn = self.ladder.svg
        except LabError as error:
            return Markup(), str(error)
        if len(drawn) > _LONGEST_BYTES:
            return Markup(), "Too long to draw here: .ladder draws it alone."
        return Markup(drawn), ""


class Run(Shown):
    """One run of a scenario.

    Attributes:
        folder: where its files are.
        result: the record, see `twlab.results.result.Result`.
        arms: name to arm, in the order of the scenario.
    """

    template = "run.html.j2"

    def __init__(self, result: Result, folder: Path):
        self.result, self.folder = result, folder
        self.arms: Mapping[str, RunArm] = MappingProxyType(
            {name: RunArm(name, arm, folder) for name, arm in result.arms.items()}
        )

    @property
    def scenario(self) -> str:
        """Its name."""
        return self.result.scenario

    @property
    def verdict(self) -> Verdict:
        """SUPPORTED, REFUTED or INCONCLUSIVE."""
        return self.result.verdict

    @property
    def kernel(self) -> str:
        """Release of the kernel that TCP ran on."""
        return self.result.kernel.split(" ")[0]

    @property
    def engine(self) -> str:
        """``guest`` or ``host``."""
        return self.result.engine

    @property
    def command(self) -> str:
        """The command line that repeats the run."""
        return self.result.command

    @property
    def observations(self) -> Any:
        """A row for each fact of each arm: a DataFrame, or a list of dicts without pandas."""
        rows = [
            {"arm": name, "role": arm.role, "fact": fact, "predicted": arm.predicted.get(fact),
             "observed": arm.observed.get(fact), "ok": fact not in arm._wrong()}
            for name, arm in self.arms.items() for fact in arm._facts()
        ]  # fmt: skip
        return table(rows, ("arm", "role", "fact", "predicted", "observed", "ok"))

    def __getitem__(self, name: str) -> RunArm:
        """Return the arm called `name`.

        Raises:
            UsageError: there is no such arm (``no-such-arm``).
        """
        if name not in self.arms:
            near = did_you_mean(name, self.arms)
            message = f"this run of {self.scenario} has no arm called {name!r}{near}"
            raise UsageError(message, f"its arms are: {', '.join(self.arms)}", "no-such-arm")
        return self.arms[name]

    def __iter__(self) -> Iterator[RunArm]:
        return iter(self.arms.values())

    def __len__(self) -> int:
        return len(self.arms)

    def text(self) -> str:
        head = f"{self.scenario}: {self.verdict}" if not self.result.is_session else self.scenario
        ground = f"{self.engine} engine, Linux {self.kernel or 'not booted'}, in {self.folder}"
        return "\n".join([head, self.result.hypothesis, ground, *(arm.text() for arm in self)])

    def show(self, *arms: str, width: int = _COLUMNS) -> str:
        """Return the text that ``twlab show`` prints, ladders included.

        Args:
            arms: names or roles; none: all.
            width: columns to draw in.
        """
        return "\n".join(show.lines(self.folder, arms, unfold=False, width=width, colour=False))

    def values(self) -> dict[str, Any]:
        network = self.result.network
        drawn = topology_svg.topology(network["nodes"], network["links"]) if network.get("nodes") else Markup()
        arms = [{**arm.values(), "opened": arm.role == "treatment"} for arm in self]
        return {"run": self, "result": self.result, "arms": arms, "network": drawn}
