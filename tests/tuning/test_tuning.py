"""Tuning: an arm's settings in force, or a refusal before anything is built."""

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_guest import run_in_guest
from lives import agree

from twlab.errors import CapabilityError
from twlab.linux import counters, sysctl, tcp_sockets
from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.results.transcript import Transcript
from twlab.settings import Settings, setting_names
from twlab.tuning.apply import KNOBS, Tuning, check, missing

LENGTHS_S = [0.05, 0.5, 1.0, 10.0, 30.0]


def knob(sysctl):
    return next(knob for knob in KNOBS if knob.sysctl == sysctl)


def test_every_setting_goes_somewhere():
    """No setting is taken and then ignored: each has a sysctl."""
    assert {name for knob in KNOBS for name in knob.settings} == set(setting_names())


def test_seconds_become_milliseconds():
    """Half a second of TIME_WAIT is 500 in the lab kernel's sysctl; a clock may be set back as well
    as forward.
    """
    assert knob("net.ipv4.tcp_timewait_len").value(Settings(time_wait_s=0.5)) == "500"
    assert knob("net.ipv4.tcp_timestamp_offset").value(Settings(timestamp_offset_s=-2.5)) == "-2500"
    assert knob("net.ipv4.tcp_timewait_len").value(Settings()) is None


def test_truth_values_become_numbers():
    """On is 1, off is 0."""
    assert knob("net.ipv4.tcp_rfc1337").value(Settings(rfc1337=True)) == "1"
    assert knob("net.ipv4.tcp_sack").value(Settings(sack=False)) == "0"


@given(low=st.none() | st.integers(1, 65535), high=st.none() | st.integers(1, 65535))
def test_half_a_port_range_is_completed(low, high):
    """Whichever end is given, it is kept, and the range that results is one that Linux takes."""
    if (low is None and high is None) or (low or 1) > (high or 65535):
        return
    first, last = map(int, knob("net.ipv4.ip_local_port_range").value(Settings(port_low=low, port_high=high)).split())
    assert first == low or (low is None and first <= last)
    assert last == high or (high is None and first <= last)
    assert 1 <= first <= last <= 65535


EVERYTHING = {
    "timestamps": 2,
    "tw_reuse": 1,
    "tw_reuse_delay_ms": 50,
    "rfc1337": True,
    "max_tw_buckets": 3,
    "port_low": 20_000,
    "port_high": 20_009,
    "fin_timeout_s": 5,
    "receive_window": 2304,
    "send_buffer": 4608,
    "congestion_control": "bbr",
    "sack": False,
    "window_scaling": False,
    "syn_retries": 1,
    "syn_linear_timeouts": 2,
    "synack_retries": 0,
    "syncookies": 2,
    "syn_backlog": 7,
    "invalid_ratelimit_ms": 0,
    "nat_time_wait_s": 30,
    "nat_close_s": 1,
    "nat_flow_s": 3,
    "nat_close_wait_s": 3,
    "nat_be_liberal": True,
    "nat_loose": False,
    "ipvs_conn_reuse_mode": 0,
    "ipvs_conntrack": True,
    "ipvs_expire_nodest_conn": True,
}


def tune_everything():
    loop = Loop()
    transcript = Transcript(lambda: loop.now_s)
    settings = Settings(**{name: value for name, value in EVERYTHING.items() if not missing(Settings(**{name: value}))})
    with (
        Network(load_topology("nat")) as network,
        Tuning(network["client"], settings, loop, transcript) as client,
        Tuning(network["nat"], settings, loop, transcript) as gateway,
    ):
        pass
    return settings.as_dict(), client.effective, gateway.effective, list(transcript.story())


