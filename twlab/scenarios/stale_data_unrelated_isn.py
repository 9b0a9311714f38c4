"""The chance that stale data of another host behind one address are accepted."""

from math import sqrt
from typing import NamedTuple

from twlab import Arm, Lab, Observation, Settings, isn, scenario
from twlab.observation import at_least, between
from twlab.segment import Segment, advance, match

TRIALS = 400  # stale segments
# Windows in the range where they are placed at random; the rest of the circle of 2^32 is like any
# place outside the window.
SPREAD = 8
STALE = 300  # bytes of each
SENT = 50_000  # bytes that the client sends on the new connection
Z = 3.89  # of a normal distribution: 99.99 %, so that a run in 10,000 misses by chance

# Of 400 trials at 1/8: 50, within 3.89 standard deviations of 6.6. At 1/16: 25, of 4.8. At 1/64: 6,
# of 2.5.
ONE_IN_8, ONE_IN_16, ONE_IN_64 = between(25, 76), between(7, 44), between(0, 18)


@scenario(
    topology="vip",
    # 1 ms, so that most trials are answered. With 0, Linux 7.1 and later (and 6.18's later
    # releases) challenges an ACK for what was never sent, as the client's own duplicate ACK is for
    # s2 after a stray segment, and both challenge each other for ever (RFC 1337 H2).
    base=Settings(timestamps=0, receive_window=131_072, invalid_ratelimit_ms=1),
    control=Arm(Settings(time_wait_s=60), expect=Observation(reopened=False, refused_by="EADDRNOTAVAIL", taken=0)),
    treatment={
        "sequence": Arm(
            Settings(time_wait_s=1),
            expect=Observation(
                reopened=True, taken=ONE_IN_8, unexplained=0, as_theory=True, foreign_bytes=at_least(1), errors=""
            ),
        ),
        "sequence-ipv6": Arm(
            Settings(time_wait_s=1),
            given={"family": 6},
            expect=Observation(
                reopened=True, taken=ONE_IN_8, unexplained=0, as_theory=True, foreign_bytes=at_least(1), errors=""
            ),
        ),
    },
    remedies={
        "acknowledgement": Arm(
            Settings(time_wait_s=1),
            given={"random_ack": True},
            expect=Observation(
                reopened=True, taken=ONE_IN_64, unexplained=0, as_theory=True, challenge_acks=at_least(1)
            ),
        ),
        "timestamps": Arm(
            Settings(time_wait_s=1, timestamps=1),
            expect=Observation(reopened=True, taken=ONE_IN_16, unexplained=0, as_theory=True, paws_drops=at_least(100)),
        ),
    },
    reads="RFC 9293 section 3.10.7.4; RFC 5961 section 5.2; RFC 6528; RFC 7323 section 5.3; "
    "Linux net/core/secure_seq.c, net/ipv4/tcp_input.c (tcp_sequence, tcp_ack)",
)
def stale_data_unrelated_isn(lab: Lab, *, random_ack: bool = False, family: int = 4) -> Observation:
    """A stray segment of another machine behind the same address is taken for data with probability
    window / 2^32, if TIME_WAIT was cut short.

    Behind a virtual address there are many machines, and a four-tuple that one has used comes to
    another the next time. Each has another secret for its initial sequence numbers, so the old ones
    say nothing about the new ones; no flow has to be fast for an overlap, as in `stale-data`, and
    none is safe because it is slow. A stray segment falls anywhere: into a window of W bytes with
    probability W / 2^32, which is 1.5e-5 for 64 KB and 1.5e-3 for 6 MB; one connection in 66,000,
    or in 680, that meets a stray segment.

    That is measured here, with the acknowledgement number given away: of 400 segments placed at
    random within 8 windows, one in 8 is taken. Scaled to the circle of 2^32, the window's share
    lies in the confidence interval of what was observed (99.99 %, Wilson). Each trial is also
    predicted by itself, from its own numbers (`unexplained`: how many more or fewer were taken). Of
    what was taken, the application reads what s2's own segments did not cover whole.

    Nothing is given away in life. A receiver that follows RFC 5961 wants an acknowledgement number
    that is not newer than what it has sent, nor older than what it has had acknowledged on this
    connection, nor by more than the largest window that it was offered: of A such numbers, chance
    must hit one, too (arm `acknowledgement`). Both together: (W / 2^32) x (A / 2^32), 2.3e-10 for
    64 KB each way, 2e-6 for 6 MB, unless the client's own numbers overlap (it is the same machine,
    and its clock the same), as after a fast upload. Timestamps (arm `timestamps`) help less than
    elsewhere: the clock of another machine is ahead as often as behind, and PAWS stops the half.

    The segments are crafted. In the lab the two servers share a kernel and its secret; that another
    machine's numbers could be any is the meaning of a secret, and is what is crafted.
    """
    client, vip, wire = lab["client"], lab["vip"], lab.wire
    listeners = [lab[name].listen(80, address=vip.address(family), family=family) for name in ("s1", "s2")]

    lab.step("A connection to the virtual address, which s1 answers, is closed by the client. From then on s2 answers.")
    old, peer = client.connect(vip, 80, source_port=40_000, family=family), listeners[0].accept()
    lab.close(old, peer)
    lab.network["vip"].point_at("s2")

    lab.step("The client opens the same four-tuple again, and the two exchange a little.")
    lab.sleep(1.5)
    opening, offers = wire.copy(match(flags="S")), wire.watch(match(source=vip.address(family), having="A"))
    attempt = client.try_connect(vip, 80, source_port=40_000, family=family)
    if not attempt.connection:
        return Observation(reopened=False, refused_by=attempt.error, taken=0)
    new, peer = attempt.connection, listeners[1].accept()
    lab.transfer(new, peer, SENT)
    late, reply = (
        wire.copy(match(source=vip.address(family), payload=True)),
        wire.copy(match(source=client.address(family), flags="A")),
    )
    lab.transfer(peer, new, STALE)
    lab.require(reply.wait(1), "the client has acknowledged that")

    lab.step(f"{TRIALS} stale segments of s1 arrive, at random places.")
    like, offer = late.segments[0], reply.segments[0]
    window = offer.window << (opening.segments[0].options.window_scale or 0)
    reach = min(SENT, largest_window(offers.segments))
    into = lab.network["vip"].interface_to("s1")
    queued, arrived = lab.moved("client", "TCPOFOQueue"), lab.moved("client", "TcpInSegs")
    drawn = window, reach if random_ack else 0, like.timestamp is not None
    trials = [draw(lab, *drawn) for _ in range(TRIALS)]
    for trial in trials:
        wire.inject(trial.segment(lab, like, offer), into)
    lab.require(lab.wait_until(lambda: lab.moved("client", "TcpInSegs") - arrived >= TRIALS), "all have arrived")
    taken = lab.moved("client", "TCPOFOQueue") - queued

    lab.step("s2 sends a window full of data; the client's application reads it.")
    peer.send(b"n" * 1000, total=window)
    read = new.receive(window)
    share = (1 / SPREAD) * (1 / SPREAD if random_ack else 1) * (1 / 2 if like.timestamp else 1)
    inside = sum(trial.fits(window, reach) for trial in trials)
    doubtful = sum(trial.may_fit(window, reach) for trial in trials)
    low, high = wilson(taken, TRIALS)
    lab.note(
        f"{taken} of {TRIALS} taken; theory says {share:g}, and {low:.4f} to {high:.4f} agrees with what was seen",
        window=window,
    )
    return Observation(
        reopened=True,
        taken=taken,
        unexplained=max(0, inside - taken, taken - inside - doubtful),
        as_theory=low <= share <= high,
        foreign_bytes=read.count(b"s"),
        errors=new.error + peer.error,
        challenge_acks=lab.moved("client", "TCPChallengeACK"),
        paws_drops=lab.moved("client", "PAWSEstab"),
        chance=isn.chance_in_window(window),
    )


