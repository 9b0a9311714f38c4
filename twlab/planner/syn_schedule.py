"""Predicts when Linux sends a SYN again, and when it gives up."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from twlab.observation import Range
from twlab.settings import Settings

RTO_MAX_S = 120.0  # TCP_RTO_MAX
AT_ONCE_S = 0.01  # after an acknowledgement that the client has reset: TCP_TIMEOUT_MIN, two ticks


@dataclass(frozen=True)
class SynSchedule:
    """The SYNs of a connect() that gets no answer that opens it.

    Attributes:
        syns_s: seconds at which they are sent, the first at 0.
        end_s: the second of ETIMEDOUT.
    """

    syns_s: tuple[float, ...]
    end_s: float

    @property
    def gaps_s(self) -> list[float]:
        """Seconds between one SYN and the next."""
        return [later - earlier for earlier, later in pairwise(self.syns_s)]


def syn_schedule(client: Settings, *, at_once: bool = False) -> SynSchedule | None:
    """Return the SYNs of `client`, or None where lateness decides how many there are.

    The kernel gives up at the first of two limits: `syn_retries` and `syn_linear_timeouts` SYNs
    have been sent again, or so long has passed since the first as `syn_retries` doublings take.
    Linear timeouts do not lengthen the latter. Source: Linux net/ipv4/tcp_timer.c
    (tcp_write_timeout, retransmits_timed_out, tcp_model_timeout, tcp_retransmit_timer).

    Args:
        at_once: the client's kernel resets an acknowledgement, and sends its SYN again at once.
    """
    retries, linear = client.syn_retries or 6, client.syn_linear_timeouts or 0
    limit_s = sum(wait_s(number, 0) for number in range(retries + 1))
    syns_s, now_s = [0.0], AT_ONCE_S if at_once else wait_s(0, linear)
    for sent_again in range(retries + linear):
        if sent_again:
            if now_s >= limit_s:
                break
            if latest_s(now_s) >= limit_s:
                return None
        syns_s.append(now_s)
        now_s += wait_s(sent_again + 1, linear)
    return SynSchedule(tuple(syns_s), now_s)


def wait_s(number: int, linear: int) -> float:
    """Return the wait after a SYN; the first `linear` waits do not double.

    `number` is that of the SYN, from 0.
    """
    return float(min(2.0 ** min(max(0, number - linear), 60), RTO_MAX_S))


def late(nominal_s: float) -> Range:
    """Return the bounds of a time that the kernel's timers make longer."""
    return Range(round(nominal_s, 2), latest_s(nominal_s))


def latest_s(nominal_s: float) -> float:
    """Return the upper of these bounds."""
    return round(nominal_s * 1.07 + 0.5, 2)
