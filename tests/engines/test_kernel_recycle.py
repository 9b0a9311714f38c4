"""The lab kernel's tcp_tw_recycle, held against a genuine Linux 4.9.154 and against its own
description.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import kernel_cases
import pytest
from conftest import ROOT
from in_guest import run_in_guest
from recycle_cases import alike

pytestmark = pytest.mark.guest

GENUINE = ROOT / "tests" / "data" / "genuine-4.9.json"


def test_every_recorded_answer_of_a_genuine_4_9_is_given_again(tmp_path: Path) -> None:
    """111 of 111 alike: reply, counters, timers and memory, for TSvals around and across the wrap,
    without timestamps, at 59 s and 61 s.

    On Linux 4.15 to 6.9, five are not: tcp_v4_fill_cb() forgets the initial sequence number that
    TIME_WAIT has chosen for a SYN it lets in (mended by 41eecbd712b7), and the SYN is treated as
    one that met no TIME_WAIT.
    """
    records = json.loads(GENUINE.read_text())["records"]
    said = run_in_guest(kernel_cases.ask_the_records, str(GENUINE), folder=tmp_path)
    unlike: Counter[str] = Counter()
    for record, (theirs, ours) in zip(records, said["pairs"], strict=True):
        if not alike(theirs, ours):
            print(f"{record['case']} {record['tsval_delta']}\n  4.9.154: {theirs}\n  {said['release']}: {ours}")
            unlike[record["case"]] += 1
    print(f"{len(records) - unlike.total()} of {len(records)} alike on {said['release']}")
    assert len(records) == 111
    series = [int(part) for part in said["release"].split("-")[0].split(".")[:2]]
    assert dict(unlike) == ({"12-live-timewait": 5} if series < [6, 10] else {})


def test_the_end_that_opens_a_connection_refuses_nothing(tmp_path: Path) -> None:
    """As measured on 4.9: no preloaded TSecr in the SYN, and a SYN-ACK with a lower TSval is
    accepted; the end that closes has a short TIME_WAIT.
    """
    seen = run_in_guest(kernel_cases.opens_towards_a_lower_clock, folder=tmp_path)
    once = {"TSecr": 0, "answer": "ACK", "TIME_WAIT": "3.5 RTO"}
    assert seen == {f"{which} {fact}": value for which in ("first", "second") for fact, value in once.items()}


def test_ipv6_and_one_namespace_only(tmp_path: Path) -> None:
    """The same over IPv6; and a namespace whose sysctl is off remembers, shortens and refuses
    nothing.
    """
    assert run_in_guest(kernel_cases.refused_over_ipv6, folder=tmp_path) == {
        "on": {"answer": "silence", "PAWSPassive": 1, "short": True},
        "off": {"answer": "connected", "PAWSPassive": 0, "short": False},
    }
