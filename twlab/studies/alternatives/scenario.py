"""A scenario that measures the ways out of running out of ports.

It is for `twlab alternatives`: how many connections a second does each way sustain? Ports are few
in its arms, so that a whole measurement takes a second or two in the lab kernel: a rate is
proportional to their number. `with_ports` has the settings for another number. The predictions are
those of `twlab.planner.plan`; the measurement knows nothing of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from twlab.lab.lab import Lab
from twlab.observation import Observation, Range, at_least, between
from twlab.planner.demand import Demand
from twlab.planner.plan import make
from twlab.planner.ways import BUCKETS, MEASURED_POOL, TIMES
from twlab.ports import LINUX_PORT_COUNT, WIDEST_PORTS, PortChoice
from twlab.scenario import Arm, scenario
from twlab.settings import Settings
from twlab.traffic.load_client import Load, LoadClient, LoadServer

PORTS = 500  # in the range
LOW, HIGH = 40_000, 40_000 + PORTS - 1
_SHARE = 10  # of the ports, one in so many is enough for those ways that need more work for each
FEW = PORTS // _SHARE
FIRST_PER_S, STEP, MOST_PER_S = 2.0, 8, 16_384.0  # the rates tried, until a connect fails
_EVER_PER_S = 163_840.0  # with more ports, too: at some 460,000 a second a load runs out of files
TURNS = 3.2  # how often all ports are used at each rate
NEAR = 1.02  # the limit is found between two rates, of which one is so much the other
_MANY = 4 * PORTS  # from here on PORTS of the ports are tried first, for a guess
_RANGE = "net.ipv4.ip_local_port_range"

# The way of the plan, where it has another name than the arm.
_PLANNED_AS = {
    "tw-reuse-bind-no-port": "tw-reuse",
    "tw-reuse-named-ports": "named-ports",
    "more-sources-bind-first": "more-sources",
}
_LIKE_THE_CONTROL = (
    *("control", "tw-reuse-no-timestamps", "tw-reuse-bind-first", "named-ports-no-timestamps", "wider-range"),
    *("more-origin-ports-bind-first", "reuseaddr", "reuseaddr-bind-first"),
)
_FEW_PORTS = ("keep-alive", "tw-reuse-delay-100-ms")
_NO_LIMIT = ("tw-buckets", "linger-0")


def _wider(low: int, high: int) -> tuple[int, int]:
    """Return a range as much wider as the widest is than Linux's, where there is room for it."""
    least, most = WIDEST_PORTS
    count = min(round((high - low + 1) * (most - least + 1) / LINUX_PORT_COUNT), most - least + 1)
    if count <= high - low + 1:
        return low, high
    low = max(least, min(low, most - count + 1))
    return low, low + count - 1


def _planned(arm: str, low: int, high: int, most_per_s: float) -> Range:
    """Return what the plan says that `arm` sustains with the ports from `low` to `high`.

    Linux is up to 4 % below it, since its timers end TIME_WAIT late, never early.
    """
    if arm == "tw-reuse-delay-100-ms":
        each_100_ms = (high - low + 1) / 0.1
        return between(each_100_ms * 0.7, each_100_ms * NEAR)
    plan = make(Demand(rate_per_s=1, port_low=low, port_high=high, life_s=0))
    if arm in _LIKE_THE_CONTROL:
        per_s = plan.asked.ceiling_per_s
    elif arm == "keep-alive":
        per_s = (high - low + 1) * MEASURED_POOL / 61.25
    elif arm in _NO_LIMIT:
        per_s = math.inf
    else:
        name = _PLANNED_AS.get(arm, arm)
        per_s = next(way.ceiling_per_s for way in plan.ways if way.name == name)
        if arm == "tw-recycle":
            per_s *= 0.95  # 3.5 retransmission timeouts, of which 200 ms is the least
    if per_s > most_per_s:
        return at_least(most_per_s)
    return between(round(per_s * 0.94, 2), round(per_s * NEAR, 2))


