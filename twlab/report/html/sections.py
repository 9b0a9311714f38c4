"""The sections of a report: a run with its arms, in markup."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from twlab.report.html import ladders, line_chart, series, topology_svg
from twlab.report.html.filling import environment
from twlab.report.html.packing import Room, pack
from twlab.report.ladder.folding import listed
from twlab.report.text import tables
from twlab.results.result import ArmResult, Result

_MOST_ENTRIES = 200


class Sections:
    """Makes sections for the page `out`, as long as there is room on it.

    Args:
        named: what a hint in a ladder calls the run's folder; empty: its path.
    """

    def __init__(self, out: Path, named: str = ""):
        self.environment = environment("twlab.report.html")
        self._out = out
        self._named = named
        self._room = Room()

    def render(self, template: str, **values: Any) -> Markup:
        """Fill in a template of this package."""
        return Markup(self.environment.get_template(template).render(**values))

    def run(self, result: Result, folder: Path, anchor: str) -> Markup:
        """Return the section of one run.

        Raises:
            KeyError, TypeError, AttributeError, ValueError, jinja2.TemplateError: the result holds
                values that no result has.
        """
        arms = [self.arm(name, arm, result, folder) for name, arm in result.arms.items()]
        more = {"networks": _networks(result), "tables": tables.of(result), "opened": _opened(result)}
        return self.render("run.html.j2", result=result, folder=folder, anchor=anchor, arms=arms, **more)

    def arm(self, name: str, arm: ArmResult, result: Result, folder: Path) -> dict[str, Any]:
        """Return what a template shows of one arm beyond its fields."""
        capture = folder / arm.capture if arm.capture else None
        appendix = self.render(
            "appendix.html.j2",
            name=name,
            arm=arm,
            entries=arm.transcript[:_MOST_ENTRIES],
            more=max(0, len(arm.transcript) - _MOST_ENTRIES),
            settings=_settings(arm),
            differs=_differs(arm, result),
            counters=sorted({counter for moved in arm.counters.values() for counter in moved}),
        )
        return {
            "name": name,
            "arm": arm,
            "facts": list(arm.predicted) + [fact for fact in arm.observed if fact not in arm.predicted],
            "wrong": [mismatch.split(":")[0] for mismatch in arm.mismatches],
            "capture": quote(os.path.relpath(capture, self._out.parent)) if capture and capture.exists() else "",
            "plots": [(plot.title, line_chart.draw(plot, arm.virtual_s)) for plot in series.of(arm)],
            "appendix": pack(appendix),
            **self._ladder(name, capture, folder),
        }

    def _ladder(self, name: str, capture: Path | None, folder: Path) -> dict[str, Any]:
        pieces, narrow, why = ladders.draw(folder, name, capture) if capture else ([], [], "This arm left no capture.")
        placed, small = None, ""
        if pieces:
            pieces = [
                piece if not piece.packed or self._room.fold(piece.packed) else replace(piece, packed=None)
                for piece in pieces
            ]
            folds = sum(len(piece.packed or "") for piece in pieces)
            about = {"folder": self._named or folder, "name": name}
            placed = self._room.place(self.render("ladder.html.j2", pieces=pieces, **about), folds)
            small = self._room.once_more(self.render("ladder.html.j2", pieces=narrow, **about))
            why = f"No room for it on this page: twlab show {folder} --arm {name}"
        plain, packed = placed or ("", "")
        return {
            "ladder": Markup(plain),
            "ladder_packed": packed,
            "ladder_narrow": small,
            "no_ladder": "" if placed else why,
        }


def _opened(result: Result) -> str:
    """Return the arm to show first.

    One that did not go as predicted, or else the treatment.
    """
    by_interest = sorted(
        result.arms, key=lambda name: (result.arms[name].ok is True, result.arms[name].role != "treatment")
    )
    return by_interest[0] if by_interest else ""


def _settings(arm: ArmResult) -> list[tuple[str, dict[str, Any], dict[str, str]]]:
    """Return the settings and how they were applied; equal nodes share a row."""
    alike: dict[str, list[str]] = {}
    for node, values in arm.settings.items():
        if values:
            alike.setdefault(repr((values, arm.mechanisms.get(node))), []).append(node)
    return [(listed(nodes), arm.settings[nodes[0]], arm.mechanisms.get(nodes[0], {})) for nodes in alike.values()]


def _differs(arm: ArmResult, result: Result) -> list[tuple[str, str, Any]]:
    """Return the values that differ from the control's: nodes, setting, value."""
    control = next((other for other in result.arms.values() if other.role == "control"), arm)
    alike: dict[tuple[str, str], tuple[list[str], Any]] = {}
    for node, values in arm.effective.items():
        for key, value in values.items():
            if value != control.effective.get(node, {}).get(key):
                alike.setdefault((key, repr(value)), ([], value))[0].append(node)
    return [(listed(nodes), key, value) for (key, _), (nodes, value) in alike.items()]


def _networks(result: Result) -> list[tuple[Markup, str]]:
    """Return the drawing of each network that arms ran on, and its caption.

    One where all arms ran on the same.
    """
    usual = {**result.network, "topology": result.topology}
    arms: list[tuple[dict[str, Any], list[str]]] = []
    for name, arm in result.arms.items():
        network = arm.network or usual
        known = next((names for other, names in arms if other == network), None)
        if known is None:
            arms.append((network, [name]))
        else:
            known.append(name)
    found = []
    for network, names in arms or [(usual, [])]:
        nodes, links = network.get("nodes"), network.get("links")
        ladders = topology_svg.topology(nodes, links) if nodes and links else Markup("")
        whose = f" ({'arms' if len(names) > 1 else 'arm'} {', '.join(names)})" if len(arms) > 1 else ""
        found.append((ladders, f"{network.get('topology', '')}{whose}"))
    return found
