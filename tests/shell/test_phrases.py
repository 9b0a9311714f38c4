"""What is typed at the shell's prompt is understood, or told; and what the Tab key knows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twlab.errors import UsageError
from twlab.segment import Flow
from twlab.shell.phrases import KINDS, WORDS, end, parse
from twlab.shell.prompt import Vocabulary
from twlab.wire.craft import craft

ADDRESSES = {"client": ["10.0.1.1", "fd00:0:0:1::1"], "server": ["10.2.1.1"]}
FORTH = Flow("10.0.1.1", 40_000, "10.2.1.1", 80)


def segment(flags, payload=b"", flow=FORTH, **more):
    return craft(flow=flow, flags=flags, payload=payload, **more)


@pytest.mark.parametrize(
    ("text", "meant", "others"),
    [
        ("", segment("S"), None),
        ("any", segment("R"), None),
        ("data from client", segment("PA", b"x"), segment("A")),
        ("data from client", segment("PA", b"x"), segment("PA", b"x", FORTH.reversed())),
        ("syn", segment("S"), segment("SA")),
        ("synack from server:80", segment("SA", flow=FORTH.reversed()), segment("SA")),
        ("ack to server", segment("A"), segment("A", b"x")),
        ("fin", segment("FA"), segment("A")),
        ("rst to server:80", segment("R"), segment("R", flow=FORTH._replace(destination_port=81))),
        ("flags fa", segment("FA"), segment("F")),
        ("having F", segment("FPA"), segment("PA")),
        ("containing hello", segment("PA", b"say hello"), segment("PA", b"goodbye")),
        ("with-timestamp", segment("A", timestamp=(1, 2)), segment("A")),
        ("data without-timestamp", segment("PA", b"x"), segment("PA", b"x", timestamp=(1, 2))),
        (
            "from client",
            segment("A", flow=Flow("fd00:0:0:1::1", 1, "fd00:0:2:1::1", 2)),
            segment("A", flow=FORTH.reversed()),
        ),
    ],
)
def test_the_segments_that_are_meant(text, meant, others):
    """Kinds, ends, flags and contents, alone and together."""
    match = parse(text, ADDRESSES).match
    assert match(meant)
    assert others is None or not match(others)


def test_numbers():
    """How many, which of them, how much later, behind how many, and where."""
    phrase = parse("data number 2 count all after 2.5 behind 3 at wire2", ADDRESSES)
    assert (phrase.count, phrase.after_s, phrase.behind, phrase.at) == (None, 2.5, 3, "wire2")
    assert [phrase.match(segment("PA", b"x")) for _ in range(3)] == [False, True, False]
    assert parse("data", ADDRESSES).count == 1
    assert parse("data count 4", ADDRESSES, count=None).count == 4


@pytest.mark.parametrize(
    "text",
    [
        *("date", "from", "from moon", "from client:x", "flags QQ", "count -1", "after soon", "number 1.5", "number"),
        *("count 0", "number 0", "behind 0", "from client:0", "to server:0"),
    ],
)
def test_what_is_not_understood_is_told(text):
    """One message, with what there is."""
    with pytest.raises(UsageError) as caught:
        parse(text, ADDRESSES)
    assert caught.value.slug == "bad-phrase"
    assert caught.value.remedy


@given(st.lists(st.sampled_from([*KINDS, *WORDS, "client", "server:80", "2", "FA", "x"]), max_size=6))
def test_never_anything_else_than_a_phrase_or_a_message(words):
    """For any typed text."""
    try:
        parse(" ".join(words), ADDRESSES)
    except UsageError as error:
        assert error.slug == "bad-phrase"


def test_an_end_is_a_node_and_perhaps_a_port():
    """``client`` and ``client:40000``."""
    assert end("client", ADDRESSES) == ("client", None)
    assert end("client:40000", ADDRESSES) == ("client", 40000)


def test_completion():
    """The first word, a word after a verb that has its own, a word after any other, and a key that
    wants its value.
    """
    known = Vocabulary(["hold", "help", "client"], {"": ["client", "server"], "settings": ["all", "time_wait_s="]})
    assert known.complete("h", "h") == ["help ", "hold "]
    assert known.complete("", "hold ") == ["client ", "server "]
    assert known.complete("t", "settings all t") == ["time_wait_s="]
    assert known.complete("x", "hold x") == []
