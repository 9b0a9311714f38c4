"""A segment for one server that arrives when the four-tuple belongs to another."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.segment import match

STALE = 400  # bytes of the late segment
SAME_PORT = {"second_port": 40_000}
UNHURT = {"foreign_bytes": 0, "bytes_missing": 0, "errors": ""}
HURT = {"foreign_bytes": STALE, "bytes_missing": 0, "errors": ""}


@scenario(
    topology="dnat,choice={choice}",
    base=Settings(timestamps=0),
    control=Arm(Settings(), expect=Observation(other_server=True, **UNHURT)),
    treatment={
        "other-server": Arm(Settings(), given=SAME_PORT, expect=Observation(other_server=True, **HURT)),
        "other-server-ipv6": Arm(
            Settings(), given=SAME_PORT | {"family": 6}, expect=Observation(other_server=True, **HURT)
        ),
        "liberal": Arm(Settings(nat_be_liberal=True), given=SAME_PORT, expect=Observation(other_server=True, **HURT)),
        "strict": Arm(Settings(nat_loose=False), given=SAME_PORT, expect=Observation(other_server=True, **HURT)),
    },
    remedies={
        "timestamps": Arm(
            Settings(timestamps=1), given=SAME_PORT, expect=Observation(other_server=True, **UNHURT, paws_drops=1)
        ),
        "as-it-was": Arm(
            Settings(), given=SAME_PORT | {"fitted": False}, expect=Observation(other_server=True, **UNHURT)
        ),
    },
    reads="Linux net/netfilter/nf_conntrack_proto_tcp.c (tcp_in_window), net/ipv4/tcp_input.c (tcp_validate_incoming); "
    "RFC 9293 section 3.6.1",
)
def dnat_late_segment(
    lab: Lab, *, choice: str = "rr", second_port: int = 40_001, fitted: bool = True, family: int = 4
) -> Observation:
    """Behind a balancer by destination NAT a late segment of a client's closed connection is read by
    another server, once the client has used the port again; the TIME_WAIT of the server that it was
    for does not see it.

    The balancer translates by its entry of now. A late segment of the connection before goes where
    the present one goes, and there it is judged by sequence numbers alone. The server that was in
    TIME_WAIT for it is passed by. Where the client uses another port, the old entry still leads to
    that server, whose TIME_WAIT takes the segment (control).

    Here the copy is fitted with numbers such as chance would give it: W / 2^32 for a window of W
    bytes. As it was, it does no harm, since Linux starts a four-tuple's next connection above the
    last one, and the client's kernel does so without regard to servers. Timestamps stop it.
    Neither `nf_conntrack_tcp_be_liberal` nor `loose` changes anything: the segment fits.
    """
    client, service, balancer = lab["client"], lab.service(family=family), lab["balancer"]
    to_balancer = match(destination=balancer.address(family), payload=True)

    lab.step("The client sends 400 bytes to the first server; the wire keeps a copy. The server closes first.")
    late = lab.wire.copy(to_balancer)
    old = service.visit(client, source_port=40_000, ending="")
    assert old.near and old.far
    lab.transfer(old.near, old.far, STALE, filler=b"o")
    service.end(old, "server")

    lab.step(f"The client connects again, from port {second_port}.")
    new = service.visit(client, source_port=second_port, ending="")
    assert new.near and new.far
    sample = lab.wire.copy(to_balancer)
    lab.transfer(new.near, new.far, 100)
    present, copy = sample.segments[0], late.segments[0]

    lab.step("The copy arrives. Then the client sends 1,000 bytes, and as many are read.")
    fields = {"seq": present.end_seq + 200, "ack": present.ack} if fitted else {}
    lab.wire.inject(lab.wire.craft(like=copy, **fields))
    lab.sleep(0.3)
    new.far.receive(100, timeout_s=0)
    new.near.send(b"n" * 200)
    new.near.send(b"n" * 800)
    read = new.far.receive(1000)
    return Observation(
        other_server=new.server != old.server,
        foreign_bytes=read.count(b"o"),
        bytes_missing=1000 - len(read),
        errors=new.near.error + new.far.error,
        paws_drops=lab.moved(new.server, "PAWSEstab"),
    )
