"""A claim for a test: what differs between kernels for sure, and what by chance."""

import os
import platform

from twlab import Arm, Lab, Observation, Settings, scenario, since

HOLDS = Observation(read=10)


@scenario(
    topology="pair",
    control=Arm(Settings(), expect=HOLDS),
    treatment={"held-by-none": Arm(Settings(), expect=Observation(read=since("1.0", 10, before=11), release="none"))},
)
def compared(lab: Lab) -> Observation:
    """A connection carries ten bytes, on every kernel."""
    listener = lab["server"].listen(80)
    new, peer = lab["client"].connect(lab["server"], 80), listener.accept()
    lab.transfer(new, peer, 10)
    return Observation(read=10, noise=os.urandom(8).hex(), release=platform.release())
