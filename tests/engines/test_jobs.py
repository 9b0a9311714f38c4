"""Jobs in as many boots as it takes, and the events that an engine writes."""

from collections.abc import Sequence
from typing import Any

import pytest

from twlab.engines import jobs
from twlab.engines.events import EventReader
from twlab.engines.protocol import Event, OnEvent
from twlab.errors import CapabilityError, EngineError


class Engine:
    """Runs jobs until it comes to one of `deadly`; or ends without a word at one of `silent`."""

    def __init__(self, deadly: str = "", silent: str = ""):
        self.boots: list[list[str]] = []
        self._deadly, self._silent = deadly, silent

    def boot(self, left: Sequence[str], on_event: OnEvent) -> None:
        self.boots.append(list(left))
        for number, job in enumerate(left):
            if job in self._silent:
                return
            on_event({"event": "start", "job": number})
            if job in self._deadly:
                raise EngineError(f"died of {job}", slug="guest-panicked")
            on_event({"event": "arm", "job": number, "result": {"observed": job}})

    def results(self, wanted: str) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []

        def on_event(event: Event, job: str | None) -> None:
            if event["event"] == "arm":
                assert job is not None
                result = event["result"]
                found.append((job, result.get("observed") or result["error"]["slug"]))

        jobs.carry_out(list(wanted), self.boot, on_event)
        return found


def test_a_crash_costs_the_job_under_way_and_the_rest_gets_a_fresh_boot() -> None:
    """Each job has one result, in order; none runs twice."""
    engine = Engine(deadly="bd")
    died = "guest-panicked"
    assert engine.results("abcde") == [("a", "a"), ("b", died), ("c", "c"), ("d", died), ("e", "e")]
    assert engine.boots == [list("abcde"), list("cde"), list("e")]


def test_an_engine_that_ends_without_a_result_is_no_endless_loop() -> None:
    """A boot that carries out nothing costs the job that it should have carried out."""
    assert Engine(silent="b").results("abc") == [("a", "a"), ("b", "lab-ended-early"), ("c", "c")]


def test_a_failure_after_the_last_job_leaves_the_results() -> None:
    """The results stand, and an event says that the engine failed."""

    def boot(left: Sequence[str], on_event: OnEvent) -> None:
        on_event({"event": "arm", "job": 0, "result": {}})
        raise EngineError("it hung")

    events: list[Event] = []
    jobs.carry_out(["a"], boot, lambda event, _: events.append(event))
    assert [event["event"] for event in events] == ["arm", "fault"]


def test_what_is_no_engine_error_ends_it() -> None:
    """A machine that cannot boot is not tried again for each job."""

    def boot(left: Sequence[str], on_event: OnEvent) -> None:
        raise CapabilityError("no lab kernel", slug="no-lab-kernel")

    with pytest.raises(CapabilityError):
        jobs.carry_out(["a", "b"], boot, lambda event, _: None)


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_events_are_read_whatever_the_pieces(size: int) -> None:
    """An event may come in pieces, and several at once."""
    text = b'{"event": "start"}\n{"event": "end"}\n'
    events: list[Event] = []
    reader = EventReader(events.append)
    for first in range(0, len(text), size):
        reader.feed(text[first : first + size])
    assert [event["event"] for event in events] == ["start", "end"]
    assert (reader.ended, reader.garbled) == (True, "")


@pytest.mark.parametrize("line", ["no JSON", "[]", "{}", '{"event": "end"}\n{"event": "arm"}', ""])
def test_a_line_that_is_no_event_is_garbled(line: str) -> None:
    """After it nothing is handed on."""
    events: list[Event] = []
    reader = EventReader(events.append)
    reader.feed(line.encode() + b"\n")
    reader.feed(b'{"event": "late"}\n')
    assert reader.garbled
    assert {"event": "late"} not in events
