"""A node that balances its own connections: an answer for the wrong socket."""

from twlab import Arm, Lab, Observation, Settings, scenario, since

TABLE = "A node's second connection to a server, through the virtual address"
PORT = 40_000
FIXED_IPV6 = "6.7"

SERVED = Observation(connected=True, rewritten=1, state="ESTABLISHED")
OWN_PORT = Observation(connected=True, rewritten=0, state="ESTABLISHED")
SIX = {"family": 6}


@scenario(
    topology="dnat,servers=1",
    control=Arm(Settings(), given=SIX | {"second_port": PORT + 1}, expect=OWN_PORT),
    treatment={
        "same-port": Arm(Settings(), expect=SERVED),
        "same-port-ipv6": Arm(
            Settings(),
            given=SIX,
            expect=Observation(
                connected=since(FIXED_IPV6, True, before=False),
                rewritten=1,
                state=since(FIXED_IPV6, "ESTABLISHED", before="SYN_RECV"),
            ),
        ),
    },
    remedies={
        "no-early-demux": Arm(Settings(), given=SIX | {"early_demux": False}, expect=SERVED),
        "own-range": Arm(Settings(), given={"second_port": PORT + 1_000}, expect=OWN_PORT),
    },
    reads="Linux net/netfilter/nf_nat_proto.c (nf_nat_ipv4_local_in, nf_nat_ipv6_local_in), net/ipv6/ip6_input.c "
    "(tcp_v6_early_demux); commits 'nf_nat: undo erroneous tcp edemux lookup' (5.12, IPv4) and '... after port "
    "clash' (6.7, IPv6); kubernetes issue 90258",
)
def dnat_early_demux(lab: Lab, *, second_port: int = PORT, early_demux: bool = True, family: int = 4) -> Observation:
    """On a node that translates its own connections to a virtual address, a connect hangs when
    another program of the node has a direct connection to the server from the same port: over IPv4
    before Linux 5.12, over IPv6 before 6.7.

    To TCP the two are different four-tuples, so connect() may choose the port. Connection tracking
    rewrites the port of the second, 40000, to another, so that it can tell the answers apart. As an
    answer arrives, it restores the port at once, and the server's address by the virtual one only
    after routing. In between, early demultiplexing looks for the socket. There the answer looks
    like one to the direct connection, and is given to that one's socket. It is not acceptable there;
    the one that waits for it hears nothing. Its entry stays in SYN_RECV.

    Newer kernels forget that socket where NAT has changed the packet since. On older ones
    `net.ipv4.tcp_early_demux=0` does it (arm `no-early-demux`); it is for IPv6, too. On any kernel
    ports that differ do it: a range for each of the two programs (arm `own-range`).
    """
    node, server, service = lab["balancer"], lab["s1"], lab.service(family=family)
    node.node.write_sysctl("net.ipv4.tcp_early_demux", int(early_demux))
    own = node.node.interface_to("s1")
    source = (own.all6 if family == 6 else own.all4)[0]

    lab.step("A program on the balancer opens a connection to the server itself, and keeps it open.")
    direct = service.visit(node, source_port=PORT, source_address=source, to=server, ending="")
    lab.require(direct, "the server answers")

    lab.step(f"Another connects to the virtual address, from port {second_port}.")
    second = service.visit(node, source_port=second_port, source_address=source, ending="")
    (entry,) = [entry for entry in lab.conntrack("balancer") if entry.original.destination != entry.reply.source]
    facts = {
        "connected": bool(second),
        "rewritten": int(entry.reply.destination_port != second_port),
        "state": entry.state,
    }
    lab.row(TABLE, family=family, second_port=second_port, early_demux=early_demux, error=second.error, **facts)
    return Observation(**facts)
