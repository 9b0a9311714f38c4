"""A sidecar that connects to its application from its callers' addresses (TPROXY)."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.traffic.applications import Attempt
from twlab.traffic.connection import Connection

PORTS, WANTED, HELD, FIRST_PORT = 10, 20, 4, 40_000
INBOUND_PORT, SIDECAR_MARK = 15006, 1337  # as topologies/sidecar.py has them
ELSEWHERE = 20_000  # a caller's ports that are none of the pod's
TABLE = "Requests through a sidecar that keeps its callers' addresses, with ten ports"
POD = {"pod": Settings(port_low=FIRST_PORT, port_high=FIRST_PORT + PORTS - 1)}
ALL = Observation(served=WANTED, hung=0, error="")
ONE_SET = Observation(served=PORTS, hung=0, error="connect EADDRNOTAVAIL", time_waits=PORTS)
OWN_SOCKET = {"callers": 1, "held_from": FIRST_PORT}
SIX = {"family": 6}


@scenario(
    topology="sidecar,tproxy=1,callers=2",
    base=Settings(tw_reuse=2),
    control=Arm(Settings(), on=POD, expect=ALL),
    treatment={
        "one-caller": Arm(Settings(), on=POD, given={"callers": 1}, expect=ONE_SET),
        "one-caller-ipv6": Arm(Settings(), on=POD, given={"callers": 1} | SIX, expect=ONE_SET),
        "same-ports": Arm(Settings(), on=POD, given=OWN_SOCKET, expect=Observation(served=0, hung=HELD)),
        "same-ports-ipv6": Arm(Settings(), on=POD, given=OWN_SOCKET | SIX, expect=Observation(served=0, hung=HELD)),
    },
    remedies={
        "one-caller-reuse-1": Arm(
            Settings(tw_reuse=1), on={"pod": Settings(tw_reuse=1).over(POD["pod"])}, given={"callers": 1}, expect=ALL
        ),
        "one-caller-reuse-1-ipv6": Arm(
            Settings(tw_reuse=1),
            on={"pod": Settings(tw_reuse=1).over(POD["pod"])},
            given={"callers": 1} | SIX,
            expect=ALL,
        ),
        "one-caller-app-closes": Arm(Settings(), on=POD, given={"callers": 1, "app_closes": True}, expect=ALL),
        "other-ports": Arm(
            Settings(),
            on=POD,
            given={"callers": 1, "held_from": ELSEWHERE},
            expect=Observation(served=HELD, hung=0, error=""),
        ),
    },
    reads="Linux Documentation/networking/tproxy.rst, ip-sysctl.rst (tcp_fwmark_accept, tcp_tw_reuse), "
    "net/ipv4/inet_hashtables.c (__inet_check_established, __inet_lookup_established); RFC 5961 section 4; Istio "
    "interceptionMode TPROXY",
)
def sidecar_tproxy(
    lab: Lab, *, callers: int = 2, held_from: int = 0, app_closes: bool = False, family: int = 4
) -> Observation:
    """A sidecar that keeps its callers' addresses towards its application has its ports once for
    each caller, so that all callers behind one gateway share one set; and it hangs where it takes
    the port that its caller has.

    With TPROXY the firewall hands the sidecar its callers' connections untranslated, and the sidecar
    connects to the application from the caller's address, which the application then sees. The
    four-tuple has the caller's address, and a port of the pod. So ten ports carry ten requests a
    minute for each caller: two callers get twenty (control), and one, which may be a gateway with
    thousands behind it, ten, then EADDRNOTAVAIL (arm `one-caller`). The other interception, with
    127.0.0.6 as source, has one set for all (`sidecar-loopback`).

    Linux's default tcp_tw_reuse=2 does not help, since the addresses are not loopback ones, though
    all segments cross lo; value 1 does, after a second. So does an application that closes first.

    The sidecar's connection differs from its caller's in nothing but the port, where both go to the
    pod's port 80. connect() does not see that: the caller's connection is, in the pod, the other end
    of what it looks for. Where the caller's port is in the pod's range, and taken, the SYN meets the
    sidecar's own socket. That answers the caller with an acknowledgement, which the caller
    ignores, and the sidecar's connect hangs (arm `same-ports`: a caller keeps ten connections open,
    from just the pod's ports). With Linux's range at both ends a caller with n connections open
    meets that in n of 28,232 connects. Ranges that do not overlap avoid it (arm `other-ports`), and
    so does another port for the application than the one that is intercepted.
    """
    pod, outside = lab["pod"], lab["server"]
    app = pod.listen(80, family=family)
    sidecar = pod.listen(INBOUND_PORT, family=family, address="::" if family == 6 else "0.0.0.0", transparent=True)
    sources = outside.node.addresses(family)[:callers]

    def call(number: int) -> Connection:
        source, port = sources[number % callers], (held_from or ELSEWHERE) + number // callers
        return outside.connect(pod, 80, source_address=source, source_port=port, family=family)

    def go_on(number: int) -> Attempt:
        source = sources[number % callers]
        return pod.try_connect(
            pod, 80, source_address=source, family=family, mark=SIDECAR_MARK, transparent=True, timeout_s=1
        )

    attempts = []
    if held_from:
        lab.step(f"A caller opens {PORTS} connections, and keeps them open. The sidecar connects for {HELD} of them.")
        held = [call(number) for number in range(PORTS)]
        lab.require(lab.wait_until(lambda: sidecar.waiting == PORTS, 2), "the sidecar accepts them")
        held += [sidecar.accept() for _ in range(HELD)]
        attempts = [go_on(number) for number in range(HELD)]
    else:
        lab.step(f"{WANTED} requests, one after the other, from {callers} addresses.")
        for number in range(WANTED):
            if number == PORTS:
                lab.sleep(1.1)
            pairs = [(call(number), sidecar.accept())]
            attempts.append(go_on(number))
            if onward := attempts[-1].connection:
                pairs.append((onward, app.accept()))
            for near, far in reversed(pairs) if app_closes else pairs:
                lab.close(*((far, near) if app_closes else (near, far)))
    errors = [f"{attempt.call} {attempt.error}" for attempt in attempts if not attempt]
    facts = {
        "served": len(attempts) - len(errors),
        "hung": sum(attempt.error == "pending" for attempt in attempts),
        "error": errors[-1] if errors else "",
        "time_waits": sum(entry.remote_port == 80 for entry in lab.time_wait("pod")),
    }
    tw_reuse = lab.settings["pod"].tw_reuse
    lab.row(TABLE, callers=callers, family=family, tw_reuse=tw_reuse, app_closes=app_closes, **facts)
    return Observation(**facts)
