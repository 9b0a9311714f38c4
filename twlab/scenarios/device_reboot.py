"""A device with lwIP restarts, and begins with the port and number that it had."""

from twlab import Arm, Lab, Observation, Settings, at_least, between, scenario
from twlab.segment import match
from twlab.stacks.lwip import LwipStack

PATIENCE_S = 12.0
TABLE = "A device that restarts, by what its server does"
LOCKED_OUT = Observation(
    same_port=True, same_number=True, outcome="ETIMEDOUT", took_s=between(8, 11), syns=7, resets=at_least(2)
)


@scenario(
    topology="pair,client=lwip",
    control=Arm(
        Settings(),
        given={"server_closes": False},
        expect=Observation(same_port=True, same_number=True, outcome="connected", syns=1, resets=0),
    ),
    treatment={
        "server-closed": Arm(
            Settings(),
            expect=Observation(same_port=True, same_number=True, outcome="connected", syns=2, resets=1),
        ),
        "rfc1337": Arm(Settings(rfc1337=True), expect=LOCKED_OUT),
        "rfc1337-ipv6": Arm(Settings(rfc1337=True), given={"family": 6}, expect=LOCKED_OUT),
    },
    remedies={
        "stays-off": Arm(
            Settings(rfc1337=True, time_wait_s=2),
            given={"off_s": 3.0},
            expect=Observation(same_port=True, same_number=True, outcome="connected", syns=1, resets=0),
        ),
        "next-port": Arm(
            Settings(rfc1337=True),
            given={"tries": 2},
            expect=Observation(same_port=False, outcome="connected", took_s=between(8, 11), syns=8),
        ),
    },
    reads="RFC 9293 sections 3.4.1 and 3.6.1; RFC 6528; RFC 1337 section 3; lwIP 2.1.3 src/core/tcp.c (tcp_next_iss, "
    "tcp_new_port), Debian's port: arch/cc.h (LWIP_RAND); Linux net/ipv4/tcp_minisocks.c (tcp_timewait_state_process)",
)
def device_reboot(
    lab: Lab, *, server_closes: bool = True, off_s: float = 0.2, tries: int = 1, family: int = 4
) -> Observation:
    """A device with lwIP begins every boot with the same port and sequence number, so that it meets
    its server's TIME_WAIT; with tcp_rfc1337 at the server it is locked out.

    RFC 9293 wants sequence numbers that go on with a clock, and RFC 6528 a secret beside it. lwIP
    counts on from 6510, and chooses its first port by rand(), which without a seed, as in Debian's
    build, gives the same one after every start. Where the device closed first, its TIME_WAIT went
    with its memory, and the server has nothing left (control). Where the server closed first, its
    TIME_WAIT meets a SYN that begins where the old connection did, below all that is acceptable. The
    server answers with an acknowledgement, the device with a reset, and since lwIP then repeats its
    SYN at once nothing is noticed (arm `server-closed`).

    With tcp_rfc1337 the server ignores the reset. lwIP sends seven SYNs in some nine seconds, and
    gives up. A device whose watchdog then restarts it begins with the same port again, and does not
    get in until the server's 60 s are over (arm `stays-off`, with 2 s for 60). One that just tries
    again takes the next port, and is connected (arm `next-port`).
    """
    device, server = LwipStack(lab, "client"), lab["server"]
    listener = server.listen(80, family=family)
    opening = lab.wire.copy(match(flags="S"))

    lab.step("The device connects. " + ("The server closes first." if server_closes else "The device closes first."))
    lab.require(device.connect(server.address(family), 80) == "connected", "the device connects")
    peer = listener.accept()
    if server_closes:
        peer.close()
        lab.require(lab.wait_until(lambda: lab.time_wait("server")), "the server is in TIME_WAIT")
    else:
        device.close()
        peer.wait_closed_by_peer()
        peer.close()
        lab.sleep(0.1)
    before = device.status()

    lab.step(f"The device restarts, which takes {off_s:g} s, and connects.")
    device.stop()
    lab.sleep(off_s)
    syns = lab.wire.watch(match(flags="S"))
    resets = lab.wire.watch(match(source=lab["client"].address(family), having="R"))
    again, began_s = LwipStack(lab, "client"), lab.now_s
    for _ in range(tries):
        outcome = again.connect(server.address(family), 80, timeout_s=PATIENCE_S)
    facts = {
        "same_port": again.status()["port"] == before["port"],
        "same_number": syns.segments[0].seq == opening.segments[0].seq,
        "outcome": outcome,
        "took_s": round(lab.now_s - began_s, 3),
        "syns": len(syns.segments),
        "resets": len(resets.segments),
    }
    lab.row(TABLE, server_closes=server_closes, rfc1337=bool(lab.settings["server"].rfc1337), **facts)
    return Observation(**facts)
