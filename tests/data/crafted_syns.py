"""SYNs of crafted clients, put to a server that remembers a timestamp: which of them it answers."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.segment import advance, match

BASE = 3_000_000_000  # the timestamp remembered
EDGES = (0, -1, -2, -1000, 1, 2, 1000, 2**31 - 1, 2**31, -(2**31) + 1, None)  # None: a SYN without timestamp
AT_RANDOM = 25
WAIT_S = 0.1


def steps_from(rng) -> list[int | None]:
    """How far each SYN's timestamp is from the one remembered."""
    return [*EDGES, *(rng.randrange(-(2**31), 2**31) for _ in range(AT_RANDOM))]


@scenario(
    topology="pair",
    base=Settings(timestamps=1),
    control=Arm(Settings(tw_recycle=False), expect=Observation(unanswered=0)),
    treatment={
        "recycle": Arm(Settings(tw_recycle=True), expect=Observation(remembered=True)),
        "recycle-ipv6": Arm(Settings(tw_recycle=True), given={"family": 6}, expect=Observation(remembered=True)),
    },
    reads="twlab.tuning.recycle_rule",
)
def crafted_syns(lab: Lab, *, family: int = 4) -> Observation:
    """Which SYNs are answered follows from their timestamps alone.

    The same ones are sent in every run of a seed.
    """
    server = lab["server"]
    listener = server.listen(80, family=family)
    place = server.address(family), 80
    from_server = match(source=server.address(family))

    first = lab.wire.endpoint(lab.network["client"], 5000, family=family)
    first.send(place, "S", seq=1, timestamp=(BASE, 0), options=[("MSS", 1400)])
    answer = first.expect(from_server)
    lab.require(answer and answer.flags == "SA" and answer.timestamp, "the first SYN is answered")
    echo = answer.timestamp[0]
    first.send(place, "A", seq=2, ack=answer.end_seq, timestamp=(BASE, echo))
    listener.accept().close()
    fin = first.expect(match(source=server.address(family), having="F"))
    first.send(place, "FA", seq=2, ack=fin.end_seq, timestamp=(BASE, echo))
    lab.require(first.expect(from_server), "the server has seen the FIN")

    answers = ""
    for number, step in enumerate(steps_from(lab.random)):
        timestamp = {} if step is None else {"timestamp": (advance(BASE, step), 0)}
        with lab.wire.endpoint(lab.network["client"], 5001 + number, family=family) as client:
            client.send(place, "S", seq=1000, options=[("MSS", 1400)], **timestamp)
            answer = client.expect(from_server, WAIT_S)
            answers += "A" if answer and answer.flags == "SA" else "." if answer is None else "?"
            if answer:
                client.send(place, "R", seq=1001)
    return Observation(
        answers=answers,
        unanswered=answers.count("."),
        remembered=lab.moved("server", "PAWSPassive") == answers.count("."),
    )