def predict(arm: str, at: Callable[[str], Settings], given: Mapping[str, Any]) -> Observation | None:
    """Predict for other ports, see `with_ports`."""
    proxy = at("proxy")
    assert proxy.port_low and proxy.port_high
    return Observation(sustained_per_s=_planned(arm, proxy.port_low, proxy.port_high, given["most_per_s"]))


def with_ports(arm: str, low: int, high: int) -> tuple[str, ...]:
    """Return the ``KEY=VALUE`` texts that run `arm` with other ports.

    What depends on their number goes with it, in the same proportion as in the arms themselves.
    Without a text for the arms' own ports.

    Args:
        low, high: the first and the last.
    """
    if (low, high) == (LOW, HIGH):
        return ()
    count, wide_high = high - low + 1, _wider(low, high)[1]
    factor, used = count / PORTS, count
    first_per_s = {**sustained.parameters, **sustained.arms[arm].given}["first_per_s"] * factor
    more = []
    if arm == "wider-range":
        low, high = _wider(low, high)
    elif arm in _FEW_PORTS:
        used = count // _SHARE
        high = low + used - 1
    elif arm == "socket-port-range":
        more = [f"last_port={max(high, wide_high)}"]
    elif arm == "tw-buckets":
        more = [f"max_tw_buckets={max(1, round(count * BUCKETS / LINUX_PORT_COUNT))}"]
    texts = [f"port_low={low}", f"port_high={high}", f"ports_of={used}"]
    most_per_s = min(MOST_PER_S * factor, _EVER_PER_S)
    return (*texts, f"first_per_s={first_per_s:.6g}", f"most_per_s={most_per_s:.6g}", *more)


def _arm(
    name: str, on_proxy: Settings | None = None, /, settings: Settings | None = None, **given: Any
) -> dict[str, Arm]:
    """An arm by its name.

    Args:
        on_proxy: what differs on the proxy.
        settings: what differs everywhere.
        given: how the application behaves.
    """
    high = (on_proxy and on_proxy.port_high) or HIGH
    return {
        name: Arm(
            settings or Settings(),
            Observation(sustained_per_s=_planned(name, LOW, high, MOST_PER_S)),
            on={"proxy": on_proxy} if on_proxy else {},
            given=given,
        )
    }


