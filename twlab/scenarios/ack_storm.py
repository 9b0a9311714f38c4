"""The ACK storm of RFC 1337 (hazard H2), on purpose."""

from twlab import Arm, Lab, Observation, Settings, at_least, at_most, between, match, scenario, since
from twlab.segment import distance

STALE = 400  # bytes of the old segment: the server acknowledges them, and the client has not sent them
ONE_WAY_S = 0.005  # of the wire, which bounds a storm: a segment in flight each 5 ms
WATCHED_S = 1.0
CALM = at_most(4)
ROUNDS = between(60, 202)  # 200 in virtual time; in real time some are late
SINCE = "6.18"  # in its later stable releases, from Linux 7.1
STORM = Observation(acked_unsent=STALE, storm=since(SINCE, ROUNDS, CALM))
ENDLESS = since(SINCE, ROUNDS, 0)
UNLIMITED = Settings(time_wait_s=1, invalid_ratelimit_ms=0)


@scenario(
    topology="pair",
    base=Settings(timestamps=0),
    control=Arm(
        Settings(time_wait_s=1, invalid_ratelimit_ms=500),
        expect=Observation(acked_unsent=STALE, storm=CALM, after=0),
    ),
    treatment={
        "unlimited": Arm(UNLIMITED, expect=Observation(**STORM, after=ENDLESS)),
        "ipv6": Arm(UNLIMITED, given={"family": 6}, expect=Observation(**STORM, after=ENDLESS)),
        "too-few-bytes": Arm(
            UNLIMITED,
            given={"then": "few"},
            expect=Observation(**STORM, after=since(SINCE, at_least(300), at_most(20))),
        ),
    },
    remedies={
        "one-lost": Arm(UNLIMITED, given={"then": "loss"}, expect=Observation(**STORM, after=0)),
        "more-bytes": Arm(
            UNLIMITED, given={"then": "enough"}, expect=Observation(**STORM, after=at_most(8), left_bytes=0)
        ),
        "limit-1-ms": Arm(
            Settings(time_wait_s=1, invalid_ratelimit_ms=1),
            expect=Observation(acked_unsent=STALE, storm=since(SINCE, ROUNDS, CALM)),
        ),
        "limit-100-ms": Arm(
            Settings(time_wait_s=1, invalid_ratelimit_ms=100),
            expect=Observation(acked_unsent=STALE, storm=CALM, after=0),
        ),
        "full-time-wait": Arm(
            Settings(time_wait_s=60, invalid_ratelimit_ms=0), expect=Observation(refused_by="EADDRNOTAVAIL", storm=0)
        ),
    },
    reads="RFC 1337 section 2.3, hazard H2; RFC 5961 section 5.2; RFC 9293 section 3.10.7.4; "
    "Linux net/ipv4/tcp_input.c (tcp_ack, tcp_send_challenge_ack, tcp_validate_incoming, tcp_oow_rate_limited), "
    "Documentation/networking/ip-sysctl.rst (tcp_invalid_ratelimit)",
)
def ack_storm(lab: Lab, *, then: str = "nothing", family: int = 4) -> Observation:
    """Since Linux answers an acknowledgement of what was never sent, two ends without a rate limit
    answer each other for ever.

    RFC 1337 calls it hazard H2. Stale data make the server acknowledge bytes that the client has
    not sent. RFC 5961 wants the client to answer that by a challenge ACK. Its sequence number is
    too low for the server, which answers by its own ACK, which acknowledges too much again. Neither
    segment carries data, so neither is ever repeated, and nothing in them changes.

    Linux dropped such an acknowledgement in silence until 7.0, and has sent a challenge ACK since
    7.1 (and in the later stable releases of 6.18). What keeps the storm away is
    `tcp_invalid_ratelimit`: each end answers one such segment in 500 ms, and the first answer that
    is left out ends the loop. With 0 there is no limit. The wire here takes 5 ms each way, and so
    carries 200 segments a second; on a link of 50 us it would be 20,000, in one processor's
    interrupts. The limit ends the storm where it is longer than the round trip, and does not where
    it is shorter by a tick or more (arm `limit-1-ms`).

    One lost segment ends it (arm `one-lost`). So does data that passes the acknowledged number
    (`more-bytes`). A client with less to say makes it worse: the server finds each repetition of
    its bytes too old, and answers, so each starts one more loop (`too-few-bytes`).

    The late segment is the wire's genuine copy, put where the server goes on reading, as in
    `ack-for-unsent`.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    listener = server.listen(80, family=family)

    lab.step("A short connection; the wire keeps a copy of the client's data.")
    old, peer = client.connect(server, 80, source_port=40_000, family=family), listener.accept()
    copies = wire.copy(match(source=client.address(family), payload=True))
    lab.transfer(old, peer, STALE)
    lab.close(old, peer)

    lab.step("Two seconds later the client opens the same four-tuple again, over a wire that takes 5 ms each way.")
    lab.sleep(2)
    again = lab.reopen(old, listener)
    if again.error:
        return Observation(refused_by=again.error, storm=0)
    lab.sleep(0.1)
    slow = wire.delay(match(), ONE_WAY_S)

    lab.step("The old segment arrives where the new stream begins. A second passes.")
    stale = copies.segments[0]
    wire.inject(wire.craft(like=stale, seq=again.syn.end_seq, ack=again.syn_ack.end_seq))
    lab.sleep(WATCHED_S)
    acks = [segment for segment in slow.segments if segment.source == server.address(family)]
    lab.require(acks, "the server has answered it")
    storm = len(slow.segments)

    if then == "loss":
        lab.step("The wire loses one segment.")
        lost = wire.drop(match(), count=1)
        lab.sleep(0.1)
        lost.stop()
    elif then in ("few", "enough"):
        lab.step("The client sends fewer bytes than were acknowledged." if then == "few" else "The client sends more.")
        again.new.send(b"n" * (STALE // 2 if then == "few" else 2 * STALE))
    lab.sleep(0.5)
    before = len(slow.segments)

    lab.step("Another second passes.")
    lab.sleep(WATCHED_S)
    after, left = len(slow.segments) - before, lab.sockets("client", "ESTABLISHED")[0].send_queue

    lab.step("The wire loses everything, which ends a storm, and both ends give up.")
    end = wire.drop(match())
    again.new.abort()
    again.peer.abort()
    lab.sleep(0.1)
    end.stop()
    return Observation(acked_unsent=distance(again.syn.end_seq, acks[0].ack), storm=storm, after=after, left_bytes=left)