@pytest.mark.host
def test_all_settings_are_in_force_and_read_back(in_sandbox):
    """Every setting that this kernel has shows in what was read back; those of NAT on the gateway
    only; the transcript tells.
    """
    taken, client, gateway, story = in_sandbox(tune_everything)
    settings = Settings(**taken)
    for one in KNOBS:
        if (value := one.value(settings)) is not None:
            assert gateway[one.sysctl] == value
            assert client.get(one.sysctl) == (
                None if one.sysctl.startswith(("net.netfilter", "net.ipv4.vs")) else value
            )
    assert {"timestamps", "rfc1337", "max_tw_buckets", "port_low", "nat_time_wait_s"} <= taken.keys()
    assert len(story) == 2
    assert "timestamps=2" in story[0]


def refuse():
    wanted = {
        "longer": {"time_wait_s": 120},
        "offset": {"timestamp_offset_s": 1},
        "control": {"congestion_control": "nonesuch"},
        "as-ever": {"time_wait_s": 60, "tw_recycle": False, "timestamp_offset_s": 0, "tw_reuse_delay_ms": 1000},
    }
    return {
        name: [(error.slug, error.message, error.remedy) for error in missing(Settings(**values))]
        for name, values in wanted.items()
    }


@pytest.mark.host
def test_what_the_kernel_cannot_do_is_refused_with_a_remedy(in_sandbox):
    """A longer TIME_WAIT, a shifted clock, an unknown algorithm: one clear error each, which names
    the way out; what the kernel does anyway is never refused."""
    refused = in_sandbox(refuse)
    assert refused["as-ever"] == []
    assert [slug for slug, _, _ in refused["control"]] == ["no-congestion-control"]
    if not os.path.exists("/proc/sys/net/ipv4/tcp_timewait_len"):
        assert [slug for slug, _, _ in refused["longer"]] == ["time-wait-too-long"]
        assert "120" in refused["longer"][0][1]
        assert "--engine guest" in refused["longer"][0][2]
        assert [slug for slug, _, _ in refused["offset"]] == ["no-such-sysctl"]


def test_check_raises_the_first_reason():
    """`check` says as an exception what `missing` lists."""
    check(Settings())
    with pytest.raises(CapabilityError, match="nonesuch"):
        check(Settings(congestion_control="nonesuch"))


def refuse_in_force():
    loop = Loop()
    with Network(load_topology("pair")) as network:
        try:
            with Tuning(
                network["client"],
                Settings(time_wait_s=90),
                loop,
                Transcript(lambda: loop.now_s),
                {"time_wait_s": "inet_diag"},
            ):
                return ""
        except CapabilityError as error:
            return error.slug


@pytest.mark.host
def test_a_forced_mechanism_is_asked_too(in_sandbox):
    """Where the host's mechanism is forced, its limits hold, with any sysctls."""
    assert in_sandbox(refuse_in_force) == "time-wait-too-long"


def shorten(length_s):
    loop = Loop()
    with Network(load_topology("pair")) as network:
        client, server = network["client"], network["server"]
        with Tuning(
            client, Settings(time_wait_s=length_s), loop, Transcript(lambda: loop.now_s), {"time_wait_s": "inet_diag"}
        ) as tuning:
            with Tuning(
                network["wire"], Settings(time_wait_s=length_s), loop, Transcript(lambda: loop.now_s)
            ) as elsewhere:
                pass
            with server.socket() as listener, client.socket() as first:
                listener.bind((server.ip4, 80))
                listener.listen()
                first.connect((server.ip4, 80))
                second, _ = listener.accept()
                first.close()
                second.close()
            loop.wait_until(lambda: tcp_sockets.count(client), 10, look_s=0.005)
            began_s = loop.now_s
            while tcp_sockets.count(client):
                loop.sleep(0.001)
            lasted_s, running = loop.now_s - began_s, tuning.mechanisms["time_wait_s"]
        return lasted_s, running, tuning.mechanisms["time_wait_s"], elsewhere.mechanisms


