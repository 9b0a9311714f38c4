"""Nothing is missing from a capture, and what the lab did to a packet is written on it, on the
right one of several that are alike.
"""

import io
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from conftest import let_everyone_reach
from hypothesis import given, settings
from hypothesis import strategies as st
from wired import wired

from twlab.results import pcapng
from twlab.results.pcapng import Captured
from twlab.segment import Flow, match, parse

needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed: apt-get install tshark")


def read(path):
    """Packets of a pcapng file as (interface name, direction, comment, segment, frame's length,
    time in ns), by a reader of our own.
    """
    blob = Path(path).read_bytes()
    at, names, packets = 0, [], []
    while at < len(blob):
        kind, size = (int.from_bytes(blob[at + n : at + n + 4], "little") for n in (0, 4))
        assert blob[at + size - 4 : at + size] == blob[at + 4 : at + 8]
        body = blob[at + 8 : at + size - 4]
        if kind == 1:
            names.append(options(body[8:])[2].decode())
        elif kind == 6:
            number, high, low, kept, length = (int.from_bytes(body[n : n + 4], "little") for n in range(0, 20, 4))
            rest = options(body[20 + kept + -kept % 4 :])
            whole = parse(body[20 + 14 : 20 + kept] + bytes(length - kept), 0.0)  # zeros for what was not kept
            direction = {1: "in", 2: "out"}[rest[2][0]]
            packets.append((names[number], direction, rest.get(1, b"").decode(), whole, length, high << 32 | low))
        at += size
    return packets


def options(blob):
    """pcapng options by code."""
    found, at = {}, 0
    while at < len(blob) and (code := int.from_bytes(blob[at : at + 2], "little")):
        size = int.from_bytes(blob[at + 2 : at + 4], "little")
        found[code] = blob[at + 4 : at + 4 + size]
        at += 4 + size + -size % 4
    return found


