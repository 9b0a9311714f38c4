"""How many connections a gateway finds a port for, in ranges of different sizes."""

from twlab import Arm, Lab, Observation, Settings, between, scenario

# The search begins at random: 407 to 512 connections of 512, and 216 to 256 of 256, in 20,000
# rounds of a model of it.
OF_256, OF_512 = between(195, 256), between(380, 512)
TABLE = "Open connections to one destination, until the gateway finds no port"


@scenario(
    topology="nat,ports=40000-{last}",
    control=Arm(Settings(), given={"last": 40_127}, expect=Observation(opened=128, dropped=3, insert_failed=3)),
    treatment={
        "256": Arm(Settings(), given={"last": 40_255}, expect=Observation(opened=OF_256)),
        "512": Arm(Settings(), given={"last": 40_511}, expect=Observation(opened=OF_512)),
        "256-ipv6": Arm(Settings(), given={"last": 40_255, "family": 6}, expect=Observation(opened=OF_256)),
    },
    reads="Linux net/netfilter/nf_nat_core.c (nf_nat_l4proto_unique_tuple: attempts = 128, halved from one round to "
    "the next down to 8); RFC 6888 section 3, REQ-2",
)
def snat_full_range(lab: Lab, *, last: int = 40_127, family: int = 4) -> Observation:
    """A gateway whose range has more than 248 ports to one destination gives up before they are all
    in use.

    The gateway looks for a free port in rounds of 128, 64, 32, 16 and 8 tries, 248 in all, each round
    from a place at random. A range of up to 128 ports is searched to the end (control): the connect
    after the last port meets silence, its SYN is dropped, and `insert_failed` and `drop` count one
    for each SYN. A larger one is not: some connects fail while a few ports of 256, or dozens of 512,
    are free. So a range fills to 90 % and more, as a rule, and no further.
    """
    client, server = lab["client"], lab["server"]
    server.listen(80, family=family)
    size, opened, held = last - 40_000 + 1, 0, []

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
