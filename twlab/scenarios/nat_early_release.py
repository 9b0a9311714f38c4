"""A NAT gateway that gives a port to the next client while a segment for the last one is still on its way."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.segment import match

STALE = 400  # bytes of the late segment

UNHURT = {"foreign_bytes": 0, "bytes_missing": 0, "errors": ""}


@scenario(
    topology="nat,clients=2",
    base=Settings(timestamps=0, nat_time_wait_s=1),
    control=Arm(Settings(nat_time_wait_s=120), expect=Observation(same_port=False, **UNHURT)),
    treatment={
        "in-window": Arm(Settings(), expect=Observation(same_port=True, foreign_bytes=STALE, bytes_missing=0, errors="")),
        "in-window-ipv6": Arm(Settings(), given={"family": 6}, expect=Observation(same_port=True, foreign_bytes=STALE, bytes_missing=0, errors="")),
        "as-it-was": Arm(Settings(), given={"fitted": False}, expect=Observation(same_port=True, **UNHURT)),
    },
    remedies={
        "timestamps": Arm(Settings(timestamps=1), expect=Observation(same_port=True, **UNHURT, paws_drops=1)),
    },
    reads="RFC 6888 section 3, REQ-8; RFC 5382 section 5, REQ-5; RFC 9293 section 3.6.1; "
    "Linux Documentation/networking/nf_conntrack-sysctl.rst (nf_conntrack_tcp_timeout_time_wait), net/ipv4/tcp_input.c (tcp_validate_incoming)",
)
def nat_early_release(lab: Lab, *, fitted: bool = True, family: int = 4) -> Observation:
    """When a NAT gateway gives a port away too early, a late segment for the client that had it is delivered to the one that has it now.

    RFC 6888 wants a freed port to rest for 120 s, and Linux keeps a connection in TIME_WAIT for as long (control: the second
    client is given another port). Here the timer is 1 s. The second client, with the same source port, gets the outside port that the
    first one had, and a segment that the server sent to the first client is now translated to the second. The first
    client's TIME_WAIT, 60 s long, protects nobody: what it guards is a four-tuple of the inside.

    Whether the second client's kernel takes it is a matter of sequence numbers, which of two connections have nothing to do with each other: the
    probability is W / 2^32 for a window of W bytes, and its acknowledgement number must fit as well. So the copy is fitted here, with numbers
    such as chance would give it (arm `in-window`): the application reads 400 bytes of a stranger's data. As it was (arm
    `as-it-was`), it does no harm: it lies outside the window. Timestamps stop it, if the server's clock is one: PAWS drops it.
    """
    first, second, server = lab["c1"], lab["c2"], lab["server"]
    listener = server.listen(80, family=family)
    from_server = match(source=server.address(family), payload=True)

    lab.step("The server answers the first client; the wire keeps a copy. The client closes first.")
    late = lab.wire.copy(from_server)
    old = first.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept()
    lab.transfer(peer, old, STALE, filler=b"o")
    lab.close(old, peer)

    lab.step("The gateway forgets that, if its timer is shorter than 2 s. The second client connects from the same port.")
    lab.sleep(2.5)
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
    return Observation(
        same_port=present.destination_port == copy.destination_port,
        foreign_bytes=read.count(b"o"),
        bytes_missing=1000 - len(read),
        errors=new.error + peer.error,
        paws_drops=lab.moved("c2", "PAWSEstab"),
    )
