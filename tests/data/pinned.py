"""A claim for a test: one arm reads what is pinned, the other what it has set itself."""

from twlab import Arm, Lab, Observation, Settings, scenario


@scenario(
    topology="pair",
    control=Arm(Settings(), given={"name": "tcp_autocorking"}, expect=Observation(value="0")),
    treatment={"set": Arm(Settings(sack=False), given={"name": "tcp_sack"}, expect=Observation(value="0"))},
)
def pinned(lab: Lab, *, name: str = "") -> Observation:
    """A sysctl is 0 at the client."""
    return Observation(value=lab.network["client"].read_sysctl(f"net.ipv4.{name}"))
