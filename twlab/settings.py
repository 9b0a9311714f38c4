"""The settings of one arm, with units and bounds.

`twlab.tuning.apply` applies them. A setting left at None keeps its value from
`twlab.tuning.baseline`. A scenario asks for settings, never for a mechanism: `time_wait_s` is a
sysctl in the lab kernel, and sockets ended early over inet_diag on any other. The result says which
it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, get_args, get_type_hints

from twlab.errors import UsageError, did_you_mean
from twlab.numerals import real, whole


def _knob(doc: str, low: float | None = None, high: float | None = None) -> Any:
    return field(default=None, metadata={"doc": doc, "low": low, "high": high})


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings that an arm changes; all are optional.

    Units stand in the names.

    Raises:
        UsageError: a value of the wrong type or out of its bounds (``bad-setting``).
    """

    time_wait_s: float | None = _knob(
        "length of TIME_WAIT in seconds; Linux hard-codes 60 (include/net/tcp.h)", 0.001, 3600
    )
    timestamps: int | None = _knob(
        "TCP timestamps: 0 off, 1 on with a random offset, 2 on without offset (RFC 7323)", 0, 2
    )
    tw_reuse: int | None = _knob("tcp_tw_reuse: 0 off, 1 on, 2 for loopback only", 0, 2)
    tw_reuse_delay_ms: int | None = _knob(
        "age at which tw_reuse may take a TIME_WAIT socket, in ms (Linux 6.14 and later)", 1, 60_000
    )
    tw_recycle: bool | None = _knob(
        "tcp_tw_recycle, removed in Linux 4.12: a sysctl in the lab kernel, emulated elsewhere"
    )
    rfc1337: bool | None = _knob("tcp_rfc1337: ignore RST in TIME_WAIT (RFC 1337, fix F1)")
    max_tw_buckets: int | None = _knob(
        "most TIME_WAIT sockets in a network namespace; past it there is no TIME_WAIT", 0, 2**31 - 1
    )
    port_low: int | None = _knob("first port of ip_local_port_range", 1, 65535)
    port_high: int | None = _knob("last port of ip_local_port_range", 1, 65535)
    fin_timeout_s: int | None = _knob("tcp_fin_timeout: life of an orphaned FIN_WAIT_2; not a TIME_WAIT knob", 1, 3600)
    receive_window: int | None = _knob(
        "receive buffer of every socket in bytes, which bounds the window offered", 2304, 2**30
    )
    send_buffer: int | None = _knob("send buffer of every socket in bytes", 4608, 2**30)
    congestion_control: str | None = _knob("congestion control algorithm, e.g. reno, cubic, bbr")
    sack: bool | None = _knob("selective acknowledgements (RFC 2018)")
    window_scaling: bool | None = _knob("window scaling (RFC 7323)")
    syn_retries: int | None = _knob("how often a SYN is sent again before connect() gives up", 1, 127)
    syn_linear_timeouts: int | None = _knob(
        "how often a SYN is sent again after 1 s before the waits double (Linux 6.5 and later, where it is 4)", 0, 127
    )
    synack_retries: int | None = _knob("how often a SYN-ACK is sent again", 0, 255)
    syncookies: int | None = _knob("SYN cookies: 0 never, 1 when the backlog is full, 2 always", 0, 2)
    syn_backlog: int | None = _knob(
        "most half-open connections of a listener (tcp_max_syn_backlog, somaxconn)", 1, 65535
    )
    invalid_ratelimit_ms: int | None = _knob(
        "least time between answers to invalid segments of one socket, in ms", 0, 2**31 - 1
    )
    timestamp_offset_s: float | None = _knob(
        "shift of this node's timestamp clock in seconds, as if it had booted earlier", -(2**31) / 1000, 2**31 / 1000
    )
    nat_time_wait_s: int | None = _knob(
        "how long a NAT gateway keeps a connection in TIME_WAIT, in seconds (Linux: 120)", 0, 86_400
    )
    nat_close_s: int | None = _knob(
        "how long a NAT gateway keeps a reset connection, in seconds (Linux: 10)", 0, 86_400
    )
    nat_flow_s: int | None = _knob(
        "how long a gateway's flow table keeps a connection without segments, in seconds (Linux: 30)", 1, 86_400
    )
    nat_close_wait_s: int | None = _knob(
        "how long a NAT gateway keeps a connection of which one half is closed, in seconds (Linux: 60)", 0, 86_400
    )
    nat_be_liberal: bool | None = _knob("conntrack accepts segments outside the window instead of calling them INVALID")
    nat_loose: bool | None = _knob("conntrack picks up connections in the middle")
    ipvs_conn_reuse_mode: int | None = _knob(
        "net.ipv4.vs.conn_reuse_mode: IP Virtual Server chooses a server anew for a SYN whose four-tuple it remembers: "
        "0 never, 1 if it saw both FINs or a RST, 2 also if servers answer clients directly and it saw one",
        0,
        2,
    )
    ipvs_conntrack: bool | None = _knob("net.ipv4.vs.conntrack: IP Virtual Server keeps entries in conntrack, too")
    ipvs_expire_nodest_conn: bool | None = _knob(
        "net.ipv4.vs.expire_nodest_conn: IP Virtual Server forgets a connection whose server is gone"
    )

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            if value is not None:
                object.__setattr__(self, spec.name, _checked(spec.name, value))
        if (self.port_low or 1) > (self.port_high or 65535):
            raise UsageError(
                f"port_low={self.port_low} is above port_high={self.port_high}",
                "give the lower port first",
                "bad-setting",
            )

    def over(self, below: Settings) -> Settings:
        """Return these settings over `below`, which fills in what is None here."""
        return replace(below, **self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return the settings that are not None, by name, as JSON values."""
        return {spec.name: value for spec in fields(self) if (value := getattr(self, spec.name)) is not None}

    def words(self) -> str:
        """``time_wait_s=1 timestamps=0``; ``baseline`` when nothing was given."""
        return (
            " ".join(
                f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
                for name, value in self.as_dict().items()
            )
            or "baseline"
        )


def setting_names() -> list[str]:
    """Return all names that `Settings` takes."""
    return [spec.name for spec in fields(Settings)]


def describe(name: str) -> str:
    """Return what the setting means, in one line."""
    return next(spec.metadata["doc"] for spec in fields(Settings) if spec.name == name)


def parse_setting(name: str, text: str) -> Any:
    """Return the value that `text`, from a command line, means for `name`.

    Raises:
        UsageError: no such setting (``no-such-setting``), or a text that is no value of it
            (``bad-setting``).
    """
    if name not in setting_names():
        raise no_such_setting(name)
    kind = _kind(name)
    words = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
    try:
        value = words[text.lower()] if kind is bool else {int: whole, float: real}.get(kind, kind)(text)
    except (KeyError, ValueError):
        raise _bad(name, text) from None
    return _checked(name, value)


def no_such_setting(name: str, arguments: Iterable[str] = ()) -> UsageError:
    """Return the error for an unknown setting.

    Args:
        name: the unknown name.
        arguments: other names that may have been meant.
    """
    near = did_you_mean(name, [*setting_names(), *arguments])
    return UsageError(
        f"there is no setting called {name!r}{near}",
        f"the settings are: {', '.join(setting_names())}",
        "no-such-setting",
    )


@cache
def _kinds() -> dict[str, type]:
    """Map each setting to the type of its values.

    It is done once: to evaluate the annotations takes longer than all else here.
    """
    return {name: get_args(hint)[0] for name, hint in get_type_hints(Settings).items()}


def _kind(name: str) -> type:
    return _kinds()[name]


def _checked(name: str, value: Any) -> Any:
    kind = _kind(name)
    spec = next(spec for spec in fields(Settings) if spec.name == name)
    low, high = spec.metadata["low"], spec.metadata["high"]
    if kind in (int, float) and isinstance(value, bool):
        value = int(value)
    if kind is float and isinstance(value, int):
        try:
            value = float(value)
        except OverflowError:
            raise _bad(name, value) from None
    if kind is bool and value in (0, 1):
        value = bool(value)
    if not isinstance(value, kind):
        raise _bad(name, value)
    if low is not None and not low <= value <= high:  # also false for nan
        raise _bad(name, value)
    return value


def _bad(name: str, value: object) -> UsageError:
    spec = next(spec for spec in fields(Settings) if spec.name == name)
    low, high = spec.metadata["low"], spec.metadata["high"]
    wanted = {float: "a number", int: "a whole number", bool: "on or off", str: "a name"}[_kind(name)]
    between = f" from {low:g} to {high:g}" if low is not None else ""
    return UsageError(
        f"{name}={value!s:.40} is out of range: expected {wanted}{between}",
        f"{name} is the {spec.metadata['doc']}",
        "bad-setting",
    )
