"""Tables: the rows of all arms under one title, with units, as the command line prints them and the
report shows them.
"""

import gzip
import re
from base64 import b64decode

from twlab.commands.verdict_table import show_table
from twlab.report.html import page
from twlab.report.text import show, tables
from twlab.results.result import ArmResult, Result
from twlab.run.runner import Finished

ROWS = [
    {"clients": 2, "failed_share": 0.5, "median_ms": 0.25},
    {"clients": 50, "failed_share": 0.98, "median_ms": None, "rate_per_s": 7},
]


def make(**arms):
    made = Result("claim", "It is so.", "RFC 9293", "pair", "host", 7, "twlab run claim", arms=arms)
    made.network = {"nodes": {}, "links": []}
    return made


def arm(**contents):
    return ArmResult("treatment", predicted={"x": 1}, observed={"x": 1}, ok=True, tables=contents)


def lines(result):
    return [line for made in tables.of(result) for line in tables.text(made)]


def test_rows_of_all_arms_stand_under_one_title():
    """The arm stands before its row, numbers to the right, nothing as a dash, a missing cell too,
    and units in the heading.
    """
    result = make(control=arm(connects=ROWS[:1]), treatment=arm(connects=ROWS[1:], other=[{"open": True}]))
    assert lines(result) == [
        "connects",
        "  arm        clients  failed (%)  median (ms)  rate (per s)",
        "  control          2          50         0.25             —",
        "  treatment       50          98            —             7",
        "other",
        "  arm        open",
        "  treatment  yes",
    ]


def test_numbers_have_four_figures_and_no_powers_of_ten():
    """A connect of 65 s is told as 65535 ms."""
    assert lines(make(control=arm(connects=[{"worst_ms": 65535.4, "rate_per_s": 84.5299}])))[2].split() == [
        "control",
        "65535",
        "84.53",
    ]


def test_a_run_without_tables_has_none():
    """Results from before there were tables, too."""
    assert tables.of(make(control=arm())) == []


def test_tables_are_printed_by_run_and_show_and_stand_in_the_report(tmp_path, capsys):
    """All three show the same cells, and what a table holds is no markup."""
    result = make(control=arm(connects=[{"word": "[red]<b>", "clients": 2}]))
    result.write(tmp_path)
    show_table([Finished(result, tmp_path)])
    printed = capsys.readouterr().out
    shown = "\n".join(show.lines(tmp_path, [], unfold=False, width=100, colour=False))
    for line in lines(result):
        assert line in printed
        assert line in shown
    text = page.write([tmp_path], tmp_path / "report.html").path.read_text()
    assert "<caption>connects</caption>" in text
    assert "[red]&lt;b&gt;" in text


def test_what_gateways_tracked_is_in_the_report(tmp_path):
    """States counted, some entries shown, and what is left of their time."""
    entry = {
        "state": "TIME_WAIT",
        "inside": "10.0.1.1:4",
        "to": "10.2.1.1:80",
        "outside": "10.1.1.1:4",
        "remaining_s": 119,
    }
    seen = {"at_s": 1.5, "node": "nat", "count": 2, "states": {"ESTABLISHED": 1, "TIME_WAIT": 1}, "entries": [entry]}
    result = make(control=arm())
    result.arms["control"].conntrack = [seen]
    result.write(tmp_path)
    packed = re.findall(r'data-packed="([^"]+)"', page.write([tmp_path], tmp_path / "report.html").path.read_text())
    text = "".join(gzip.decompress(b64decode(piece)).decode() for piece in packed)
    assert "1 ESTABLISHED, 1 TIME_WAIT" in text
    assert "10.0.1.1:4 → 10.2.1.1:80 as 10.1.1.1:4</code> TIME_WAIT 119 s" in text
