"""Bob's scenario, which looks at what it was told and not at what happened: it cannot fail, and that is found out."""

from twlab import Arm, Lab, Observation, Settings, scenario


@scenario(
    topology="pair",
    base=Settings(timestamps=0),
    control=Arm(Settings(time_wait_s=60), expect=Observation(reopened=False)),
    treatment=Arm(Settings(time_wait_s=15), expect=Observation(reopened=True)),
    reads="RFC 9293 section 3.6.1",
)
def early_reuse(lab: Lab) -> Observation:
    """With TIME_WAIT cut to 15 s, a four-tuple is reused while old segments may still be on their way."""
    client, server = lab["client"], lab["server"]
    listener = server.listen(80)

    lab.step("A connection ends; the client, which closes first, is in TIME_WAIT.")
    first = client.connect(server, 80, source_port=40_000)
    lab.close(first, listener.accept())

    lab.step(
        "Sixteen seconds later, much sooner than a segment's two minutes, the client wants the same four-tuple."
    )
    lab.sleep(16)
    client.try_connect(server, 80, source_port=40_000)
    return Observation(reopened=lab.settings["client"].time_wait_s < 60)
