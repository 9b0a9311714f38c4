"""A lab that does not see says so: each eye is blinded once, before it is used and while it is, and
no result comes of it.
"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wired import wired

from twlab.errors import EngineError
from twlab.linux import bpf, nftables
from twlab.linux.packet_ring import Ring
from twlab.network import Network
from twlab.observation import Observation
from twlab.overrides import Overrides
from twlab.run.arm import run_arm
from twlab.scenario import Arm, scenario
from twlab.segment import match, parse
from twlab.settings import Settings
from twlab.wire import canary

BLIND_QUEUE = "table inet blind { chain blind { type filter hook prerouting priority raw; tcp sport 0 drop; }; };"
ADDRESSES = st.one_of(
    st.tuples(*2 * [st.ip_addresses(v=4).map(str)]), st.tuples(*2 * [st.ip_addresses(v=6).map(str)])
)  # fmt: skip


@given(ADDRESSES, st.integers(0, 65535))
def test_a_canary_is_a_whole_segment_and_known_as_one(ends, port):
    """It has right checksums, comes from port 0, and nothing else is taken for one."""
    packet = canary.make(*ends, port)
    segment = parse(packet, 0.0)
    assert canary.is_canary(packet)
    assert (segment.source_port, segment.destination_port, segment.length, segment.flags) == (0, port, 0, "")
    other = bytearray(packet)
    other[segment.header + 4] ^= 1
    assert not canary.is_canary(bytes(other))


def silence(meanwhile):
    """A scenario that concludes from silence; in the middle of its steps `meanwhile(lab)` happens."""

    @scenario(
        topology="pair",
        control=Arm(Settings(), expect=Observation(answers=0)),
        treatment=Arm(Settings(), expect=Observation(answers=0)),
        reads="nothing",
    )
    def silent(lab):
        """Nothing answers, because nothing is asked."""
        lab.step("The wire is watched, and nothing crosses.")
        answers = lab.wire.watch(match(having="R"))
        meanwhile(lab)
        lab.sleep(0.1)
        answers.stop()
        return Observation(answers=len(answers.segments))

    return silent


def arm(folder, when, eye):
    """Carry out an arm that concludes from silence, with one eye blinded; what the result says."""
    shut = {"queue": shut_queue, "overrun": overrun, "capture": shut_capture, "link": shut_link}.get(
        eye, lambda lab: None
    )
    if when == "before" and eye == "capture":
        first = Ring.__init__

        def born_blind(ring, *arguments):
            first(ring, *arguments)
            bpf.attach(ring._socket, bpf.NOTHING)

        Ring.__init__ = born_blind
    elif when == "before":
        built = Network.__enter__

        def built_blind(network):
            made = built(network)
            with made["wire"].inside():
                nftables.apply(BLIND_QUEUE)
            return made

        Network.__enter__ = built_blind
    made = silence(shut if when == "meanwhile" else lambda lab: None)
    outcome = run_arm(made, "control", Overrides(Settings(), {}), seed=1, folder=Path(folder), forced={})
    return {"slug": (outcome.error or {}).get("slug"), "observed": outcome.observed, "ok": outcome.ok}


def shut_queue(lab):
    with lab.network["wire"].inside():
        nftables.apply(BLIND_QUEUE)


def overrun(lab):
    """As if the socket's buffer had been full while the watch was armed."""
    tap = lab.wire._tap
    serve = tap.serve

    def late():
        tap.overruns += 1
        serve()

    tap.serve = late
    listener = lab["server"].listen(80)
    lab["client"].connect(lab["server"], 80)
    listener.accept()


def shut_capture(lab):
    for ring in blinded_rings(lab):
        bpf.attach(ring._socket, bpf.NOTHING)


def shut_link(lab):
    lab.network["client"].cmd("ip link set client-wire down")


def blinded_rings(lab):
    """The rings of the lab's capture, which the lab does not show."""
    watching = [getattr(key.data[0], "__self__", None) for key in lab.loop._selector.get_map().values()]
    return [each for each in watching if isinstance(each, Ring)]


