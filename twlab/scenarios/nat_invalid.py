"""A gateway answers a segment that its connection tracking takes for invalid."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.linux import nftables
from twlab.segment import match

FAR = 2_000_000  # beyond any window here
SENT = 200_000
DROP_INVALID = """
    table inet careful {
        chain input { type filter hook input priority filter; ct state invalid drop; }
        chain forward { type filter hook forward priority filter; ct state invalid drop; }
    }"""

UNHURT = {"reset_by_gateway": 0, "server_error": "", "bytes_after": 1000}


@scenario(
    topology="nat,flowtable={flowtable}",
    base=Settings(receive_window=500_000),
    control=Arm(Settings(), given={"ahead": 0}, expect=Observation(**UNHURT, answered_by_client=True)),
    treatment={
        "beyond-window": Arm(
            Settings(),
            expect=Observation(
                reset_by_gateway=1,
                server_error="ECONNRESET",
                bytes_after=0,
                answered_by_client=False,
                client_state="ESTABLISHED",
            ),
        ),
        "beyond-window-ipv6": Arm(
            Settings(),
            given={"family": 6},
            expect=Observation(
                reset_by_gateway=1,
                server_error="ECONNRESET",
                bytes_after=0,
                answered_by_client=False,
                client_state="ESTABLISHED",
            ),
        ),
    },
    remedies={
        "be-liberal": Arm(Settings(nat_be_liberal=True), expect=Observation(**UNHURT, answered_by_client=True)),
        "drop-invalid": Arm(
            Settings(), given={"drop_invalid": True}, expect=Observation(**UNHURT, answered_by_client=False)
        ),
        "flowtable": Arm(Settings(), given={"flowtable": 1}, expect=Observation(**UNHURT, answered_by_client=True)),
        "flowtable-drop-invalid": Arm(
            Settings(),
            given={"flowtable": 1, "drop_invalid": True},
            expect=Observation(**UNHURT, answered_by_client=True),
        ),
    },
    reads="Linux net/netfilter/nf_conntrack_proto_tcp.c (tcp_in_window), "
    "Documentation/networking/nf_conntrack-sysctl.rst "
    "(nf_conntrack_tcp_be_liberal); RFC 9293 section 3.10.7.1; kubernetes issue 74839",
)
def nat_invalid(
    lab: Lab, *, ahead: int = FAR, drop_invalid: bool = False, flowtable: int = 0, family: int = 4
) -> Observation:
    """One late segment of an earlier connection, out of the window of the present one, makes a NAT
    gateway reset the server's connection.

    Connection tracking calls a segment beyond the window INVALID, and does not translate it back.
    It is then addressed to the gateway itself, which has no such connection, and whose own TCP
    answers as it must: with a RST, whose sequence number is what the segment acknowledged, so that
    the server takes it. The client behind the gateway has seen nothing, and waits.

    A segment falls beyond the window when it belongs to an earlier connection of the same
    four-tuple, whose numbers have nothing to do with those of this one; TIME_WAIT is there to keep
    it out. Here it is a copy of this connection's data with a sequence number 2,000,000 higher,
    because chance would have to place it. A mere duplicate does no harm (control): what lies below
    the window is let through, and the client acknowledges it.

    `nf_conntrack_tcp_be_liberal` lets everything through but a RST, and the client judges. A rule
    that drops what is invalid keeps the gateway silent. Kubernetes' kube-proxy met this, and has
    such a rule. A flow table cures it, too: it forwards without a look at windows. For the same
    reason a rule that drops what is invalid sees nothing there (arm `flowtable-drop-invalid`).
    """
    client, server, nat = lab["client"], lab["server"], lab.network["nat"]
    if drop_invalid:
        with nat.inside():
            nftables.apply(DROP_INVALID)
    listener = server.listen(80, family=family)

    lab.step("The server sends; the wire keeps a copy of its first data.")
    copy = lab.wire.copy(match(source=server.address(family), payload=True))
    receiver = client.connect(server, 80, family=family)
    sender = listener.accept()
    lab.transfer(sender, receiver, SENT)

    lab.step("The copy arrives from outside" + (f", {ahead} bytes ahead of where it was." if ahead else "."))
    resets = lab.wire.watch(match(destination=server.address(family), having="R"))
    answers = lab.wire.watch(match(destination=server.address(family), flags="A"))
    late = copy.segments[0]
    lab.wire.inject(lab.wire.craft(like=late, seq=late.seq + ahead))
    lab.sleep(0.3)
    answered = bool(answers.segments)

    lab.step("The server sends 1,000 bytes more.")
    error = sender.check() or sender.error
    before = receiver.received
    if not error:
        sender.send(b"n" * 1000)
        receiver.wait_received(before + 1000, timeout_s=2)
    return Observation(
        reset_by_gateway=len(resets.segments),
        answered_by_client=answered,
        server_error=error,
        bytes_after=receiver.received - before,
        client_state=receiver.state,
    )