@pytest.mark.host
def test_a_short_time_wait_is_in_force_on_endpoints(in_sandbox):
    """Asked for 0.3 s, a TIME_WAIT lasts 0.3 s; the mechanism is on record; nodes without
    connections need none.
    """
    lasted_s, running, stopped, elsewhere = in_sandbox(shorten, 0.3, calm_s=0.05)
    assert 0.28 <= lasted_s <= 0.4
    assert running == "sockets ended over inet_diag at 0.300 s"
    assert stopped.startswith(f"{running}: 1 ended, at most ")
    assert elsewhere == {}


def recycle(family):
    loop = Loop()
    with Network(load_topology("pair")) as network:
        client, server = network["client"], network["server"]
        transcript = Transcript(lambda: loop.now_s)
        kind = socket.AF_INET6 if family == 6 else socket.AF_INET
        outcome = {}
        with (
            Tuning(client, Settings(timestamps=2), loop, transcript) as at_client,
            Tuning(server, Settings(tw_recycle=True), loop, transcript) as at_server,
            server.socket(kind) as listener,
        ):
            listener.bind((server.address(family), 80))
            listener.listen()
            listener.setblocking(False)
            outcome["first"] = exchange(loop, client, listener, kind, server.address(family))
            loop.wait_until(lambda: tcp_sockets.count(server), 10, look_s=0.005)
            began_s = loop.now_s
            loop.wait_until(lambda: not tcp_sockets.count(server), 3, look_s=0.005)
            outcome["time_wait_s"] = loop.now_s - began_s
            outcome["again"] = exchange(loop, client, listener, kind, server.address(family))
            with client.inside():
                sysctl.write("net.ipv4.tcp_timestamps", "0")
            before = counters.read(server)
            outcome["without"] = exchange(loop, client, listener, kind, server.address(family))
            moved = counters.delta(before, counters.read(server))
            outcome["moved"] = {name: moved.get(name, 0) for name in ("PAWSPassive", "ListenDrops")}
        return outcome, at_client.mechanisms, at_server.mechanisms


def exchange(loop, client, listener, kind, address):
    """A connection that the server closes first, served by the loop: was it accepted within 0.5 s?"""
    with client.socket(kind) as first:
        first.setblocking(False)
        first.connect_ex((address, 80))
        accepted = []

        def take():
            try:
                accepted.append(listener.accept()[0])
            except BlockingIOError:
                loop.sleep(0.002)
            return accepted

        if not loop.wait_until(take, 0.5):
            return False
        accepted[0].close()
        loop.wait_until(lambda: closed_by_peer(first), 10, look_s=0.002)
    loop.sleep(0.02)
    return True


def closed_by_peer(connection):
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False


@pytest.mark.host
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("ordinary", [False, True])
def test_recycle_is_emulated_where_the_kernel_lacks_it(in_sandbox, request, ordinary, family):
    """The server's TIME_WAIT lasts 3.5 RTO, the same clock is let in again, a SYN without timestamp
    is not; counted, and labelled.
    """
    user = request.getfixturevalue("ordinary_user") if ordinary else ""
    outcome, at_client, at_server = in_sandbox(recycle, family, user=user, calm_s=0.05)
    assert (outcome["first"], outcome["again"], outcome["without"]) == (True, True, False)
    assert 0.6 <= outcome["time_wait_s"] <= 0.9
    assert outcome["moved"] == {"PAWSPassive": 1, "ListenDrops": 1}
    assert at_client == {}
    assert at_server["tw_recycle"].startswith("emulated for incoming segments (")


@pytest.mark.guest
@pytest.mark.slow
def test_sysctl_and_host_mechanism_agree(tmp_path):
    """In the lab kernel, which has both, a TIME_WAIT lasts as long by either: the asked length, and
    at most 50 ms more.
    """
    for length_s, (by_sysctl, by_reaper) in zip(
        LENGTHS_S, run_in_guest(agree, LENGTHS_S, folder=tmp_path), strict=True
    ):
        assert length_s <= by_reaper <= length_s + 0.05
        assert abs(by_sysctl - by_reaper) <= 0.05
