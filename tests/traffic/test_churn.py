"""A load on a live node: everything that arrives is opened, answered, and closed by whom it should
be; and what fails is told as what it is.
"""

import math

import pytest
from churning import accounts, reset_before_the_next_request
from in_guest import run_in_guest

REQUEST = {"request": 100, "response_bytes": 300}
ANSWER = {"request_bytes": 100, "response": 300}
WAYS = {
    "the opener closes": ({}, {}, 100, 100),
    "the server closes": ({"opener_closes": False}, {"responses": 1}, 100, 0),
    "a request, the opener closes": (REQUEST, ANSWER, 100, 100),
    "a request, the server closes": ({"request": 100, "opener_closes": False}, {**ANSWER, "responses": 1}, 100, 0),
    "a long answer": ({"request": 100, "response_bytes": 200_000}, {**ANSWER, "response": 200_000}, 100, 100),
    "connections are kept": ({**REQUEST, "requests_per_connection": 5}, ANSWER, 20, 20),
    "linger 0": ({"linger_0": True}, {}, 100, 0),
    "bind": ({"ports": "bind"}, {}, 100, 100),
    "bind without a port": ({"ports": "bind-no-port"}, {}, 100, 100),
    "explicit ports": ({"ports": "explicit", "port_range": (20_000, 20_099)}, {}, 100, 100),
    "a range of the socket's own": ({"ports": "range", "port_range": (41_000, 43_999)}, {}, 100, 100),
    "four sources": ({"all_sources": True}, {}, 100, 100),
    "four targets": ({"to_ports": [80, 81, 82, 83]}, {}, 100, 100),
    "the clock not looked at": ({"timed": False}, {}, 100, 100),
}


@pytest.fixture(scope="module", params=["host", "guest"])
def ways(request, tmp_path_factory):
    from conftest import lacks, run_in_sandbox

    if reason := lacks(request.param):
        pytest.skip(reason)
    cases = [way[:2] for way in WAYS.values()]
    run = (
        run_in_sandbox
        if request.param == "host"
        else lambda *given: run_in_guest(*given, folder=tmp_path_factory.mktemp("guest"))
    )
    return dict(zip(WAYS, run(accounts, {"timestamps": 0}, cases), strict=True))


@pytest.mark.parametrize("way", WAYS)
def test_everything_that_arrives_is_opened_answered_and_closed(ways, way):
    """100 requests: all are answered, on as many connections as they need; the end that closes
    first is left with the TIME_WAITs.
    """
    account, connections, time_waits = ways[way], *WAYS[way][2:]
    assert (account["answered"], account["failed"], account["left"]) == (100, {}, 0)
    # Kept connections are few unless the machine was late: what piled up then is asked all at once.
    most = 40 if connections < 100 and account["worst_late_s"] < 0.05 else 100
    assert connections <= account["connected"] == account["attempted"] == account["accepted"] <= most
    before = [*WAYS][: [*WAYS].index(way)]
    previous = sum(ways[name]["connected"] if WAYS[name][3] else 0 for name in before)
    assert account["time_waits"] == pytest.approx(previous + (account["connected"] if time_waits else 0), abs=2)


FAILURES = {
    "no port left": ({}, "connect EADDRNOTAVAIL", 90),  # after ten connections; those that follow find the ports taken
    "no port left, bind": ({"ports": "bind"}, "bind EADDRINUSE", 100),
    "no port left in the socket's own range": (
        {"ports": "range", "port_range": (50_000, 50_009)},
        "connect EADDRNOTAVAIL",
        100,
    ),
    "no listener": ({"nobody": True}, "connect ECONNREFUSED", 10),
    "no close": (
        {"request": 100, "response_bytes": 300, "opener_closes": False, "patience_s": 0.2, "to_ports": [82]},
        "recv ETIMEDOUT",
        10,
    ),
    "no answer": (
        {"request": 100, "response_bytes": 1, "patience_s": 0.2, "to_ports": [81]},
        "recv ETIMEDOUT",
        10,
    ),
}


@pytest.mark.host
def test_what_fails_is_told_by_call_and_error(in_sandbox):
    """Ten ports: past them, connect or bind fails at once; a refusal and a silence are told apart;
    each failure is counted, the first one timed.
    """
    serving = {"no close": ANSWER, "no answer": {"request_bytes": 1_000_000}}
    cases = [
        ({"duration_s": count / 200 if count == 10 else 0.5, **load}, serving.get(name, {}))
        for name, (load, _, count) in FAILURES.items()
    ]
    told = in_sandbox(accounts, {"port_low": 50_000, "port_high": 50_009, "timestamps": 0}, cases)
    for (name, (_, error, count)), account in zip(FAILURES.items(), told, strict=True):
        assert account["failed"] == {error: count}, name
        assert account["first_failure_s"] is not None


@pytest.mark.host
@pytest.mark.parametrize(
    ("choice", "error"),
    [
        ({"ports": "range", "port_range": (50_000, 50_009)}, "connect EADDRNOTAVAIL"),
        ({"ports": "bind"}, "bind EADDRINUSE"),
    ],
)
def test_the_first_failure_may_end_a_load(in_sandbox, choice, error):
    """Of the arrivals of its tick, none after it is tried; what came before it is closed at both
    ends, and counted.
    """
    arrivals = {"rate_per_s": 200, "duration_s": 2, "tick_s": 0.25, "to_first_failure": True}
    (account,) = in_sandbox(
        accounts, {"port_low": 50_000, "port_high": 50_009, "timestamps": 0}, [({**arrivals, **choice}, {})]
    )
    assert account["failed"] == {error: 1}
    assert (account["attempted"], account["connected"], account["accepted"], account["left"]) == (11, 10, 10, 0)
    assert [second["in_time_wait"] for second in account["seconds"]] == [10] == [account["time_waits"]]


@pytest.mark.host
@pytest.mark.parametrize(("seen", "failed"), [(False, {"send ECONNRESET": 1}), (True, {})])
def test_a_kept_connection_may_be_reset(in_sandbox, seen, failed):
    """Where that was seen before the next request, nothing has failed, and another connection is
    opened. Else the request fails, once, and the load goes on to its end.
    """
    account = in_sandbox(reset_before_the_next_request, seen)
    assert account["failed"] == failed
    assert (account["connected"], account["answered"]) == (2, 2) if seen else (1, 1)


@pytest.mark.host
def test_a_closed_loop_is_fast(in_sandbox):
    """Without a rate, one process opens and closes thousands of connections a second, both ends of
    them.
    """
    (account,) = in_sandbox(
        accounts, {}, [({"rate_per_s": math.inf, "duration_s": 1, "ports": "range", "linger_0": True}, {})]
    )
    assert account["failed"] == {}
    assert account["connected"] > 1000