class Trial(NamedTuple):
    """The place of a stale segment in the client's numbers.

    Attributes:
        ahead: bytes from the start of the client's window.
        older: by how much its acknowledgement number is too old; 0: exact.
        newer: by how much its timestamp is newer than the last one; None: it has none.
    """

    ahead: int
    older: int
    newer: int | None

    def segment(self, lab: Lab, like: Segment, offer: Segment) -> Segment:
        """Craft it like the late segment `like`.

        `offer` is the client's last acknowledgement.
        """
        stamp = None if like.timestamp is None else (advance(like.timestamp[0], self.newer or 0), 0)
        seq, ack = offer.ack + self.ahead, offer.seq - self.older
        return lab.wire.craft(like=like, seq=seq, ack=ack, payload=b"s" * STALE, timestamp=stamp)

    def fits(self, window: int, reach: int) -> bool:
        """Return whether the client takes it: the numbers fit, and it ends in the window."""
        return self._believed(reach) and 0 < self.ahead <= window - STALE

    def may_fit(self, window: int, reach: int) -> bool:
        """Return whether the client may take it: the numbers fit, and it ends past the window."""
        return self._believed(reach) and window - STALE < self.ahead <= window

    def _believed(self, reach: int) -> bool:
        return 0 <= self.older <= reach and (self.newer is None or self.newer >= 0)


def largest_window(segments: list[Segment]) -> int:
    """Return the largest window that these segments offer, of which the first is the SYN-ACK."""
    first, *others = segments
    return max([first.window, *(segment.window << (first.options.window_scale or 0) for segment in others)])


def draw(lab: Lab, window: int, reach: int, timestamps: bool) -> Trial:
    """Choose a place at random.

    `reach`: how far back acknowledgement numbers are believed; 0: the right one is given.
    """
    ahead = lab.random.randrange(SPREAD * window) - SPREAD * window // 2
    # Half old, half new, it would be taken at once, and move the window and the last timestamp for
    # those after it.
    if -STALE <= ahead <= 0:
        ahead -= STALE
    older = lab.random.randrange(SPREAD * reach) - SPREAD * reach // 2 if reach else 0
    return Trial(ahead, older, lab.random.randrange(-(1 << 31), 1 << 31) if timestamps else None)


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Wilson's interval for a probability of which `hits` of `trials` were seen."""
    share, width = hits / trials, Z * Z / trials
    middle, reach = share + width / 2, Z * sqrt(share * (1 - share) / trials + width / trials / 4)
    return (middle - reach) / (1 + width), (middle + reach) / (1 + width)
