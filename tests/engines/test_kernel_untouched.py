"""Where nothing is set, the lab kernel's TCP is that of the unchanged source.

`data/unchanged-7.3.json` is the record of a kernel made of Debian's linux-source-7.3 with the same
options, and without the three changes to TCP (0001 to 0003).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import untouched
from conftest import ROOT
from in_guest import run_in_guest

from twlab.engines.kernel.store import find

pytestmark = pytest.mark.guest

RECORD = ROOT / "tests" / "data" / "unchanged-7.3.json"
FROM_MEMORY = (
    "net.ipv4.inet_peer_threshold",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.udp_mem",
    "net.ipv4.vs.sync_qlen_max",
)
"""What Linux sizes by the memory that its own image leaves. With the changes that is a page less."""

_TIME = re.compile(r"(?m)^\d+\.\d\d")


def alike(ours: str | None, theirs: str | None, name: str) -> bool:
    """Whether a sysctl is the same; what follows from memory, to a thousandth."""
    if name in FROM_MEMORY and ours and theirs:
        return [int(number) for number in ours.split()] == pytest.approx(
            [int(number) for number in theirs.split()], 1e-3
        )
    return ours == theirs


def split(conversation: dict[str, Any]) -> tuple[list[float], dict[str, Any]]:
    """The times at which a conversation's lines begin, and all the rest of it."""
    text = "\n".join(conversation["lines"])
    times = [float(time) for time in _TIME.findall(text)]
    return times, {**conversation, "lines": _TIME.sub("", text)}


def test_where_nothing_is_set_tcp_is_that_of_the_unchanged_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every sysctl of the first namespace and of a new one, but for the lab's own three; every
    counter; the figures of RFC 1337 and the other conversations, segment by segment, with their times
    and the counters that they move. A timer fires at a tick, and where in one of 4 ms a conversation
    begins follows from Python's version: 0.034 s and 0.036 s are 0.03 and 0.04.
    """
    kernel = find("7.3")
    if kernel is None:
        pytest.skip("the record is one of Linux 7.3: twlab kernel build --version 7.3")
    monkeypatch.setenv("TWLAB_KERNEL", str(kernel.path))
    theirs, ours = json.loads(RECORD.read_text()), run_in_guest(untouched.untouched, folder=tmp_path)
    for namespace, sysctls in ours["sysctls"].items():
        assert [sysctls.pop(name, None) for name in untouched.OURS] == ["60000", "0", "0"], namespace
    assert len(theirs["sysctls"]["new"]) > 500
    for namespace, sysctls in theirs["sysctls"].items():
        own = ours["sysctls"][namespace]
        differ = {name for name in {*own, *sysctls} if not alike(own.get(name), sysctls.get(name), name)}
        assert not differ, namespace
    assert ours["counters"].pop("PAWSPassive") == 0  # tcp_tw_recycle's own
    assert ours["counters"] == theirs["counters"]
    assert list(ours["segments"]) == list(theirs["segments"])
    for name, conversation in theirs["segments"].items():
        (our_times, own), (times, other) = split(ours["segments"][name]), split(conversation)
        assert own == other, name
        assert our_times == pytest.approx(times, abs=0.011), name