@pytest.mark.host
@pytest.mark.parametrize(
    ("when", "eye"),
    [
        ("before", "queue"),
        ("meanwhile", "queue"),
        ("meanwhile", "overrun"),
        ("before", "capture"),
        ("meanwhile", "capture"),
    ],
)
def test_a_blind_eye_is_an_error_of_the_lab(in_sandbox, tmp_path, when, eye):
    """The arm has an error and no observation, so that its verdict is INCONCLUSIVE."""
    outcome = in_sandbox(arm, str(tmp_path), when, eye)
    assert outcome["slug"] == "blind-lab"
    assert not outcome["observed"] and outcome["ok"] is None


@pytest.mark.host
@pytest.mark.parametrize("eye", ["none", "link"])
def test_open_eyes_see_nothing_amiss(in_sandbox, tmp_path, eye):
    """The same arm as it is; and with a link that was set down, over which nothing can
    come.
    """
    assert in_sandbox(arm, str(tmp_path), "meanwhile", eye) == {"slug": None, "observed": {"answers": 0}, "ok": True}


def endpoint(when):
    with wired() as lab:
        node = lab.network["server"]
        if when == "before":
            attach = bpf.attach
            bpf.attach = lambda sock, program: attach(sock, bpf.NOTHING)
        try:
            ours = lab.wire.endpoint(node, 4000)
            if when == "meanwhile":
                bpf.attach(ours._socket, bpf.NOTHING)
            return ["quiet", ours.expect_nothing(0.05), ours.expect(match(flags="R"), 0.05)]
        except EngineError as error:
            return error.slug


@pytest.mark.host
@pytest.mark.parametrize(
    ("when", "becomes"), [("never", ["quiet", True, None]), ("before", "blind-lab"), ("meanwhile", "blind-lab")]
)
def test_a_crafted_endpoint_vouches_for_its_silence(in_sandbox, when, becomes):
    """Nothing came, says an endpoint that a canary has reached; one that none reaches says that it
    is blind.
    """
    assert in_sandbox(endpoint, when) == becomes


def leaves_no_trace(path):
    with wired("nat,clients=1", capture=Path(path), nodes=("nat", "wire")) as lab:
        claimed = lab.wire.endpoint(lab.network["server"], 4000)
        watch = lab.wire.watch()
        heard = claimed.expect_nothing(0.05)
        watch.stop()
        counted = {name: node for name, node in lab.network.nodes.items() if name != "wire"}
        from twlab.linux import counters

        tcp = {
            name: {key: value for key, value in counters.read(node).items() if key.startswith("Tcp") and value}
            for name, node in counted.items()
        }
        capture = lab.capture
    moved = {
        name: {key: value for key, value in each.items() if key in ("TcpInSegs", "TcpOutRsts", "TcpInErrs")}
        for name, each in tcp.items()
    }
    return {"heard": heard, "watched": len(watch.segments), "written": capture.written, "moved": moved}


@pytest.mark.host
def test_canaries_leave_no_trace(in_sandbox, tmp_path):
    """No watch has them, no file, and no TCP counts them."""
    outcome = in_sandbox(leaves_no_trace, str(tmp_path / "quiet.pcapng"))
    assert outcome == {
        "heard": True,
        "watched": 0,
        "written": 0,
        "moved": {name: {} for name in ("client", "nat", "server")},
    }


def counting(folder):
    made = silence(lambda lab: lab.moved("server", "PAWSEstb"))
    outcome = run_arm(made, "control", Overrides(Settings(), {}), seed=1, folder=Path(folder), forced={})
    return [outcome.error["slug"], outcome.error["remedy"]]


@pytest.mark.host
def test_a_counter_that_no_kernel_has_does_not_count_0(in_sandbox, tmp_path):
    """A misspelt name would stand still for ever, and look like silence."""
    slug, remedy = in_sandbox(counting, str(tmp_path))
    assert slug == "no-such-counter"
    assert "PAWSEstab" in remedy
