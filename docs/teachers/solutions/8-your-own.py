"""Mine: a scenario of your own. It runs as it is; the numbers say what to change, and in which order.

To look at it, to run it, and to run one arm of it with another setting:

    twlab explain mine.py
    twlab run mine.py
    twlab run mine.py --arm treatment --set time_wait_s=0.5

"twlab list" names the scenarios that come with twlab; their files show how a segment is held, copied, dropped or made.
"""

from twlab import Arm, Lab, Observation, Settings, scenario

PORT = 40_000  # the connecting side's; with the server's port 80 and the two addresses it makes the four-tuple


# 1. Predict, before anything runs: what each arm is set to, and what it will show. The control is
# TIME_WAIT as the RFC wants it.
@scenario(
    topology="pair",
    base=Settings(timestamps=0),  # what all arms share; "twlab explain" says what each setting is
    control=Arm(Settings(time_wait_s=60), expect=Observation(reopened=False, refused_by="EADDRNOTAVAIL")),
    treatment=Arm(Settings(time_wait_s=1), expect=Observation(reopened=True, refused_by="")),
    remedies={
        "timestamps": Arm(Settings(time_wait_s=60, timestamps=1), expect=Observation(reopened=True, refused_by="")),
    },
    reads="RFC 9293 section 3.6.1",  # 4. where the claim comes from
)
def mine(lab: Lab) -> Observation:
    """A four-tuple in TIME_WAIT cannot be opened again; two seconds later it can, where TIME_WAIT is cut to one.

    2. The paragraph above is the claim: one sentence that can turn out false. Here you say why it should be so.
    """
    opener, server = lab["client"], lab["server"]
    listener = server.listen(80)

    # 3. The steps. Each begins with what happens in it, in words; the words appear in the transcript and in the ladder.
    lab.step("A connection is opened and closed; its opener closes first, and so has the TIME_WAIT.")
    first = opener.connect(server, 80, source_port=PORT)
    lab.close(first, listener.accept())

    lab.step("Two seconds later the same four-tuple is opened again.")
    lab.sleep(2)
    attempt = opener.try_connect(server, 80, source_port=PORT)

    # What was seen, under the names that the predictions use. A fact that no arm predicts is recorded all the same.
    return Observation(reopened=bool(attempt), refused_by=attempt.error, time_wait_sockets=len(lab.time_wait("client")))
