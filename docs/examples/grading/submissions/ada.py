"""Ada's scenario: when the four-tuple is free again."""

from twlab import Arm, Lab, Observation, Settings, scenario


@scenario(
    topology="pair",
    base=Settings(timestamps=0),
    control=Arm(Settings(time_wait_s=60), expect=Observation(reopened=False)),
    treatment=Arm(Settings(time_wait_s=5), expect=Observation(reopened=True)),
    reads="RFC 9293 section 3.6.1",
)
def early_reuse(lab: Lab) -> Observation:
    """With TIME_WAIT cut to 5 s, a four-tuple is reused while old segments may still be on their way."""
    client, server = lab["client"], lab["server"]
    listener = server.listen(80)

    lab.step("A connection ends; the client, which closes first, is in TIME_WAIT.")
    first = client.connect(server, 80, source_port=40_000)
    lab.close(first, listener.accept())

    lab.step(
        "Six seconds later, much sooner than a segment's two minutes, the client wants the same four-tuple."
    )
    lab.sleep(6)
    return Observation(reopened=bool(client.try_connect(server, 80, source_port=40_000)))