def comments(path):
    """(interface, direction, sequence number / 10, comment) of every packet that bears one."""
    return [
        [name, direction, segment.seq // 10, comment] for name, direction, comment, segment, *_ in read(path) if comment
    ]


def tshark(path, *fields):
    """Fields of every packet, as tshark reads the file."""
    command = ["tshark", "-r", path, "-n", "-T", "fields", *(word for field in fields for word in ("-e", field))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


COMMENT = st.text(max_size=20).filter(str.isprintable)
PACKET = st.builds(
    Captured,
    st.integers(0, 2**63),
    st.integers(0, 2),
    st.booleans(),
    st.binary(max_size=70),
    st.integers(0, 2000),
    COMMENT,
)
PACKETS = st.lists(PACKET, max_size=20)


@given(PACKETS)
def test_what_is_written_is_read_back(packets):
    """A file has the packets it was given, in that order, each block sound; the same packets make
    the same file.
    """
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        assert pcapng.write(file, ["a", "b-c", "d"], packets, hardware="x", system="y", application="z") == len(packets)
    blob = files[0].getvalue()
    assert blob == files[1].getvalue()
    assert len(blob) % 4 == 0
    for packet in packets:
        assert packet.frame in blob
        assert packet.comment.encode() in blob


@pytest.mark.slow
@needs_tshark
@settings(max_examples=20, deadline=None)
@given(packets=PACKETS.filter(bool))
def test_tshark_reads_any_file(packets, tmp_path_factory):
    """tshark finds the comments, the interfaces' names, the times to the nanosecond and the
    lengths.
    """
    for packet in packets:
        packet.length = max(packet.length, len(packet.frame))
        packet.at_ns %= 2**31 * 1_000_000_000
    path = tmp_path_factory.mktemp("pcapng") / "any.pcapng"
    with path.open("wb") as file:
        pcapng.write(file, ["a", "b-c", "d"], packets, hardware="x", system="y", application="z")
    rows = tshark(path, "frame.interface_name", "frame.time_epoch", "frame.len", "frame.cap_len")
    assert [row[0] for row in rows] == [["a", "b-c", "d"][packet.interface] for packet in packets]
    assert [row[1] for row in rows] == [f"{packet.at_ns // 10**9}.{packet.at_ns % 10**9:09}" for packet in packets]
    assert [(int(row[2]), int(row[3])) for row in rows] == [(packet.length, len(packet.frame)) for packet in packets]


def bulk(path, count):
    with wired(capture=Path(path)) as lab:
        near, far = lab.connected()
        far.keep = False
        size = near._sock.getsockopt(6, 2) * count  # TCP_MAXSEG
        near.send(b"x" * size)
        assert far.wait_received(size)
        capture = lab.capture
        lab.wire.close()
    crossed = Counter()
    counted = set()  # a busy machine makes TCP send a last segment twice, perhaps; it counts once
    for name, direction, _, segment, *_ in read(path):
        if segment:
            crossed[f"{name} {direction}"] += 1
            if segment.length and (name, segment.seq) not in counted:
                counted.add((name, segment.seq))
                crossed[f"{name} {direction} bytes"] += segment.length
    return {
        "lost": capture.lost,
        "written": capture.written,
        "size": size,
        "crossed": crossed,
        "in_order": in_order(path),
    }


def in_order(path):
    """Whether the file is sorted by time."""
    times = [packet[5] for packet in read(path)]
    return times == sorted(times)


@pytest.mark.host
@pytest.mark.parametrize("as_root", [True, False])
def test_ten_thousand_segments_and_none_missing(in_sandbox, ordinary_user, tmp_path, as_root):
    """10,000 segments at full speed: every byte is in the file, once where it comes in and once
    where it goes out; as an ordinary user, too.
    """
    let_everyone_reach(tmp_path)
    tmp_path.chmod(0o777)
    outcome = in_sandbox(bulk, str(tmp_path / "bulk.pcapng"), 10_000, user="" if as_root else ordinary_user)
    crossed = outcome["crossed"]
    assert outcome["lost"] == 0
    assert crossed["wire-client in bytes"] == crossed["wire-server out bytes"] == outcome["size"]
    assert crossed["wire-client in"] == crossed["wire-server out"] >= 10_000
    assert crossed["wire-server in"] == crossed["wire-client out"]
    assert 0 <= outcome["written"] - sum(value for key, value in crossed.items() if not key.endswith("bytes")) < 10
    assert outcome["in_order"]


def overrun(path):
    with wired(capture=Path(path), ring_bytes=1 << 19) as lab:
        lab.endpoints()
        segment = lab.crafted(1)
        for _ in range(10_000):  # the loop, which empties the ring, does not get a turn
            lab.wire.inject(segment)
        capture = lab.capture
    return {"lost": capture.lost, "written": capture.written}


@pytest.mark.host
def test_what_is_lost_is_counted(in_sandbox, tmp_path):
    """A ring that is far too small loses packets, and says how many: those in the file and those
    lost are all there were.
    """
    outcome = in_sandbox(overrun, str(tmp_path / "overrun.pcapng"))
    assert outcome["lost"] > 0
    assert 10_000 <= outcome["written"] + outcome["lost"] <= 10_010  # IPv6 may have had a word to say


def impaired(path, family):
    with wired(capture=Path(path)) as lab:
        client, _ = lab.endpoints(family)
        wire = lab.wire
        held = wire.hold(match(seq=10))
        copied = wire.copy(match(seq=20))
        wire.drop(match(seq=30))
        wire.delay(match(seq=40), 0.1)
        wire.duplicate(match(seq=50), 0.1)
        wire.reorder(match(seq=60))
        for number in range(1, 9):
            client.put(lab.crafted(number, family))
            lab.loop.sleep(0)
        lab.loop.sleep(0.2)
        wire.release(held)
        wire.release(copied)
        wire.inject(lab.crafted(9, family))
        return {
            "held_s": round(held.released_at_s[0] - held.segments[0].at_s, 3),
            "copied_s": [copied.segments[0].at_s, copied.released_at_s[0]],
        }


@pytest.mark.host
@pytest.mark.parametrize("family", [4, 6])
def test_every_packet_that_was_touched_says_so(in_sandbox, tmp_path, family):
    """What came in says what was done to it, what went out says where it comes from; a dropped
    segment is seen only coming in.
    """
    path = str(tmp_path / "impaired.pcapng")
    outcome = in_sandbox(impaired, path, family)
    by_lab = "sent by the lab's own endpoint"
    assert all(
        text.startswith(by_lab)
        for name, direction, _, text in comments(path)
        if (name, direction) == ("wire-client", "in")
    )
    touched = [
        (name, direction, number, text.removeprefix(by_lab).removeprefix("; "))
        for name, direction, number, text in comments(path)
    ]
    found = [entry for entry in touched if entry[3]]
    incoming = {number: text for name, direction, number, text in found if (name, direction) == ("wire-client", "in")}
    outgoing = {number: text for name, direction, number, text in found if (name, direction) == ("wire-server", "out")}
    assert len(incoming) + len(outgoing) == len(found)
    assert incoming == {
        1: "held by the wire",
        2: "copied by the wire",
        3: "dropped by the wire",
        4: "taken by the wire, to be delayed",
        5: "duplicated by the wire",
        6: "put behind 1 later by the wire",
    }
    assert set(outgoing) == {1, 2, 4, 5, 6, 9}
    assert outgoing[1].startswith("held 0.") and outgoing[1].endswith(" s by the wire")
    assert abs(float(outgoing[1].split()[1]) - outcome["held_s"]) < 0.01
    came_s, went_s = outcome["copied_s"]
    assert outgoing[2].startswith(f"copy of the packet from t={came_s:.3f} s, released at t=")
    assert abs(float(outgoing[2].split("released at t=")[1].split()[0]) - went_s) < 0.01
    assert outgoing[4].startswith("delayed 0.1")
    assert outgoing[5].startswith("copy of the packet from t=")
    assert outgoing[6].startswith("delayed 0.0")
    assert outgoing[9] == "injected by the lab"
    through = Counter(
        (name, direction, segment.seq // 10)
        for name, direction, _, segment, *_ in read(path)
        if segment and segment.length
    )
    assert through["wire-client", "in", 3] == 1
    assert through["wire-server", "out", 3] == 0
    assert (through["wire-server", "out", 2], through["wire-server", "out", 5], through["wire-server", "out", 7]) == (
        2,
        2,
        1,
    )


def twins(path):
    with wired(capture=Path(path)) as lab:
        client, _ = lab.endpoints()
        segment = lab.crafted(1)
        copied = lab.wire.copy(match(payload=True, nth=3))
        for _ in range(5):
            client.put(segment)
            lab.loop.turn(lab.loop.now_s + 0.01)
        copied.wait()
        copied.release()
        client.put(segment)
        lab.loop.sleep(0.05)


@pytest.mark.host
def test_a_comment_finds_the_right_one_of_equal_packets(in_sandbox, tmp_path):
    """Six times the same bytes cross, and once as a copy: the third that came in was copied, and
    the sixth that went out is the copy.
    """
    path = str(tmp_path / "twins.pcapng")
    in_sandbox(twins, path)
    packets = [(name, comment) for name, _, comment, segment, *_ in read(path) if segment and segment.length]
    incoming = [comment for name, comment in packets if name == "wire-client"]
    outgoing = [comment for name, comment in packets if name == "wire-server"]
    assert ["copied" in comment for comment in incoming] == [False, False, True, False, False, False]
    assert ["copy of" in comment for comment in outgoing] == [False, False, False, False, False, True, False]


@pytest.mark.host
@needs_tshark
def test_tshark_shows_the_comments(in_sandbox, tmp_path):
    """In tshark, frame.comment and frame.interface_name show what was done, where."""
    path = str(tmp_path / "impaired.pcapng")
    in_sandbox(impaired, path, 4)
    rows = tshark(path, "frame.interface_name", "tcp.seq_raw", "frame.comment")
    assert ["wire-client", "30", "sent by the lab's own endpoint; dropped by the wire"] in rows
    assert ["wire-server", "90", "injected by the lab"] in rows
    assert len([row for row in rows if row[2]]) == len(comments(path))


def translated(path):
    with wired("nat,clients=1", capture=Path(path), nodes=("nat", "wire")) as lab:
        client = next(name for name in lab.network.nodes if name.startswith("c"))
        lab.wire.drop(match(payload=True), count=1)
        near, far = lab.connected(client=client)
        near.send(b"hello")
        far.receive(5)


@pytest.mark.host
def test_two_nodes_in_one_file(in_sandbox, tmp_path):
    """A gateway and the wire in one file: in order of time, interfaces named after their nodes,
    addresses before and after NAT.
    """
    path = str(tmp_path / "nat.pcapng")
    in_sandbox(translated, path)
    packets = [packet for packet in read(path) if packet[3]]
    assert in_order(path)
    senders = {
        name: segment.source
        for name, direction, _, segment, *_ in packets
        if direction == "in" and segment.flags == "S"
    }
    inside, outside = (senders[name] for name in senders)
    assert {name.split("-")[0] for name in senders} == {"nat", "wire"}
    assert inside != outside
    assert [text for _, _, text, *_ in packets if text] == ["dropped by the wire"]


def whole(path):
    with wired(capture=Path(path), bulk=65535) as lab:
        client, _ = lab.endpoints()
        addresses = (lab.network[name].address() for name in ("client", "server"))
        flow = Flow(next(addresses), 4000, next(addresses), 4000)
        client.put(lab.wire.craft(flow=flow, flags="A", payload=bytes(range(250)) * 5))
        lab.loop.sleep(0.05)


@pytest.mark.host
def test_everything_is_kept_where_asked(in_sandbox, tmp_path):
    """With bulk=65535 long packets are kept whole as well."""
    path = str(tmp_path / "whole.pcapng")
    in_sandbox(whole, path)
    assert [packet[3].payload for packet in read(path) if packet[3]] == [bytes(range(250)) * 5] * 2


def saved(folder):
    with wired(capture=Path(folder, "all.pcapng")) as lab:
        client, _ = lab.endpoints()
        counts = []
        for number in (1, 2):
            copied = lab.wire.copy(match(seq=number * 10))
            client.put(lab.crafted(number))
            copied.wait()
            lab.loop.sleep(0.01)
            counts.append(len(lab.capture.save()))
            Path(folder, f"{number}.pcapng").write_bytes(lab.capture.path.read_bytes())
    return counts


@pytest.mark.host
def test_a_capture_is_saved_while_it_goes_on(in_sandbox, tmp_path):
    """Each time the file holds what has been seen so far, comments and all, and nothing of it is
    missing at the end.
    """
    counts = in_sandbox(saved, str(tmp_path))
    first, second, last = (read(tmp_path / f"{name}.pcapng") for name in ("1", "2", "all"))
    assert counts == [len(first), len(second)] == [2, 4]
    assert second == last
    assert first == last[:2]
    assert ["copied by the wire" in packet[2] for packet in last] == [True, False, True, False]


def full_disk():
    with pytest.raises(OSError, match="space"), wired(capture=Path("/dev/full")) as lab:
        near, far = lab.connected()
        near.send(b"x")
        far.receive(1)
    return "told"


@pytest.mark.host
def test_a_full_disk_is_an_error(in_sandbox):
    """A file that cannot be written is not passed over."""
    assert in_sandbox(full_disk) == "told"