@scenario(
    topology=f"proxy,sources={TIMES}",
    base=Settings(time_wait_s=60, port_low=LOW, port_high=HIGH, timestamps=1),
    control=_arm("control")["control"],
    treatment={
        **{name: arm for s in (30, 15, 10, 1) for name, arm in _arm(f"time-wait-{s}", Settings(time_wait_s=s)).items()},
        **_arm("tw-reuse", Settings(tw_reuse=1)),
        **_arm("tw-reuse-no-timestamps", Settings(tw_reuse=1), Settings(timestamps=0)),
        **_arm("tw-reuse-bind-first", Settings(tw_reuse=1), choice="bind"),
        **_arm("tw-reuse-bind-no-port", Settings(tw_reuse=1), choice="bind-no-port"),
        **_arm("tw-reuse-named-ports", Settings(tw_reuse=1), choice="explicit", reuse_address=True),
        # On this machine's kernel and in real time, where the lab kernel has no such sysctl.
        **_arm(
            "tw-reuse-delay-100-ms",
            Settings(tw_reuse=1, tw_reuse_delay_ms=100, port_high=LOW + FEW - 1),
            first_per_s=128.0,
            pause_s=0.5,
            ports_of=FEW,
            at_once=1,
        ),
        **_arm("tw-recycle", Settings(tw_recycle=True)),
        **_arm("tw-buckets", Settings(max_tw_buckets=round(PORTS * BUCKETS / LINUX_PORT_COUNT))),
        **_arm("linger-0", linger_0=True),
    },
    remedies={
        **_arm("named-ports", choice="explicit", reuse_address=True),
        **_arm("named-ports-no-timestamps", settings=Settings(timestamps=0), choice="explicit", reuse_address=True),
        **_arm("wider-range", Settings(port_high=_wider(LOW, HIGH)[1])),
        **_arm("socket-port-range", choice="range", last_port=_wider(LOW, HIGH)[1]),
        **_arm("more-sources", sources=TIMES),
        **_arm("more-sources-bind-first", sources=TIMES, choice="bind"),
        **_arm("more-origin-ports", targets=TIMES),
        **_arm("more-origin-ports-bind-first", targets=TIMES, choice="bind"),
        **_arm("keep-alive", Settings(port_high=LOW + FEW - 1), requests=MEASURED_POOL, ports_of=FEW, at_once=1),
        **_arm("origin-closes-first", opener_closes=False),
        **_arm("reuseaddr", reuse_address=True),
        **_arm("reuseaddr-bind-first", reuse_address=True, choice="bind"),
    },
    predict=predict,
    reads="Linux net/ipv4/inet_hashtables.c (__inet_hash_connect), net/ipv4/inet_connection_sock.c (inet_csk_get_port, "
    "inet_sk_get_local_port_range), net/ipv4/tcp_ipv4.c (tcp_twsk_unique); ip(7) (IP_BIND_ADDRESS_NO_PORT, "
    "IP_LOCAL_PORT_RANGE)",
)
def sustained(
    lab: Lab,
    *,
    choice: str = "connect",
    sources: int = 0,
    targets: int = 1,
    requests: int = 1,
    opener_closes: bool = True,
    linger_0: bool = False,
    reuse_address: bool = False,
    last_port: int = 0,
    ports_of: int = PORTS,
    at_once: int = 4,
    first_per_s: float = FIRST_PER_S,
    most_per_s: float = MOST_PER_S,
    pause_s: float = 65.0,
) -> Observation:
    """A proxy can open as many connections a second as it has four-tuples,
    divided by the time for which each is kept.

    The rate is raised until a connect fails, or the most is reached that is tried. Between the last
    rate at which none failed and the first at which one did, the limit is then searched. At each
    rate all ports are used three times over, which is long enough for a rate above the limit to
    fail: it does so before the first port is free again. Where there are many ports, the limit is
    first found with 500 of them; the search among all of them begins at that, in proportion, and
    takes a fifth of the connections. The proxy and the origin are neighbours, and the connections
    are empty but in the pool, so that the life of a connection counts for nothing.
    """
    origin = lab.network["client"]
    low, high = lab.settings["proxy"].port_low or LOW, last_port or lab.settings["proxy"].port_high or LOW
    asks = b"?" * 100 if requests > 1 else b""
    ports = range(80, 80 + targets)
    listening = LoadServer(
        origin, lab.loop, ports=ports, request_bytes=len(asks), response=b"!" * 100, responses=not opener_closes
    )
    lab.closing.callback(listening.close)
    load = Load(
        rate_per_s=first_per_s,
        duration_s=TURNS * (high - low + 1) * max(1, sources) * targets * requests / first_per_s,
        targets=[(origin.address(), port) for port in ports],
        sources=[f"10.3.2.{number}" for number in range(1, sources + 1)],
        ports=PortChoice(choice),
        port_range=(low, high),
        reuse_address=reuse_address,
        linger_0=linger_0,
        opener_closes=opener_closes,
        request=asks,
        response_bytes=len(asks),
        requests_per_connection=requests,
        timed=False,
    )
    trials = _Trials(lab, load, at_once, pause_s, most_per_s)
    limit_per_s = trials.search(_guess(lab, trials))
    found = {"sustained_per_s": round(limit_per_s, 2), "limited": bool(trials.fails), "fails": trials.fails}
    scaled = {"of_28232_ports_per_s": round(limit_per_s * LINUX_PORT_COUNT / ports_of, 1)} if trials.fails else {}
    return Observation(**found, in_time_wait=trials.in_time_wait, bytes_each=_bytes_each(), **scaled)


