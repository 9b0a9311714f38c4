"""A NAT gateway reuses a port while a segment for its last client is under way."""

from twlab import Arm, Lab, Observation, Settings, between, scenario
from twlab.segment import match

STALE = 400  # bytes of the late segment
TABLE = "How long a closed connection's port rests, and what the next client reads there"

UNHURT = {"foreign_bytes": 0, "bytes_missing": 0, "errors": ""}
HURT = {"same_port": True, "foreign_bytes": STALE, "bytes_missing": 0, "errors": ""}


@scenario(
    topology="nat,clients=2",
    base=Settings(timestamps=0, nat_time_wait_s=1),
    control=Arm(
        Settings(nat_time_wait_s=120),
        expect=Observation(state="TIME_WAIT", timer_s=between(118, 120), same_port=False, **UNHURT),
    ),
    treatment={
        "1-s": Arm(Settings(), expect=Observation(state="TIME_WAIT", timer_s=between(0, 1), **HURT)),
        "1-s-ipv6": Arm(
            Settings(), given={"family": 6}, expect=Observation(state="TIME_WAIT", timer_s=between(0, 1), **HURT)
        ),
        "10-s": Arm(
            Settings(nat_time_wait_s=10), given={"rest_s": 11.5}, expect=Observation(timer_s=between(8, 10), **HURT)
        ),
        "60-s": Arm(
            Settings(nat_time_wait_s=60), given={"rest_s": 61.5}, expect=Observation(timer_s=between(58, 60), **HURT)
        ),
        "reset": Arm(
            Settings(nat_time_wait_s=120),
            given={"reset": True, "rest_s": 11.5},
            expect=Observation(state="CLOSE", timer_s=between(8, 10), **HURT),
        ),
        "as-it-was": Arm(Settings(), given={"fitted": False}, expect=Observation(same_port=True, **UNHURT)),
    },
    remedies={
        "timestamps": Arm(Settings(timestamps=1), expect=Observation(same_port=True, **UNHURT, paws_drops=1)),
        "60-s-and-soon": Arm(Settings(nat_time_wait_s=60), expect=Observation(same_port=False, **UNHURT)),
        "reset-240-s": Arm(
            Settings(nat_close_s=240),
            given={"reset": True},
            expect=Observation(state="CLOSE", timer_s=between(238, 240), same_port=False, **UNHURT),
        ),
    },
    reads="RFC 6888 section 3, REQ-8; RFC 5382 section 5, REQ-5; RFC 7857 section 2, TCP RST; RFC 9293 section 3.6.1; "
    "Linux Documentation/networking/nf_conntrack-sysctl.rst (nf_conntrack_tcp_timeout_*), net/ipv4/tcp_input.c "
    "(tcp_validate_incoming)",
)
def nat_early_release(
    lab: Lab, *, rest_s: float = 2.5, reset: bool = False, fitted: bool = True, family: int = 4
) -> Observation:
    """When a NAT gateway gives a port away too early, a late segment for the client that had it is
    delivered to the one that has it now.

    RFC 6888 wants a freed port to rest for 120 s, and Linux keeps a connection in TIME_WAIT for as
    long (control: the second client is given another port). Shortened to 60, 10 or 1 s (the arms of
    those names), the second client, coming just after that with the same source port, gets the
    outside port that the first one had, and a segment that the server sent to the first client is
    translated to the second. The first client's TIME_WAIT, 60 s long, protects no connection: what
    it guards is a four-tuple of the inside.

    What the RFCs ask for, and what Linux does; `timer_s` is read from the gateway's entry after the
    close. After FINs: 120 s, and 120 s it is, unless ports are short (`nat-port-scarcity`). After a
    RST: RFC 7857 asks for 4 minutes, Linux keeps the port for 10 s (arm `reset`, with Linux's own
    timers, and remedy `reset-240-s`). While a connection opens or closes, RFC 5382 asks for 4
    minutes, and Linux has 30 to 120 s; when it is established, for 2 h 4 min, and Linux has five
    days.

    Whether the second client's kernel takes the segment is a matter of sequence numbers, which of
    two connections have nothing to do with each other: the probability is W / 2^32 for a window of
    W bytes, and its acknowledgement number must fit as well. So the copy is fitted here, with
    numbers such as chance would give it: the application reads 400 bytes of a stranger's data. As
    it was (arm `as-it-was`), it does no harm. Timestamps stop it, if the server's clock is one:
    PAWS drops it.
    """
    first, second, server = lab["c1"], lab["c2"], lab["server"]
    listener = server.listen(80, family=family)
    from_server = match(source=server.address(family), payload=True)

    lab.step(
        "The server answers the first client; the wire keeps a copy. The client "
        + ("resets the connection." if reset else "closes first.")
    )
    late = lab.wire.copy(from_server)
    old = first.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept()
    lab.transfer(peer, old, STALE, filler=b"o")
    if reset:
        old.abort()
        peer.wait_closed_by_peer()
    else:
        lab.close(old, peer)
    (entry,) = lab.conntrack("nat")

    lab.step(
        f"{rest_s:g} s later the gateway has forgotten that, if its timer is shorter. The second client connects "
        "from the same port."
    )
    lab.sleep(rest_s)
    new = second.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept()
    sample = lab.wire.copy(from_server)
    lab.transfer(peer, new, 100)
    present, copy = sample.segments[0], late.segments[0]

    lab.step("The copy arrives, for the first client's outside address and port.")
    lab.wire.inject(lab.wire.craft(like=copy, seq=present.end_seq + 200, ack=present.ack) if fitted else copy)
    lab.sleep(0.3)

    lab.step("The server sends the second client 1,000 bytes, and as many are read.")
    new.receive(100, timeout_s=0)
    peer.send(b"n" * 200)
    peer.send(b"n" * 800)
    read = new.receive(1000)
    facts = {
        "state": entry.state,
        "timer_s": entry.remaining_s,
        "same_port": present.destination_port == copy.destination_port,
        "foreign_bytes": read.count(b"o"),
        "bytes_missing": 1000 - len(read),
    }
    lab.row(
        TABLE,
        asked_s=240 if reset else 120,
        next_client_after_s=rest_s,
        timestamps=lab.settings["server"].timestamps,
        **facts,
    )
    return Observation(**facts, errors=new.error + peer.error, paws_drops=lab.moved("c2", "PAWSEstab"))
