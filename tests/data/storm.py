"""Two claims for a test: an ACK storm that nothing bounds, and a connection as any other."""

from twlab import Arm, Lab, Observation, Settings, match, scenario

HOLDS = Observation(read=400)


@scenario(
    topology="pair",
    base=Settings(timestamps=0, time_wait_s=1),
    control=Arm(Settings(), expect=HOLDS),
    treatment={"unlimited": Arm(Settings(invalid_ratelimit_ms=0), given={"storms": True}, expect=HOLDS)},
    remedies={"after-it": Arm(Settings(), expect=HOLDS)},
)
def storm(lab: Lab, *, storms: bool = False) -> Observation:
    """Two ends without a rate limit answer each other for ever, and no process is needed for it.

    Nothing watches the wire meanwhile, so that all of it happens in the guest's kernel.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    listener = server.listen(80)
    old, peer = client.connect(server, 80, source_port=40_000), listener.accept()
    copies = wire.copy(match(source=client.address(), payload=True))
    lab.transfer(old, peer, 400)
    lab.close(old, peer)
    lab.sleep(2)
    again = lab.reopen(old, listener)
    again.peer.pause()  # a read would keep a segment waiting, lose it, and so end the storm
    lab.sleep(0.1)
    lab.step("The old segment arrives.")
    if storms:
        wire.inject(wire.craft(like=copies.segments[0], seq=again.syn.end_seq, ack=again.syn_ack.end_seq))
    else:
        again.new.send(b"n" * 400)
    lab.sleep(1)
    again.peer.resume()
    return Observation(read=len(again.peer.receive(400)))
