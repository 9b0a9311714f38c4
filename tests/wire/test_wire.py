"""Segments on a live wire are watched, held, copied, delayed, duplicated, reordered, dropped,
injected; and what is not asked for does not happen.
"""

import sys
import time
from pathlib import Path

import pytest
from wired import wired

from twlab.errors import ScenarioError
from twlab.linux import counters
from twlab.segment import Flow, advance, match
from twlab.wire import craft
from twlab.wire.impairments import Delay, Duplicate, chain

pytestmark = pytest.mark.host


def seqs(endpoint):
    """Numbers of the crafted segments that have arrived, in their order."""
    return [segment.seq // 10 for segment in endpoint.seen]


def told(lab):
    """What the wire has told the transcript, first words only."""
    return [entry.text.split(" ")[0] for entry in lab.transcript.entries if entry.node == "wire"]


def hold_and_release():
    with wired() as lab:
        near, far = lab.connected()
        held = lab.wire.hold(match(payload=True))
        near.send(b"late")
        assert held.wait()
        lab.loop.sleep(0.1)
        early = far.received
        began_s = lab.loop.now_s
        held.release()
        after_s = held.released_at_s[0] - began_s
        return {
            "early": early,
            "late": far.receive(4).decode(),
            "segments": len(held.segments),
            "after_s": after_s,
            "told": told(lab),
        }


def test_a_held_segment_waits_for_its_release(in_sandbox):
    """What is held does not arrive before it is released, and does then; the transcript says so,
    with the time.
    """
    outcome = in_sandbox(hold_and_release)
    assert (outcome["early"], outcome["late"], outcome["segments"]) == (0, "late", 1)
    assert 0 <= outcome["after_s"] < 0.1
    assert outcome["told"] == ["from", "holds", "releases"]


def copy_and_release():
    with wired() as lab:
        near, far = lab.connected()
        copied = lab.wire.copy(match(payload=True))
        near.send(b"once")
        read = far.receive(4)
        lab.loop.sleep(0.1)
        watch = lab.wire.watch(match(source=lab["server"].address()))
        lab.wire.release(copied)
        answered = watch.wait(1)
        return {
            "read": read.decode(),
            "more": far.receive(1, 0.1).decode(),
            "answer": watch.segments[0].flags if answered else "",
        }


def test_a_copied_segment_passes_and_its_copy_comes_later(in_sandbox):
    """The original arrives at once; the copy, once released, is a duplicate that the server
    acknowledges and its application does not see.
    """
    assert in_sandbox(copy_and_release) == {"read": "once", "more": "", "answer": "A"}


def row(family, *verbs):
    """Send ten crafted segments through the wire under the rules that `verbs` names; the order in
    which they arrive, and when they did.
    """
    with wired() as lab:
        client, server = lab.endpoints(family)
        segments = [lab.crafted(number, family) for number in range(10)]
        for verb, condition, *arguments in verbs:
            getattr(lab.wire, verb)(match(**condition), *arguments)
        began_s = lab.loop.now_s
        for segment in segments:
            client.put(segment)
            lab.loop.sleep(0)
        lab.loop.sleep(0.5)
        late_s = [segment.at_s - began_s for segment in server.seen]
        return {"order": seqs(server), "late_s": late_s, "answers": len(client.seen)}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("verbs", "order"),
    [
        ([], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ([("drop", {"seq": 30})], [0, 1, 2, 4, 5, 6, 7, 8, 9]),
        ([("drop", {"payload": True}, 2)], [2, 3, 4, 5, 6, 7, 8, 9]),
        ([("drop", {"payload": True, "nth": 4})], [0, 1, 2, 4, 5, 6, 7, 8, 9]),
        ([("reorder", {"seq": 20}, 3)], [0, 1, 3, 4, 5, 2, 6, 7, 8, 9]),
        ([("delay", {"seq": (20, 39)}, 0.2)], [0, 1, 4, 5, 6, 7, 8, 9, 2, 3]),
        ([("duplicate", {"seq": 20}, 0.2)], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2]),
        ([("duplicate", {"seq": 20}, 0)], [0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9]),
        ([("hold", {"seq": 50})], [0, 1, 2, 3, 4, 6, 7, 8, 9]),
        ([("copy", {"seq": 50}), ("drop", {"seq": (50, 70)})], [0, 1, 2, 3, 4, 8, 9]),
        ([("drop", {"payload": True}, 1), ("duplicate", {"payload": True}, 0)], [1, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ],
)
def test_rows_of_segments(in_sandbox, family, verbs, order):
    """Each verb does to a row of ten segments what it says, each rule sees what the ones before it
    let pass, and no kernel answers for either end.
    """
    outcome = in_sandbox(row, family, *verbs)
    assert outcome["order"] == order
    assert outcome["answers"] == 0


def test_delays_are_kept_exactly(in_sandbox):
    """A delayed segment arrives when it should, not before, and with little after (this machine may
    be busy).
    """
    outcome = in_sandbox(row, 4, ("delay", {"payload": True}, 0.3), calm_s=0.05)
    assert all(0.3 <= late_s < 0.4 for late_s in outcome["late_s"])


def composed():
    with wired() as lab:
        client, server = lab.endpoints()
        lab.wire.impair(match(payload=True), chain(Duplicate(0.05), Delay(0.05)), "duplicates and delays", 1)
        client.put(lab.crafted(1))
        client.put(lab.crafted(2))
        lab.loop.sleep(0.3)
        return seqs(server)


def test_any_impairment_can_be_applied(in_sandbox):
    """impair() takes all that twlab.wire.impairments can express."""
    assert in_sandbox(composed) == [2, 1, 1]


def loaded_by(what):
    """Whether Scapy is loaded before `what` is asked for, and after."""
    for name in [name for name in sys.modules if name.startswith("scapy")]:
        del sys.modules[name]
    craft.load.cache_clear()
    with wired() as lab:
        seen = ["scapy.layers.inet6" in sys.modules]
        if what == "impairment":
            lab.wire.impair(match(payload=True), Delay(0.05))
        else:
            lab.wire.endpoint(lab.network["client"], 4000)
        return [*seen, "scapy.layers.inet6" in sys.modules]


@pytest.mark.parametrize("what", ["impairment", "endpoint"])
def test_what_answers_at_once_has_loaded_scapy(what, in_sandbox):
    """The import takes seconds on a slow machine, in which retransmission timers run out."""
    assert in_sandbox(loaded_by, what) == [False, True]


def bound_while_armed():
    with wired() as lab:
        seen = [lab.tapped()]
        watch = lab.wire.watch()
        seen.append(lab.tapped())
        once = lab.wire.copy(match(payload=True))
        watch.stop()
        seen.append(lab.tapped())
        near, far = lab.connected()
        near.send(b"x")
        far.receive(1)
        lab.loop.wait_until(lambda: not once.armed, 10)
        lab.loop.turn(lab.loop.now_s + 0.05)
        seen.append(lab.tapped())
        return seen


def test_the_queue_is_bound_only_while_something_is_armed(in_sandbox):
    """Where nothing is watched for, segments do not come up: the last rule to be done lets go of
    the queue.
    """
    assert in_sandbox(bound_while_armed) == [False, True, True, False]


def repaired(lab):
    """Segments that came behind a gap, and that TCP sent again because of one. What it sends again
    when a busy machine keeps it waiting, by probe or timer, fills no gap.
    """
    client, server = (counters.read(lab.network[name]) for name in ("client", "server"))
    return server["TCPOFOQueue"] + client["TCPFastRetrans"]


def stopped_by_what_it_sees():
    with wired() as lab:
        near, far = lab.connected()
        seen = []
        rule = lab.wire.watch(match(payload=True), lambda segment: (seen.append(segment), rule.stop()))
        near.send(b"one")
        far.wait_received(3)
        near.send(b"two")
        read = far.receive(6).decode()
        return {"seen": len(seen), "read": read, "tapped": lab.tapped(), "fault": lab.wire.fault}


def test_a_rule_may_be_stopped_by_what_it_sees(in_sandbox):
    """The segment in hand passes, and so does the next one; the queue is let go of after it."""
    assert in_sandbox(stopped_by_what_it_sees) == {"seen": 1, "read": "onetwo", "tapped": False, "fault": None}


def bulk(count):
    with wired() as lab:
        near, far = lab.connected()
        far.keep = False
        watch = lab.wire.watch(match(payload=True))
        size = near._sock.getsockopt(6, 2) * count  # TCP_MAXSEG
        near.send(b"x" * size)
        complete = far.wait_received(size)
        seen = {segment.seq: segment.length for segment in watch.segments}
        missing = size - sum(seen.values())
        return {
            "complete": complete,
            "seen": len(seen),
            "missing": missing,
            "repaired": repaired(lab),
            "unseen": lab.wire.unseen,
        }


@pytest.mark.parametrize("as_root", [True, False])
def test_ten_thousand_segments_cross_an_armed_wire(in_sandbox, ordinary_user, as_root):
    """10,000 segments at full speed come up through the queue, and TCP has nothing to repair; as an
    ordinary user, too.

    Where the machine allows an ordinary user little memory for sockets, all arrive, and the wire
    says that some passed unseen.
    """
    outcome = in_sandbox(bulk, 10_000, user="" if as_root else ordinary_user)
    if int(Path("/proc/sys/net/core/rmem_max").read_text()) < 4 << 20:
        assert outcome["complete"]
        assert outcome["unseen"] or outcome["seen"] >= 10_000
        return
    assert outcome == {"complete": True, "seen": outcome["seen"], "missing": 0, "repaired": 0, "unseen": 0}
    assert outcome["seen"] >= 10_000


def large(size):
    with wired("pair,mtu=60000") as lab:
        near, far = lab.connected()
        watch = lab.wire.watch(match(payload=True))
        held = lab.wire.hold(match(payload=True))
        near.send(b"x" * size)
        assert held.wait()
        held.release()
        lab.loop.wait_until(lambda: far.received == size, 10)
        return {
            "received": far.received,
            "largest": max(segment.length for segment in watch.segments),
            "unseen": lab.wire.unseen,
        }


@pytest.mark.parametrize("size", [4_000, 4_100, 20_000])
def test_segments_of_any_size_cross_an_armed_wire(in_sandbox, size):
    """A segment larger than a page comes up whole, can be held, and arrives whole when it is
    released.
    """
    assert in_sandbox(large, size) == {"received": size, "largest": size, "unseen": 0}


def switching(times):
    with wired() as lab:
        near, far = lab.connected()
        far.keep = False
        for number in range(times):
            held = lab.wire.copy(match(payload=True), count=1 + number % 3)
            near.send(b"x" * 50_000)
            held.wait(count=1)
        complete = far.wait_received(times * 50_000)
        return {"complete": complete, "repaired": repaired(lab), "tapped": lab.tapped()}


def test_letting_go_of_the_queue_loses_nothing(in_sandbox):
    """300 times in the middle of bulk the queue is bound and let go of: no segment is lost or
    overtaken.
    """
    assert in_sandbox(switching, 300) == {"complete": True, "repaired": 0, "tapped": False}


def inject_data(timestamp, family):
    with wired() as lab:
        near, far = lab.connected(family=family)
        watch = lab.wire.watch()
        near.send(b"real" * 25)
        far.receive(100)
        lab.loop.sleep(0.1)
        last = next(segment for segment in reversed(watch.segments) if segment.length)
        stale = lab.wire.craft(
            last,
            seq=advance(last.end_seq, 200),
            payload=b"!" * 400,
            **({"timestamp": None} if timestamp is None else {}),
        )
        watch.segments.clear()
        lab.wire.inject(stale)
        watch.wait()
        answer = watch.segments[0].options.sack
        near.send(b"n" * 200)
        near.send(b"n" * 800)
        return {
            "sack": answer == ((stale.seq, stale.end_seq),),
            "read": far.receive(1000).decode(),
            "ports": stale.flow == near.flow,
        }


@pytest.mark.parametrize("family", [4, 6])
def test_a_crafted_segment_lands_in_a_live_connection(in_sandbox, family):
    """400 bytes, 200 past the server's next expected byte, without timestamps: acknowledged
    selectively, and read by the application.
    """
    outcome = in_sandbox(inject_data, None, family)
    assert outcome["sack"]
    assert outcome["ports"]
    assert outcome["read"] == "n" * 200 + "!" * 400 + "n" * 400


def inject_below():
    """Segments put onto the links on both sides of a NAT gateway, as if they came from the server;
    what the client's own link saw.
    """
    with wired("nat,clients=1") as lab:
        names = list(lab.network.nodes)
        client, gateway, server = (
            next(node for node in lab.network if node.name.startswith(prefix)) for prefix in ("c", "nat", "server")
        )
        claimed = lab.wire.endpoint(client, 4000)
        segment = lab.wire.craft(flow=Flow(server.address(), 80, client.address(), 4000), flags="R", seq=77)
        lab.wire.inject(segment, into=client.interfaces[0])
        below = claimed.expect(match(flags="R"), 0.5)
        outside = gateway.interface_to("wire")
        lab.wire.inject(lab.wire.craft(segment, flow=Flow(server.address(), 80, outside.all4[0], 4000)), into=outside)
        above = claimed.expect(match(flags="R"), 0.2)
        return {"names": names, "below": below.seq if below else None, "above": above.seq if above else None}


def test_injection_below_and_above_a_gateway(in_sandbox):
    """into= puts a segment onto any link: below the gateway it reaches the client untranslated,
    above it the gateway judges it first.
    """
    outcome = in_sandbox(inject_below)
    assert (outcome["below"], outcome["above"]) == (77, None)


def inject_without_route():
    with wired() as lab:
        answers = []
        for packet in (lab.wire.craft(flow=Flow("10.0.1.1", 1, "192.0.2.1", 2)), b"\x45 no packet"):
            try:
                lab.wire.inject(packet)
            except ScenarioError as error:
                answers.append(error.slug)
        return answers


def test_injection_without_a_route_says_so(in_sandbox):
    """A destination that the wire has no route to, or that it cannot read, is an error with a
    remedy.
    """
    assert in_sandbox(inject_without_route) == ["no-route", "no-route"]


def inject_many(count):
    with wired() as lab:
        _, server = lab.endpoints()
        prepared = lab.crafted(1)
        lab.wire.inject(prepared)
        began_s = time.process_time()
        released = [lab.wire.inject(prepared) for _ in range(count)]
        took_s = time.process_time() - began_s
        lab.loop.sleep(0.1)
        return {
            "us": took_s / count * 1e6,
            "arrived": len(server.seen) + server.lost,
            "ordered": released == sorted(released),
        }


def test_injecting_a_prepared_segment_costs_microseconds(in_sandbox):
    """A thousand prepared segments are sent at well under 200 microseconds each, told and timed,
    and all arrive.
    """
    outcome = in_sandbox(inject_many, 1000)
    assert outcome["us"] < 200
    assert outcome["arrived"] == 1001
    assert outcome["ordered"]


def raw_handshake(family):
    with wired() as lab:
        client, server = lab.network["client"], lab["server"]
        listener = server.listen(80, family=family)
        ours = lab.wire.endpoint(client, 5555, family=family)
        there = (server.address(family), 80)
        syn = ours.send(there, "S", seq=2**32 - 1, options=[("MSS", 1000)], timestamp=(5, 0))
        answer = ours.expect(match(flags="SA"))
        numbers = {"seq": advance(syn.seq, 1), "ack": advance(answer.seq, 1), "timestamp": (6, answer.timestamp[0])}
        ours.send(there, "A", **numbers)
        ours.send(there, "PA", payload=b"hello", **numbers)
        far = listener.accept()
        read = far.receive(5).decode()
        acknowledged = ours.expect(match(flags="A"))
        quiet = ours.expect_nothing(0.1)
        far.send(b"x" * 1000)
        data = ours.expect(match(payload=True))
        ours.close()
        ours.close()
        resets = counters.read(client)["TcpOutRsts"]
        given_back = lab.loop.wait_until(lambda: far.error, 10)
        seen = {"ack": acknowledged.ack, "length": data.length, "echo": data.timestamp[1]}
        return {**seen, "read": read, "quiet": quiet, "resets": resets, "given_back": given_back}


@pytest.mark.parametrize("family", [4, 6])
def test_no_kernel_answers_for_a_crafted_endpoint(in_sandbox, family):
    """A connection is opened and used segment by segment, with no reset from the kernel of the
    node; once given back, its kernel answers again.
    """
    outcome = in_sandbox(raw_handshake, family)
    assert outcome == {
        "ack": 5,
        "read": "hello",
        "quiet": True,
        "length": 988,
        "echo": 6,
        "resets": 0,
        "given_back": True,
    }


def release_stripped():
    with wired() as lab:
        client, server = lab.endpoints()
        copied = lab.wire.copy(match(payload=True))
        client.put(lab.wire.craft(lab.crafted(1), timestamp=(1, 2)))
        copied.wait()
        copied.release(without_timestamp=True)
        copied.release()
        lab.loop.sleep(0.05)
        return [segment.timestamp for segment in server.seen]


def test_a_copy_can_lose_its_timestamp_and_come_again(in_sandbox):
    """A copy may be released more than once, with or without its timestamp."""
    assert in_sandbox(release_stripped) == [[1, 2], None, [1, 2]]


def many_told():
    with wired() as lab:
        client, server = lab.endpoints()
        delayed = lab.wire.delay(match(payload=True), 0.01)
        for number in range(100):
            client.put(lab.crafted(number))
        lab.loop.sleep(0.2)
        delayed.stop()
        arrived = len(server.seen)
        lab.wire.close()
        lines = [entry.text for entry in lab.transcript.entries if entry.node == "wire"]
        return {"arrived": arrived, "lines": len(lines), "last": lines[-1]}


def test_the_transcript_stays_readable(in_sandbox):
    """A rule that meets very many segments reports the first twenty, and the total in the end."""
    assert in_sandbox(many_told) == {"arrived": 100, "lines": 22, "last": "delays by 0.01 s 100 segments in all"}