def _guess(lab: Lab, trials: _Trials) -> float:
    """Return the limit as `PORTS` of the ports have it, in proportion.

    0.0: the ports are few, or the proxy's table of TIME_WAITs is made for all of them.
    """
    node, settings = lab.network["proxy"], lab.settings["proxy"]
    low, high = settings.port_low or LOW, settings.port_high or HIGH
    if high - low + 1 < _MANY or settings.max_tw_buckets:
        return 0.0
    lab.step(f"{PORTS} of the ports come first.")
    share = PORTS / (high - low + 1)
    node.write_sysctl(_RANGE, f"{low} {low + PORTS - 1}")
    few_per_s = trials.with_share(share).search()
    node.write_sysctl(_RANGE, f"{low} {high}")
    return few_per_s / share


class _Trials:
    """One load after the other, which differ in their rate.

    Attributes:
        fails: call and error of the first connect that failed, of the last trial in which one did.
        in_time_wait: the most there were.
    """

    def __init__(self, lab: Lab, load: Load, at_once: int, pause_s: float, most_per_s: float):
        self.fails = ""
        self.in_time_wait = 0
        self._lab, self._load, self._at_once, self._pause_s = lab, load, at_once, pause_s
        self._in_all, self._most_per_s = load.total, most_per_s

    def with_share(self, share: float) -> _Trials:
        """Return the same with a share of the ports, and of the connections."""
        first, last = self._load.port_range
        ports = first, first + round((last - first + 1) * share) - 1
        load = replace(self._load, rate_per_s=self._load.rate_per_s * share, port_range=ports)
        return _Trials(self._lab, load, self._at_once, self._pause_s, self._most_per_s * share)

    def search(self, guess_per_s: float = 0.0) -> float:
        """Return the highest rate at which no connect fails, or the highest tried.

        Args:
            guess_per_s: where the search begins, with short steps that grow; without it, 0.0, it
                begins at the load's rate, upwards.
        """
        self._lab.step(
            "A rate is searched at which no connect fails, and one at which one does, by "
            f"{self._in_all:.0f} connections or requests each time."
        )
        first_per_s = self._load.rate_per_s
        good_per_s, bad_per_s = 0.0, math.inf
        rate_per_s, step = (min(guess_per_s, self._most_per_s), NEAR) if guess_per_s else (first_per_s, STEP)
        while not (good_per_s and bad_per_s < math.inf):
            if self._suffices(rate_per_s):
                good_per_s = rate_per_s
                if good_per_s == self._most_per_s:
                    return good_per_s
                rate_per_s = min(rate_per_s * step, self._most_per_s)
            else:
                bad_per_s = rate_per_s
                self._lab.require(bad_per_s > first_per_s, "the first rate is below the limit")
                rate_per_s = max(rate_per_s / step, first_per_s)
            step = min(step * step, STEP)
        self._lab.step("The limit is searched between the two last.")
        while bad_per_s > good_per_s * NEAR:
            middle_per_s = math.sqrt(good_per_s * bad_per_s)
            if self._suffices(middle_per_s):
                good_per_s = middle_per_s
            else:
                bad_per_s = middle_per_s
        return good_per_s

    def _suffices(self, rate_per_s: float) -> bool:
        """Return whether no connect fails at `rate_per_s`."""
        lab, tick_s = self._lab, min(0.5, self._at_once / rate_per_s)
        load = replace(
            self._load,
            rate_per_s=rate_per_s,
            duration_s=self._in_all / rate_per_s,
            tick_s=tick_s,
            to_first_failure=True,
        )
        counts = LoadClient(lab.network["proxy"], lab.loop, load).run()
        failed = counts.failed
        self.fails = next(iter(failed), self.fails)
        self.in_time_wait = max(self.in_time_wait, *(second.in_time_wait for second in counts.seconds))
        lab.note(f"{rate_per_s:.6g} a second: {dict(failed) or 'none failed'} after {counts.answered} connections")
        lab.sleep(self._pause_s)
        return not failed


def _bytes_each() -> int:
    """Return the bytes of memory that a closed connection keeps.

    They are its TIME_WAIT socket, and the two entries that hold its port; 0 where the kernel does
    not report them.
    """
    slabs = Path("/sys/kernel/slab")
    try:
        return sum(
            int((slabs / name / "slab_size").read_text())
            for name in ("tw_sock_TCP", "tcp_bind_bucket", "tcp_bind2_bucket")
        )
    except OSError:
        return 0
