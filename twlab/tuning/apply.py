"""Applies the baseline, or another world, and an arm's settings to a node.

A setting is a sysctl where the kernel has it. Two have a stand-in where it has not.
`time_wait_reaper.py` ends TIME_WAIT sockets at the age asked for, over inet_diag.
`recycle_emulation.py` applies the rule of tcp_tw_recycle to incoming SYNs. The evidence records
which mechanism was used. `check` refuses a setting that has neither, before anything is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from twlab import lab_kernel
from twlab.errors import CapabilityError
from twlab.linux import sysctl, tcp_sockets
from twlab.loop import Loop
from twlab.ports import LINUX_PORTS
from twlab.results.transcript import Transcript
from twlab.settings import Settings, describe
from twlab.tuning.baseline import BASELINE, pinned
from twlab.tuning.first_values import FirstValues
from twlab.world import PINNED, World

if TYPE_CHECKING:
    from twlab.network import Node

_CONSTANT_S = 60  # include/net/tcp.h, TCP_TIMEWAIT_LEN
_COOKIES_ALWAYS = 2
_CONNTRACK = "net.netfilter."
_IPVS = "net.ipv4.vs."
_FLOWS = "net.netfilter.nf_flowtable_"
_PARTS = {_IPVS: "no-ipvs", _FLOWS: "no-flow-table"}  # of a kernel that has been left out: slug of the error
_STAND_INS = {"net.ipv4.tcp_timewait_len": "inet_diag", "net.ipv4.tcp_tw_recycle": "emulation"}


class Knob(NamedTuple):
    """The sysctl that holds a setting.

    Attributes:
        settings: names of the settings that go into it; any of them may be None, not all.
        sysctl: dotted name.
        convert: from their values to the sysctl's text.
        lab_only: only of the lab kernel is it certain that it has the sysctl.
    """

    settings: tuple[str, ...]
    sysctl: str
    convert: Callable[..., Any] = int
    lab_only: bool = False

    def remedy(self) -> str:
        """Return the remedy where the kernel lacks the sysctl."""
        return lab_kernel.remedy() if self.lab_only else lab_kernel.remedy_for_setting()

    def value(self, settings: Settings) -> str | None:
        """Return the text to write for `settings`; None if they leave this sysctl alone."""
        values = [getattr(settings, name) for name in self.settings]
        return None if all(value is None for value in values) else str(self.convert(*values))


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _port_range(low: int | None, high: int | None) -> str:
    usual_low, usual_high = LINUX_PORTS
    low = low if low is not None else min(usual_low, high or usual_low)
    return f"{low} {high if high is not None else max(usual_high, low)}"


def _buffer(size: int) -> str:
    return f"{min(4096, size)} {size} {size}"  # least, at first, at most


KNOBS: tuple[Knob, ...] = (
    Knob(("time_wait_s",), "net.ipv4.tcp_timewait_len", _milliseconds, lab_only=True),
    Knob(("tw_recycle",), "net.ipv4.tcp_tw_recycle", lab_only=True),
    Knob(("timestamps",), "net.ipv4.tcp_timestamps"),
    Knob(("timestamp_offset_s",), "net.ipv4.tcp_timestamp_offset", _milliseconds, lab_only=True),
    Knob(("tw_reuse",), "net.ipv4.tcp_tw_reuse"),
    Knob(("tw_reuse_delay_ms",), "net.ipv4.tcp_tw_reuse_delay"),
    Knob(("rfc1337",), "net.ipv4.tcp_rfc1337"),
    Knob(("max_tw_buckets",), "net.ipv4.tcp_max_tw_buckets"),
    Knob(("port_low", "port_high"), "net.ipv4.ip_local_port_range", _port_range),
    Knob(("fin_timeout_s",), "net.ipv4.tcp_fin_timeout"),
    Knob(("receive_window",), "net.ipv4.tcp_rmem", _buffer),
    Knob(("send_buffer",), "net.ipv4.tcp_wmem", _buffer),
    Knob(("congestion_control",), "net.ipv4.tcp_congestion_control", str),
    Knob(("sack",), "net.ipv4.tcp_sack"),
    Knob(("window_scaling",), "net.ipv4.tcp_window_scaling"),
    Knob(("syn_retries",), "net.ipv4.tcp_syn_retries"),
    Knob(("syn_linear_timeouts",), "net.ipv4.tcp_syn_linear_timeouts"),
    Knob(("synack_retries",), "net.ipv4.tcp_synack_retries"),
    Knob(("syncookies",), "net.ipv4.tcp_syncookies"),
    Knob(("syn_backlog",), "net.ipv4.tcp_max_syn_backlog"),
    Knob(("syn_backlog",), "net.core.somaxconn"),
    Knob(("invalid_ratelimit_ms",), "net.ipv4.tcp_invalid_ratelimit"),
    Knob(("nat_time_wait_s",), "net.netfilter.nf_conntrack_tcp_timeout_time_wait"),
    Knob(("nat_close_s",), "net.netfilter.nf_conntrack_tcp_timeout_close"),
    Knob(("nat_flow_s",), "net.netfilter.nf_flowtable_tcp_timeout", lab_only=True),
    Knob(("nat_close_wait_s",), "net.netfilter.nf_conntrack_tcp_timeout_close_wait"),
    Knob(("nat_be_liberal",), "net.netfilter.nf_conntrack_tcp_be_liberal"),
    Knob(("nat_loose",), "net.netfilter.nf_conntrack_tcp_loose"),
    Knob(("ipvs_conn_reuse_mode",), "net.ipv4.vs.conn_reuse_mode", lab_only=True),
    Knob(("ipvs_conntrack",), "net.ipv4.vs.conntrack", lab_only=True),
    Knob(("ipvs_expire_nodest_conn",), "net.ipv4.vs.expire_nodest_conn", lab_only=True),
)


def missing(settings: Settings, forced: Mapping[str, str] | None = None) -> list[CapabilityError]:
    """List what `settings` ask that this kernel cannot do; changes nothing.

    Args:
        forced: setting to mechanism: ``{"time_wait_s": "inet_diag"}``, ``{"tw_recycle":
            "emulation"}`` to pass over a sysctl.
    """
    refused = []
    for knob, value in _asked(settings):
        name = knob.settings[0]
        how = _mechanism(knob, value, forced)
        if how == "inet_diag":
            refused += _missing_for_reaper(settings)
        elif how == "emulation":
            refused += _missing_for_recycle(settings)
        elif how == "none" and not _comes_later(knob):
            message = f"this kernel has no {knob.sysctl}, which {name}={getattr(settings, name)} needs"
            slug = next((slug for start, slug in _PARTS.items() if knob.sysctl.startswith(start)), "no-such-sysctl")
            refused.append(CapabilityError(message, f"{name} is the {describe(name)}; {knob.remedy()}", slug))
    return refused + _missing_congestion_control(settings)


def check(settings: Settings, forced: Mapping[str, str] | None = None) -> None:
    """Check before anything is built that this kernel can apply `settings`.

    Raises:
        CapabilityError: it cannot; the first reason of `missing`.
    """
    for error in missing(settings, forced):
        raise error


class Tuning:
    """The world and `settings`, applied to `node` from entering to leaving.

    Sysctls are not restored: they end with the node.

    Args:
        forced: see `missing`.
        world: what the node starts from.
        before: the tuning of this node that this one replaces. What that one has written, and this
            one does not, gets back the value that it had.

    Attributes:
        effective: sysctl of the baseline to the value in force, read back after it was written;
            None where this kernel has no such sysctl.
        first: sysctl that was written to the value that it had, interface by interface.
        mechanisms: setting to how it was applied, where there is more than one way. A mechanism
            that runs beside the lab adds its figures on leaving.
    """

    def __init__(
        self,
        node: Node,
        settings: Settings,
        loop: Loop,
        transcript: Transcript,
        forced: Mapping[str, str] | None = None,
        world: World = PINNED,
        before: Tuning | None = None,
    ):
        self._node = node
        self._settings = settings
        self._loop = loop
        self._transcript = transcript
        self._forced = forced
        self._world = world
        self._beside = ExitStack()
        self.first: dict[str, str] = dict(before.first) if before else {}
        self.effective: dict[str, str | None] = {}
        self.mechanisms: dict[str, str] = {}

    def __enter__(self) -> Tuning:
        """Write, read back, and start the stand-ins for missing sysctls.

        Raises:
            CapabilityError: the kernel refuses a value (``sysctl-refused``), or one of the reasons
                of `missing`.
        """
        check(self._settings, self._forced)
        wanted = started_from(self._world)
        beside: list[str] = []
        needed: set[str] = set()
        for knob, value in _asked(self._settings):
            how = _mechanism(knob, value, self._forced)
            if how in ("sysctl", "constant", "none"):
                wanted[knob.sysctl] = value
            if how == "none":
                needed.add(knob.sysctl)
            if knob.sysctl in _STAND_INS and self._node.role == "endpoint":
                self.mechanisms[knob.settings[0]] = {
                    "sysctl": f"sysctl {knob.sysctl}",
                    "constant": "as this kernel always does",
                }.get(how, how)
                beside.append(how)
        first = FirstValues(self._node, self._world)
        with self._node.inside():
            for name, start in wanted.items():
                if self._node.role == "gateway" or not name.startswith((_CONNTRACK, _IPVS)):
                    self.effective[name] = self._put(name, start, first)
                    if self.effective[name] is None and name in needed:
                        raise CapabilityError(
                            f"{self._node.name}: this kernel has no {name}",
                            lab_kernel.remedy_for_setting(),
                            "no-such-sysctl",
                        )
        with ExitStack() as stack:
            if "inet_diag" in beside:
                self._reap(stack)
            if "emulation" in beside:
                self._recycle(stack)
            self._beside = stack.pop_all()
        if self._settings.as_dict():
            self._transcript.record("note", f"is set to {self._settings.words()}", self._node.name)
        return self

    def __exit__(self, *_: object) -> None:
        self._beside.close()

    def _put(self, name: str, value: str | None, first: FirstValues) -> str | None:
        """Write `value`, unless it is there already; return the value read back.

        None leaves the sysctl as the kernel has it. A value of this machine that the lab's kernel
        does not take is left out, with a note.
        """
        found: str | None = None
        for one, there in first.of(name):
            found = there
            carried = value is not None and self._world.values.get(name) == value
            wanted = self._world.values.get(one, value) if carried else value
            wanted = self.first.get(one) if wanted is None else wanted
            if found is None or wanted is None or found == wanted:
                continue
            self.first.setdefault(one, found)
            try:
                found = first.write(one, wanted)
            except OSError as error:
                message = f"{self._node.name}: the kernel does not take {one}={wanted}: {error.strerror}"
                if not carried:
                    raise CapabilityError(message, lab_kernel.remedy_for_setting(), "sysctl-refused") from error
                self._transcript.record("note", f"{message}; it keeps {found}", self._node.name)
        return found

    def _reap(self, stack: ExitStack) -> None:
        from twlab.tuning.time_wait_reaper import TimeWaitReaper

        assert self._settings.time_wait_s is not None
        reaper = TimeWaitReaper(self._node, self._settings.time_wait_s)
        self.mechanisms["time_wait_s"] = f"sockets ended over inet_diag at {self._settings.time_wait_s:.3f} s"

        def stop() -> None:
            self.mechanisms["time_wait_s"] += f": {reaper.stop()}"

        stack.callback(stop)

    def _recycle(self, stack: ExitStack) -> None:
        from twlab.tuning.recycle_emulation import RecycleEmulation

        cookies = self._settings.syncookies == _COOKIES_ALWAYS
        emulation = RecycleEmulation(self._node, self._loop, self._transcript, cookies=cookies)
        stack.enter_context(emulation)
        self.mechanisms["tw_recycle"] = (
            f"emulated for incoming segments ({emulation.mechanism}), which counts PAWSPassive and ListenDrops"
        )


def started_from(world: World) -> dict[str, str | None]:
    """Map each sysctl of the baseline to the value that `world` has.

    None: the value that the kernel gives it.
    """
    if world.name == "pinned":
        return {pin.sysctl: pin.value for pin in BASELINE}
    return {pin.sysctl: pin.value if pin.needed else world.values.get(pin.sysctl) for pin in BASELINE}


def _asked(settings: Settings) -> list[tuple[Knob, str]]:
    return [(knob, value) for knob in KNOBS if (value := knob.value(settings)) is not None]


def _mechanism(knob: Knob, value: str, forced: Mapping[str, str] | None) -> str:
    """Return how `value` is applied.

    ``sysctl``; ``constant`` where the kernel lacks the sysctl and behaves so anyway; a stand-in; or
    ``none``.
    """
    if choice := (forced or {}).get(knob.settings[0]):
        return choice
    if sysctl.exists(knob.sysctl):
        return "sysctl"
    return "constant" if value == pinned(knob.sysctl) else _STAND_INS.get(knob.sysctl, "none")


def _comes_later(knob: Knob) -> bool:
    """Return whether the sysctl may come with the gateway's first rule, in a module."""
    return knob.sysctl.startswith(_CONNTRACK) and not sysctl.exists(_CONNTRACK + "nf_conntrack_max")


