"""tcp_tw_reuse: a client reuses a four-tuple that it holds in TIME_WAIT."""

from twlab import Arm, Lab, Observation, Settings, isn, scenario
from twlab.lab.lab import Reopened
from twlab.segment import Segment, distance, match

BULK = 33_000_000  # bytes that the old server sends, where its numbers shall fit the new connection; see `stale-data`
EARLY = 3_000_000  # how many of them are still ahead when the four-tuple is opened again
SENT = 1_000_000  # bytes that the new client has had acknowledged by then
STALE = 400  # bytes of the segment that arrives late
ABOVE = 65_537  # from where the old client ended to where the new one starts

SAFE = {"reopened": True, "recycled": 1, "starts_above": ABOVE, "bytes_missing": 0, "foreign_bytes": 0}


@scenario(
    topology="pair,mtu=60000",
    base=Settings(time_wait_s=60, port_low=40_000, port_high=40_000, receive_window=8_000_000),
    control=Arm(Settings(tw_reuse=0), expect=Observation(reopened=False, refused_by="EADDRNOTAVAIL", foreign_bytes=0)),
    treatment={
        "reuse": Arm(Settings(tw_reuse=1), expect=Observation(**SAFE, paws_drops=1)),
        "reuse-ipv6": Arm(Settings(tw_reuse=1), given={"family": 6}, expect=Observation(**SAFE, paws_drops=1)),
        "bound-port": Arm(Settings(tw_reuse=0), given={"bound": True}, expect=Observation(**SAFE, paws_drops=1)),
        "timestamp-lost": Arm(
            Settings(tw_reuse=1),
            given={"strip_timestamp": True},
            expect=Observation(**SAFE, paws_drops=0, challenge_acks=0),
        ),
        "from-server": Arm(
            Settings(tw_reuse=1), given={"late_from": "server"}, expect=Observation(**SAFE, paws_drops=1)
        ),
        "from-server-timestamp-lost": Arm(
            Settings(tw_reuse=1),
            given={"late_from": "server", "strip_timestamp": True},
            expect=Observation(**SAFE, paws_drops=0, challenge_acks=1),
        ),
    },
    remedies={
        "no-timestamps": Arm(
            Settings(tw_reuse=1, timestamps=0),
            expect=Observation(reopened=False, refused_by="EADDRNOTAVAIL", foreign_bytes=0),
        ),
    },
    reads="Linux Documentation/networking/ip-sysctl.rst (tcp_tw_reuse), net/ipv4/tcp_ipv4.c (tcp_twsk_unique), "
    "net/ipv4/tcp_input.c (tcp_ack, "
    "tcp_validate_incoming); RFC 6191; RFC 5961 section 5.2; RFC 7323 section 5.3",
)
def tw_reuse_safe(
    lab: Lab, *, bound: bool = False, strip_timestamp: bool = False, late_from: str = "client", family: int = 4
) -> Observation:
    """With tcp_tw_reuse a client takes a four-tuple over from its own TIME_WAIT after a second, and
    segments of the old connection do no harm.

    The new connection starts 65,537 above the last sequence number of the old one, more than a
    window without scaling, wherever the clock of initial sequence numbers stands; and it inherits
    the last timestamp seen. So what the old client sent lies below what the new one sends, and PAWS
    drops it besides. One condition: the old connection used timestamps (without them the sysctl
    does nothing). A client that binds the port itself, as some proxies do, takes the TIME_WAIT over
    at once, even with tcp_tw_reuse off (arm `bound-port`).

    The server starts by its clock, as ever. What the old server sent may therefore fit the new
    client's window, if the old flow was fast, and PAWS stops it. Even a copy that lost its
    timestamp on the way comes to nothing: its acknowledgement number is 65,537 older than anything
    the new client has sent, and a client that follows RFC 5961 takes no data with that, but sends a
    challenge ACK. (Until 6.7 Linux took acknowledgement numbers older by up to the largest window
    offered, and these are; now nothing older than the connection.)
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    source_port = 40_000 if bound else 0
    listener = server.listen(80, family=family)

    lab.step(f"A transfer ends; the wire keeps a copy of the {late_from}'s last data. The client closes first.")
    opening = wire.copy(match(flags="SA"))
    old = client.connect(server, 80, source_port=source_port, family=family)
    peer = listener.accept()
    lab.transfer(peer, old, BULK if late_from == "server" else 0)
    late = wire.copy(match(source=lab[late_from].address(family), payload=True))
    lab.transfer(*((old, peer) if late_from == "client" else (peer, old)), STALE)
    ending = wire.copy(match(source=client.address(family), having="F"))
    lab.close(old, peer)

    lab.step("The client opens the same four-tuple again.")
    copy = late.segments[0]
    if late_from == "server":
        sleep_until_it_fits(lab, opening.segments[0], copy)
    else:
        lab.sleep(0.1 if bound else 1.2)
    again = lab.reopen(old, listener, source_port=source_port)
    if again.error:
        return Observation(reopened=False, refused_by=again.error, foreign_bytes=0)
    new, peer = again.new, again.peer
    sender, receiver = (new, peer) if late_from == "client" else (peer, new)

    lab.step("The new connection carries data. Then the copy arrives.")
    if late_from == "server":
        come_near(lab, again, copy)
    answer = wire.watch(match(source=receiver.node.address(family)))
    late.release(without_timestamp=strip_timestamp)
    lab.require(answer.wait(1), "the copy is answered")

    lab.step("The next 1,000 bytes are sent, and as many are read.")
    sender.send(b"n" * 200)
    sender.send(b"n" * 800)
    read = receiver.receive(1000)
    return Observation(
        reopened=True,
        recycled=lab.moved("client", "TWRecycled"),
        starts_above=distance(ending.segments[0].end_seq, again.syn.seq),
        bytes_missing=1000 - len(read),
        foreign_bytes=len(read) - read.count(b"n"),
        paws_drops=lab.moved(receiver.node.name, "PAWSEstab"),
        challenge_acks=lab.moved(receiver.node.name, "TCPChallengeACK"),
    )


def sleep_until_it_fits(lab: Lab, syn_ack: Segment, copy: Segment) -> None:
    """Wait until a new server's first sequence number is `EARLY` below the copy's."""
    reopen_at_s = isn.reaches_at_s(syn_ack.seq, syn_ack.at_s, copy.seq) - EARLY / isn.PER_SECOND
    lab.require(
        reopen_at_s - lab.now_s > 1.1,
        "the old flow outran the clock of initial sequence numbers by more than 1.1 s",
    )
    lab.sleep_until(reopen_at_s)


def come_near(lab: Lab, again: Reopened, copy: Segment) -> None:
    """Transfer data until the server's next byte is 200 below the copy.

    The copy's acknowledgement number is then too old, by less than the window offered.
    """
    ahead = distance(again.syn_ack.end_seq, copy.seq)
    lab.require(ahead > 1000, "the new server starts below the copy")
    lab.transfer(again.new, again.peer, SENT)
    offers = lab.wire.copy(match(source=copy.source, having="A"))
    lab.transfer(again.peer, again.new, ahead - 200)
    offer = offers.segments[0]
    window, older = offer.window << (again.syn_ack.options.window_scale or 0), distance(copy.ack, offer.ack)
    lab.require(
        ABOVE + SENT < older < window,
        f"the copy's acknowledgement number is {older} too old, less than the window of {window}",
    )
