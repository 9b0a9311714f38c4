"""How many connections a gateway finds a port for, in ranges of different sizes."""

from collections.abc import Callable, Mapping
from typing import Any

from twlab import Arm, Lab, Observation, Settings, between, scenario

# The search begins at random: 407 to 512 connections of 512, 216 to 256 of 256, and 174 to 200 of
# 200, in thousands of rounds of a model of it.
FIRST, WHOLE = 40_000, 128  # first port of the range; ports that one round of the search tries
OF_200, OF_256, OF_512 = between(160, 200), between(195, 256), between(380, 512)
TABLE = "Open connections to one destination, until the gateway finds no port"


def predict(arm: str, at: Callable[[str], Settings], given: Mapping[str, Any]) -> Observation | None:
    """Predict for other ranges that the search tries as a whole; None for larger ones."""
    size = given["last"] - FIRST + 1
    return Observation(opened=size, dropped=3, insert_failed=3) if 1 <= size <= WHOLE else None


@scenario(
    topology="nat,ports=40000-{last}",
    control=Arm(Settings(), given={"last": 40_127}, expect=Observation(opened=128, dropped=3, insert_failed=3)),
    treatment={
        "200": Arm(Settings(), given={"last": 40_199}, expect=Observation(opened=OF_200)),
        "256": Arm(Settings(), given={"last": 40_255}, expect=Observation(opened=OF_256)),
        "512": Arm(Settings(), given={"last": 40_511}, expect=Observation(opened=OF_512)),
        "256-ipv6": Arm(Settings(), given={"last": 40_255, "family": 6}, expect=Observation(opened=OF_256)),
    },
    reads="Linux net/netfilter/nf_nat_core.c (nf_nat_l4proto_unique_tuple: attempts = 128, halved from one round to "
    "the next down to 8)",
    predict=predict,
)
def snat_full_range(lab: Lab, *, last: int = 40_127, family: int = 4) -> Observation:
    """A gateway whose range has more than 128 ports to one destination may give up before they are
    all in use.

    The gateway looks for a free port in a round of 128 tries. If the range is larger, rounds of 64,
    32, 16 and 8 tries follow, 248 in all, each from a place at random. A range of up to 128 ports is
    searched to the end (control): the connect after the last port meets silence, its SYN is dropped,
    and `insert_failed` and `drop` count one for each SYN. A larger one is not: some connects fail
    while a port or two of 200, a few of 256, or dozens of 512, are free. The tries of a round may
    fall on ports that another has tried, so that 248 tries do not reach 200 ports with certainty:
    every second range of 200 fills to the last port (arm `200`). So a range fills to 90 % and more,
    as a rule, and no further.
    """
    client, server = lab["client"], lab["server"]
    server.listen(80, family=family)
    size, opened, held = last - FIRST + 1, 0, []

    lab.step(f"The client opens connections, and keeps them, until one finds no port of {size}.")
    while attempt := client.try_connect(server, 80, family=family, timeout_s=0.2):
        held.append(attempt.connection)
    opened = len(held)

    lab.step("It tries twice more.")
    for _ in range(2):
        opened += bool(client.try_connect(server, 80, family=family, timeout_s=0.2))
    dropped, failed = lab.moved("nat", "ConntrackDrop"), lab.moved("nat", "ConntrackInsertFailed")
    lab.row(TABLE, ports=size, opened=len(held), free=size - len(held), dropped=dropped, insert_failed=failed)
    return Observation(opened=len(held), dropped=dropped, insert_failed=failed)
