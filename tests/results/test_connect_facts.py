"""Outcomes of connect() in the transcript: read as they were written, from old runs too."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twlab.results.connect_facts import PENDING, ConnectFact, read
from twlab.results.transcript import Transcript

ERRORS = st.sampled_from(["", PENDING, "EADDRNOTAVAIL", "EADDRINUSE", "ECONNREFUSED", "ETIMEDOUT"])
MADE = st.builds(
    ConnectFact,
    error=ERRORS,
    call=st.sampled_from(["connect", "bind"]),
    took_s=st.none() | st.integers(0, 10**9).map(lambda us: us / 1e6),
)


@given(MADE, st.sampled_from([0, 40001]))
def test_a_fact_is_read_as_it_was_written(fact: ConnectFact, port: int) -> None:
    """The entry's details give the fact back; the sentence alone gives the outcome."""
    transcript = Transcript(lambda: 1.0)
    transcript.record("verb", fact.text("server port 80", port), "client", **fact.details())
    entry = transcript.entries[0].as_dict()
    assert read(entry) == fact
    told = read({"at_s": 1.0, "kind": "verb", "text": entry["text"], "node": "client"})
    assert told is not None and told.error == fact.error
    assert told.call == fact.call or not fact.error


# Sentences of runs recorded before the details had the outcome.
OLD = {
    "connects to server port 80 from port 40001": ConnectFact(),
    "connects to server from port 40001": ConnectFact(),
    "connect to server port 80 fails: EADDRNOTAVAIL": ConnectFact("EADDRNOTAVAIL"),
    "connect to server from port 40001 fails: EADDRNOTAVAIL": ConnectFact("EADDRNOTAVAIL"),
    "bind to server port 80 fails: EADDRINUSE": ConnectFact("EADDRINUSE", "bind"),
    "connect to server port 80: no answer yet after 130 s": ConnectFact(PENDING),
    "closes": None,
    "receives 5 of 5 bytes (ECONNRESET)": None,
}


@pytest.mark.parametrize("text", OLD)
def test_old_sentences_are_read(text: str) -> None:
    """The sentences of old runs, with and without the time that some of them had beside."""
    entry = {"at_s": 0.0, "kind": "verb", "text": text, "node": "client"}
    assert read(entry) == OLD[text]
    if known := OLD[text]:
        timed = ConnectFact(known.error, known.call, 0.25)
        assert read({**entry, "details": {"took_s": 0.25}}) == timed
        assert read({**entry, "took_s": 0.25}) == timed


def test_a_step_is_no_connect() -> None:
    """The words of a scenario's author are not counted, and neither are notes."""
    for kind in ("step", "note"):
        assert read({"at_s": 0.0, "kind": kind, "text": "connects to the server 100 times"}) is None
