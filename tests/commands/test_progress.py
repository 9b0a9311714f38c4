"""What is told while a run goes on: live where lines can be written over, plain lines elsewhere."""

import io
import re

import pytest
from rich.console import Console

from twlab.commands.progress import Progress, bar
from twlab.results.transcript import Transcript

EVENTS = [
    {"event": "start", "scenario": "rearm", "arm": "rst"},
    {"event": "pulse", "at_s": 1.0, "packets": 1234, "time_wait": 28},
    {"event": "entry", "at_s": 1.0, "kind": "step", "text": "A reset [late] arrives."},
    {"event": "entry", "at_s": 1.5, "kind": "verb", "node": "client", "text": "closes"},
]
DONE = {"event": "arm", "scenario": "rearm", "arm": "rst", "ok": True}


def console(terminal: str) -> tuple[Console, io.StringIO]:
    paper = io.StringIO()
    return Console(file=paper, force_terminal=bool(terminal), width=100, _environ={"TERM": terminal}), paper


def lines(paper: io.StringIO) -> list[str]:
    return [
        line.rstrip()
        for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", paper.getvalue()).replace("\r", "\n").split("\n")
        if line.strip()
    ]


@pytest.fixture(autouse=True)
def no_ci(monkeypatch):
    monkeypatch.delenv("CI", raising=False)


def test_a_terminal_shows_the_step_both_clocks_and_what_there_is():
    """The step in words, virtual and real time, packets, TIME_WAIT, what is being done, and how
    many arms are left.
    """
    out, paper = console("xterm-256color")
    with Progress(out, arms=3) as progress:
        for event in EVENTS:
            progress.on_event(event)
    told = "\n".join(lines(paper))
    assert "rearm rst  A reset [late] arrives." in told
    assert re.search(r"1\.500 s virtual, \d\.\d s real, 1,234 packets, 28 in TIME_WAIT", told)
    assert "client closes" in told and "0 of 3 arms" in told


def test_one_arm_needs_no_bar():
    """There is nothing to estimate it from."""
    out, paper = console("xterm-256color")
    with Progress(out, arms=1) as progress:
        progress.on_event(EVENTS[0])
    assert "arms" not in "\n".join(lines(paper))


@pytest.mark.parametrize("where", ["pipe", "dumb terminal", "continuous integration"])
def test_elsewhere_there_are_plain_lines(where, monkeypatch):
    """A line for each step and each arm, and nothing is written over."""
    if where == "continuous integration":
        monkeypatch.setenv("CI", "true")
    out, paper = console({"pipe": "", "dumb terminal": "dumb"}.get(where, "xterm-256color"))
    with Progress(out, arms=3) as progress:
        for event in [*EVENTS, DONE]:
            progress.on_event(event)
    assert lines(paper) == ["rearm rst     1.000 s  A reset [late] arrives.", "rearm rst: as predicted"]
    assert "\x1b[2K" not in paper.getvalue()


def test_long_work_has_a_bar_or_a_line_for_each_part(monkeypatch):
    """With an estimate where it can be drawn; elsewhere each part is told once."""
    out, paper = console("xterm-256color")
    with bar(out, "sweep") as advance:
        advance(0.5, "cell 5")
    assert "sweep: cell 5" in "\n".join(lines(paper)) and "━" in paper.getvalue()
    out, paper = console("dumb")
    with bar(out, "sweep") as advance:
        for share in (0.1, 0.2, 0.3):
            advance(share, "cell 5" if share < 0.3 else "cell 6")
    assert lines(paper) == ["sweep: cell 5", "sweep: cell 6"]


def test_a_text_may_be_empty():
    """A note, a step or a line that a scenario prints, of nothing: it is shown, and no error."""
    events = []
    transcript = Transcript(lambda: 0.0)
    transcript.subscribe(lambda entry: events.append({"event": "entry", "job": 0, **entry.as_dict()}))
    for kind in ("step", "verb", "wire", "note", "check"):
        transcript.record(kind, "")
    transcript.record("note", "", printed=True)
    assert [event["text"] for event in events] == [""] * 6
    out, paper = console("")
    progress = Progress(out)
    for event in events:
        progress.on_event(event)
    assert [" ".join(line.split()) for line in lines(paper)] == ["starting 0.000 s"] * 2


def test_the_bar_keeps_its_estimate_however_long_a_part_takes():
    """A result every 40 s of 10: an estimate after the first one. What an earlier run has done is no
    work of this one.
    """
    for done, told in ((0, "0:06:0"), (5, "0:02:4")):
        now_s = 0.0
        out, paper = console("xterm-256color")
        out.get_time = lambda: now_s  # noqa: B023
        with bar(out, "sweep", done / 10) as advance:
            now_s += 40.0
            advance((done + 1) / 10, f"{done + 1}/10")
        last = lines(paper)[-1]
        assert f"{done + 1}/10" in last and "0:00:40" in last and told in last
