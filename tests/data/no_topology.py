"""A scenario whose topology file cannot be loaded."""

from twlab import Arm, Lab, Observation, Settings, scenario

ARM = Arm(Settings(), expect=Observation(x=1))


@scenario(topology=f"{__file__}:pair", control=ARM, treatment=ARM, reads="nothing")
def no_topology(lab: Lab) -> Observation:
    """A scenario file is no topology file."""
    return Observation(x=1)
