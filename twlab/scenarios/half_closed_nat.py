"""A gateway forgets a connection that is half closed, and not over."""

from collections.abc import Callable, Mapping
from typing import Any

from twlab import Arm, Lab, Observation, Settings, between, scenario
from twlab.segment import match

ASKED, ANSWER = 100, 1000  # bytes
TABLE = "A half-closed connection through a gateway"
CUT = {
    "delivered": 0,
    "resets_by_gateway": 1,
    "server_error": "EPIPE",
    "client_error": "",
    "client_state": "FIN_WAIT2",
}
WHOLE = {"delivered": ANSWER, "resets_by_gateway": 0, "server_error": "", "client_error": ""}


def predict(arm: str, at: Callable[[str], Settings], given: Mapping[str, Any]) -> Observation | None:
    """Predict for another silence and another timer: cut if the one is longer than the other."""
    own = {**half_closed_nat.parameters, **half_closed_nat.arms[arm].given}
    if {**given, "quiet_s": 0} != {**own, "quiet_s": 0}:
        return None
    if not given["half_close"]:
        return half_closed_nat.arms[arm].expect
    timer_s = at("nat").nat_close_wait_s
    timer_s = 60 if timer_s is None else timer_s
    silence_s = min(given["quiet_s"], given["keep_alive_s"] or given["quiet_s"])
    if timer_s < 1 or abs(silence_s - timer_s) < 1:
        return None
    return Observation(state="CLOSE_WAIT", **(CUT if silence_s > timer_s else WHOLE))


@scenario(
    topology="nat",
    base=Settings(nat_close_wait_s=2),
    control=Arm(
        Settings(nat_close_wait_s=60), expect=Observation(state="CLOSE_WAIT", timer_s=between(58, 60), **WHOLE)
    ),
    treatment={
        "quiet": Arm(Settings(), expect=Observation(state="CLOSE_WAIT", timer_s=between(0, 2), **CUT)),
        "quiet-ipv6": Arm(
            Settings(), given={"family": 6}, expect=Observation(state="CLOSE_WAIT", timer_s=between(0, 2), **CUT)
        ),
    },
    remedies={
        "keep-alive": Arm(Settings(), given={"keep_alive_s": 1}, expect=Observation(state="CLOSE_WAIT", **WHOLE)),
        "no-half-close": Arm(
            Settings(),
            given={"half_close": False},
            expect=Observation(state="ESTABLISHED", **WHOLE, client_state="ESTABLISHED"),
        ),
    },
    reads="Linux net/netfilter/nf_conntrack_proto_tcp.c (tcp_timeouts, CLOSE_WAIT), "
    "Documentation/networking/nf_conntrack-sysctl.rst (nf_conntrack_tcp_timeout_close_wait); RFC 9293 section 3.6; "
    "RFC 5382 section 5, REQ-5; kubernetes issue 32551",
    predict=predict,
    sizes=("nat_close_wait_s",),
)
def half_closed_nat(
    lab: Lab, *, quiet_s: float = 3.5, half_close: bool = True, keep_alive_s: int = 0, family: int = 4
) -> Observation:
    """A client behind a NAT gateway that closes its sending half and waits for the answer gets none
    if that takes longer than the gateway's timer for CLOSE_WAIT.

    TCP lets one half be closed while the other goes on for as long as it likes (RFC 9293, 3.6): a
    client says by its FIN that the request is over, and reads. Linux's connection tracking keeps an
    open connection for five days, and one of which it has seen a single FIN for 60 s
    (`nf_conntrack_tcp_timeout_close_wait`). RFC 5382 wants at least 4 minutes. A server that thinks
    for longer sends its answer to a gateway that knows no such connection. The gateway's own TCP
    answers with a RST: the server's application, whose socket is in CLOSE_WAIT, gets EPIPE with its
    next call, and the client, to which nothing comes, waits on in FIN_WAIT_2.

    Here the timer is 2 s and the silence 3.5 s; Linux's own: ``--set nat_close_wait_s=60 --set
    quiet_s=70``. The control has Linux's 60 s, and so gets its answer. What helps beside a longer
    timer: keep-alive probes, which the client's kernel sends in FIN_WAIT_2, too, as long as the
    application holds the socket; and a protocol that marks the end of a request by other means than
    a FIN.
    """
    client, server, nat = lab["client"], lab["server"], lab.network["nat"]
    listener = server.listen(80, family=family)

    lab.step("The client asks" + (" and closes its sending half." if half_close else ", and keeps both halves open."))
    asking = client.connect(server, 80, source_port=40_000, family=family)
    answering = listener.accept()
    if keep_alive_s:
        asking.keep_alive(keep_alive_s)
    lab.transfer(asking, answering, ASKED)
    if half_close:
        asking.finish()
        lab.require(answering.wait_closed_by_peer(), "the server has read to the end of the request")
    lab.sleep(0.1)  # for the server's last acknowledgement
    entries = lab.conntrack("nat")
    lab.require(entries, "the gateway knows the connection a tenth of a second later")
    entry = entries[0]

    lab.step(f"For {quiet_s:g} s the server thinks. Then it answers.")
    lab.sleep(quiet_s)
    outside = nat.interface_to("wire")
    resets = lab.wire.watch(match(source=(outside.all6 if family == 6 else outside.all4)[0], having="R"))
    answering.send(b"a" * ANSWER)
    asking.wait_received(ANSWER, timeout_s=1)
    facts = {
        "state": entry.state,
        "timer_s": entry.remaining_s,
        "delivered": asking.received,
        "server_error": answering.check() or answering.error,
        "client_error": asking.check() or asking.error,
        "client_state": asking.state,
    }
    lab.row(TABLE, quiet_s=quiet_s, keep_alive_s=keep_alive_s or None, **facts)
    return Observation(**facts, resets_by_gateway=len(resets.segments))
