"""The wire at the shell: what is delayed arrives whichever way it goes, and `inject END` sends what
that end could send next.
"""

import re
from pathlib import Path

import pytest
from test_shell import ENGINES, run

from twlab.network import topology_names
from twlab.results.pcapng import read_capture

# Who connects to whom across a wire, and which wire that is where there are two.
ENDS = {
    "campus": ("proxy", "server", " at wire2"),
    "proxy": ("proxy", "server", ""),
    "sidecar": ("pod", "server", ""),
    **dict.fromkeys(("dnat", "ipvs", "two-balancers", "vip"), ("client", "s1", "")),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("topology", [name for name in topology_names() if name != "ipvs"])
def test_a_wire_that_delays_everything_delays_and_no_more(tmp_path: Path, engine: str, topology: str) -> None:
    """Each segment of the handshake is late by 10 ms, there and back, so the connection is open
    after 0.02 s; and it carries data both ways.
    """
    client, server, at = ENDS.get(topology, ("client", "server", ""))
    script = f"listen {server} 80\ndelay any{at} after 0.01 count all\nconnect {client} {server} 80\n"
    # Ends never bear a node's name: they are a1 and b1 where nodes are called c1 or s1.
    near, far = ("a1", "b1") if topology == "campus" or server == "s1" else ("c1", "s1")
    script += f"send {near} there\nread {far}\nsend {far} back\nsleep 1\nread {near}\n"
    said, kept = run(tmp_path, script, topology, "--engine", engine)
    assert f"{near} and {far}: open" in said
    assert f"{near}: b'back'" in said
    assert len(re.findall("delays by 0.01 s", said)) >= 5
    # By the times of arrival, from which a delay counts: a busy wire notes it somewhat later.
    sightings = [sighting.segment for sighting in read_capture(kept / "session.pcapng")]
    syn_s, ack_s = (min(segment.at_s for segment in sightings if segment.flags == flags) for flags in ("S", "A"))
    assert 0.02 <= ack_s - syn_s < (0.022 if engine == "guest" else 2)


@pytest.mark.guest
def test_a_wire_before_ipvs_delays_everything_and_no_more(tmp_path: Path) -> None:
    """The same with a balancer that the lab kernel alone is sure to have."""
    test_a_wire_that_delays_everything_delays_and_no_more(tmp_path, "guest", "ipvs")


def injected(said: str) -> list[int]:
    """Sequence numbers of what was injected, relative to the connection's SYN."""
    (syn,) = re.findall(r"watched: (\d+)|copies client:40000 > server:80 S seq (\d+)", said)
    first = int("".join(syn))
    return [(int(seq) - first) % 2**32 for seq in re.findall(r"injects client:40000 > server:80 \w+ seq (\d+)", said)]


@pytest.mark.parametrize("engine", ENGINES)
def test_inject_goes_on_from_what_the_end_has_sent(tmp_path: Path, engine: str) -> None:
    """After 4 bytes the next number is 5, and stays so when 4 bytes are injected elsewhere in its
    name.
    """
    script = """
listen server 80
copy syn from client
connect client server 80 from 40000
send c1 aaaa
inject c1 seq +100 text XXXX
inject c1 text YYYY
read s1
"""
    said, _ = run(tmp_path, script, "pair", "--engine", engine)
    assert injected(said) == [105, 5]
    assert "s1: b'aaaaYYYY'" in said


@pytest.mark.parametrize("engine", ENGINES)
def test_inject_after_a_release_bears_the_present_timestamp(tmp_path: Path, engine: str) -> None:
    """A copy of the end's first data arrives again after its second: the next segment still bears
    the clock of the second.
    """
    script = """
listen server 80
copy syn from client
connect client server 80 from 40000
copy data from client count 1
send c1 aaaa
sleep 1
send c1 bbbb
sleep 0.3
release r2
sleep 0.3
inject c1 text YYYY
read s1
segments 40
"""
    said, _ = run(tmp_path, script, "pair", "--engine", engine)
    assert injected(said) == [9]
    assert "s1: b'aaaabbbbYYYY'" in said
    stamps = {
        label: int(tsval) for label, tsval in re.findall(r"\w+ > server  PSH ACK seq (\d) ack 1 len 4 ts (\d+)", said)
    }
    assert stamps["9"] == stamps["5"] >= stamps["1"] + 1000


@pytest.mark.guest
def test_segments_are_numbered_within_their_own_connection(tmp_path: Path) -> None:
    """The same four-tuple opened after four minutes, when the clock of first numbers has gone
    round: it begins at 0 again.
    """
    script = """
listen server 80
connect client server 80 from 40000
close c1
close s1
sleep 240
segments on
connect client server 80 from 40000
send c2 hello
segments off
segments 4
"""
    said, _ = run(tmp_path, script, "pair")
    listed = said.partition("twlab> segments 4\n")[2]
    assert re.findall(r"seq ([-\d,]+)(?: ack ([-\d,]+))?", listed) == [("0", "1"), ("1", "1"), ("1", "1"), ("1", "6")]
    shown = said.partition("twlab> connect client server 80 from 40000\n")[2].partition("twlab> segments on\n")[2]
    assert re.findall(r" (?:S|SA|A|PA) seq (\d+)", shown)[:3] == ["0", "0", "1"]