def _missing_for_reaper(settings: Settings) -> list[CapabilityError]:
    asked = f"time_wait_s={settings.time_wait_s:g}"
    if (settings.time_wait_s or 0) > _CONSTANT_S:
        return [
            CapabilityError(
                f"{asked}: this kernel ends TIME_WAIT after {_CONSTANT_S} s and nothing prolongs it",
                lab_kernel.remedy(),
                "time-wait-too-long",
            )
        ]
    return _missing_sock_destroy(asked)


def _missing_for_recycle(settings: Settings) -> list[CapabilityError]:
    if not settings.tw_recycle:
        return []
    if find_spec("netfilterqueue") is None:
        message = (
            "this kernel has no net.ipv4.tcp_tw_recycle (removed in Linux 4.12), and without the package "
            "netfilterqueue it cannot be emulated"
        )
        return [CapabilityError(message, lab_kernel.remedy(), "no-tw-recycle")]
    return _missing_sock_destroy("tw_recycle=1")


def _missing_sock_destroy(asked: str) -> list[CapabilityError]:
    if tcp_sockets.destroyable():
        return []
    message = (
        f"{asked}: this kernel does not end TIME_WAIT sockets on request, as Linux 6.0 with "
        "CONFIG_INET_DIAG_DESTROY does"
    )
    return [CapabilityError(message, lab_kernel.remedy(), "no-sock-destroy")]


def _missing_congestion_control(settings: Settings) -> list[CapabilityError]:
    wanted = settings.congestion_control
    if wanted is None:
        return []
    allowed = sysctl.read("net.ipv4.tcp_allowed_congestion_control") or ""
    if wanted in allowed.split():
        return []
    remedy = (
        f"it allows: {allowed}; the administrator adds others with sysctl "
        "net.ipv4.tcp_allowed_congestion_control, on the machine itself"
    )
    return [
        CapabilityError(f"this kernel does not allow congestion_control={wanted} here", remedy, "no-congestion-control")
    ]
