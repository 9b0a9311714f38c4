"""An application and a sidecar that share one range of ports."""

from twlab import Arm, Lab, Observation, Settings, scenario

PORTS, WANTED = 10, 20
SIDECAR_PORT, SIDECAR_MARK = 15001, 1337  # as topologies/sidecar.py has them
TABLE = "Requests that leave a pod with ten ports"


@scenario(
    topology="sidecar,redirect={redirect},sources=2",
    base=Settings(port_low=40_000, port_high=40_000 + PORTS - 1),
    control=Arm(
        Settings(), given={"redirect": 0}, expect=Observation(served=PORTS, time_waits=PORTS, error="EADDRNOTAVAIL")
    ),
    treatment={
        "redirect": Arm(Settings(), expect=Observation(served=PORTS // 2, time_waits=PORTS)),
        "redirect-ipv6": Arm(Settings(), given={"family": 6}, expect=Observation(served=PORTS // 2, time_waits=PORTS)),
    },
    remedies={
        "own-source": Arm(
            Settings(),
            given={"own_source": True},
            expect=Observation(served=PORTS, time_waits=2 * PORTS, error="EADDRNOTAVAIL"),
        ),
        "server-closes": Arm(
            Settings(), given={"server_closes": True}, expect=Observation(served=WANTED, time_waits=0, error="")
        ),
    },
    reads="Linux net/ipv4/inet_hashtables.c (__inet_check_established), net/netfilter/nf_nat_redirect.c; RFC 9293 "
    "section 3.4.1",
)
def sidecar_redirect(
    lab: Lab, *, redirect: int = 1, own_source: bool = False, server_closes: bool = False, family: int = 4
) -> Observation:
    """A pod whose connections are redirected to a sidecar in the same network namespace gets half
    as many out of its ports.

    The application connects to the server. A rule of the firewall redirects it to the sidecar, which
    connects to the server itself. But the application's socket still stands for a connection to the
    server: the redirection is not in its four-tuple. So both sockets need a port of the same
    address towards the same server and port, and where the application closes first, and the sidecar
    after it, both leave theirs in TIME_WAIT. Ten ports carry five requests (without a sidecar ten,
    control). What the application sees past that depends on who gets the last port: EADDRNOTAVAIL,
    or a connection that the sidecar closes without an answer.

    A sidecar that connects from another address of the pod has a range of its own (arm
    `own-source`). Where the server closes first and the sidecar passes that on, no port of the pod
    has to rest.
    """
    pod, server = lab["pod"], lab["server"]
    listener = server.listen(80, family=family)
    loopback = "::1" if family == 6 else "127.0.0.1"
    inner = pod.listen(SIDECAR_PORT, family=family, address=loopback) if redirect else None
    source = pod.node.addresses(family)[1] if own_source else None

    lab.step(f"The application opens {WANTED} connections, one after the other.")
    served, error = 0, ""
    for _ in range(WANTED):
        attempt = pod.try_connect(server, 80, family=family, timeout_s=2)
        if not attempt.connection:
            error = attempt.error
            continue
        opened = [attempt.connection]
        if inner:
            opened.append(inner.accept())
            onward = pod.try_connect(server, 80, source_address=source, mark=SIDECAR_MARK, family=family, timeout_s=2)
            if not onward.connection:
                error = f"sidecar {onward.error}"
                opened[1].abort()  # what the sidecar cannot serve it ends, and the application gets no answer
                attempt.connection.wait_closed_by_peer()
                attempt.connection.close()
                continue
            opened.append(onward.connection)
        opened.append(listener.accept())
        served += 1
        for one in reversed(opened) if server_closes else opened:
            one.close()
            lab.sleep(0.01)
    resting = [entry for entry in lab.time_wait("pod") if entry.remote_port == 80]
    facts = {"served": served, "error": error, "time_waits": len(resting)}
    lab.row(TABLE, redirect=bool(redirect), own_source=own_source, server_closes=server_closes, **facts)
    return Observation(**facts)
