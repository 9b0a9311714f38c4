"""A four-tuple that comes again, and a balancer that has another server in mind."""

from itertools import pairwise

from twlab import Arm, Lab, Observation, Settings, at_least, between, match, scenario

TABLE = "A four-tuple used again through destination NAT"

ANEW = {"changed": True, "syns": 1, "old_server_asked": False}
ASKED = {"changed": True, "syns": 2, "connect_ms": at_least(4), "old_server_asked": True}
HALF_DEAD = {"ending": "lost"}


@scenario(
    topology="dnat,choice={choice}",
    control=Arm(Settings(), expect=Observation(entry="TIME_WAIT", **ANEW)),
    treatment={
        "half-dead": Arm(Settings(), given=HALF_DEAD, expect=Observation(entry="ESTABLISHED", **ASKED)),
        "half-dead-ipv6": Arm(
            Settings(), given=HALF_DEAD | {"family": 6}, expect=Observation(entry="ESTABLISHED", **ASKED)
        ),
        "half-dead-strict": Arm(
            Settings(nat_loose=False), given=HALF_DEAD, expect=Observation(entry="ESTABLISHED", **ASKED)
        ),
        "half-dead-liberal": Arm(
            Settings(nat_be_liberal=True), given=HALF_DEAD, expect=Observation(entry="ESTABLISHED", **ASKED)
        ),
        "random": Arm(
            Settings(),
            given={"choice": "random", "reuses": 60},
            expect=Observation(changes=between(11, 49), syns_again=0),
        ),
    },
    remedies={
        "reset": Arm(Settings(), given={"ending": "reset"}, expect=Observation(entry="CLOSE", **ANEW)),
        "hash": Arm(Settings(), given={"choice": "hash", "reuses": 60}, expect=Observation(changes=0, syns_again=0)),
    },
    reads="Linux net/netfilter/nf_conntrack_proto_tcp.c (nf_conntrack_tcp_packet: a SYN in TIME_WAIT or CLOSE begins a "
    "new entry), net/netfilter/nft_numgen.c, nft_hash.c; RFC 5961 section 4",
)
def dnat_old_backend(
    lab: Lab, *, choice: str = "rr", ending: str = "server", reuses: int = 0, family: int = 4
) -> Observation:
    """A client's four-tuple that comes again through a balancer by destination NAT is asked of the
    old server first, if the connection before is half-dead, and goes to another server unasked, if
    it was closed.

    After a close the entry is in TIME_WAIT or CLOSE. The SYN begins a new entry, the balancer
    chooses a server as for any, and where that is another one, the old server's TIME_WAIT protects
    no connection: it does not hear of the new one (control, and arm `reset`). Of 60 reuses at random
    half change the server (arm `random`; its bounds fail once in a million runs); a hash of address
    and port keeps it (arm `hash`).

    Where the client has lost its end and its RST was lost, the entry is still ESTABLISHED. The SYN
    then travels to the old server, which answers it by a challenge ACK, the client's RST clears
    server and entry, and the SYN that follows finds another server: some 10 ms late. Neither
    `nf_conntrack_tcp_loose` nor `be_liberal` changes that.
    """
    client, service = lab["client"], lab.service(family=family)
    if reuses:
        lab.step(f"{reuses} times one port again; the balancer chooses by {choice}.")
        syns = lab.wire.watch(match(flags="S"))
        visits = [service.visit(client, source_port=40_000) for _ in range(reuses + 1)]
        changes = sum(one.server != other.server for one, other in pairwise(visits))
        return Observation(changes=changes, syns_again=len(syns.segments) - len(visits))

    lab.step("The client's first connection is " + ("lost at its end." if ending == "lost" else "opened and closed."))
    old = service.visit(client, source_port=40_000, ending="" if ending == "lost" else ending)
    lab.require(old, "the client is served")
    if ending == "lost":
        lost = lab.wire.drop(match(having="R"))
        assert old.near
        old.near.abort()
        lab.sleep(0.5)
        lost.stop()
    (entry,) = lab.conntrack("balancer")

    lab.step("The client connects again from the same port.")
    asked = lab.moved(old.server, "TCPChallengeACK")
    syns = lab.wire.watch(match(flags="S"))
    again = service.visit(client, source_port=40_000)
    facts = {
        "entry": entry.state,
        "changed": again.server != old.server,
        "syns": len(syns.segments),
        "connect_ms": again.ms,
        "old_server_asked": lab.moved(old.server, "TCPChallengeACK") > asked,
    }
    loose, liberal = lab.settings["balancer"].nat_loose, lab.settings["balancer"].nat_be_liberal
    lab.row(TABLE, **facts, loose=loose is not False, be_liberal=bool(liberal))
    return Observation(**facts)
