"""The atlas: the files of its programs, recorded evidence, and programs in the lab kernel."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from twlab.atlas import driver, postgres, trace, words
from twlab.atlas.columns import COLUMNS, _runs
from twlab.atlas.endings import Ending, endings
from twlab.atlas.origin import whole
from twlab.atlas.page import page
from twlab.atlas.programs import chosen, missing, subjects
from twlab.atlas.subject import Place, Subject
from twlab.atlas.table import as_csv, chosen_columns, differences
from twlab.atlas.versions import first_version
from twlab.errors import UsageError
from twlab.proxies.squid import binds_first
from twlab.segment import Segment

EVERY = subjects()
NAMED, UNNAMED = Place(source="10.3.2.9", own="10.3.2.7"), Place(own="10.3.2.7")


def text(subject: Subject, place: Place) -> str:
    """Everything that a program is given."""
    return "\n".join([*subject.arguments(place), *subject.files(place).values()])


@pytest.mark.parametrize("name", EVERY)
def test_a_program_is_told_what_it_needs(name: str) -> None:
    """It is sent to the origin, and names a source address where it can, and only when told to."""
    subject = EVERY[name]
    told = subject.speaks in ("forward", "socks")  # where to, by each visitor
    assert (UNNAMED.origin in text(subject, UNNAMED)) != told
    if subject.source:
        assert NAMED.source in text(subject, NAMED)
    assert NAMED.source not in text(subject, UNNAMED)


@pytest.mark.parametrize("name", EVERY)
def test_a_program_is_brought_by_the_set_up_or_by_pip(name: str) -> None:
    """Its package is one of setup/packages.txt, where a server is also kept from running."""
    package = EVERY[name].package
    listed = {line.split("|")[0].strip() for line in (ROOT / "setup" / "packages.txt").read_text().splitlines()}
    assert package in listed or package.startswith("pip install ")


def test_a_program_is_found_by_the_first_part_of_its_name() -> None:
    """``nginx`` means its three; a wrong name gets a suggestion."""
    assert [each.name for each in chosen(["nginx", "curl"])] == [
        *("nginx-one", "nginx-two", "nginx-two-max-fails-0", "nginx-keepalive", "curl", "curl-local-port")
    ]
    assert list(EVERY.values()) == chosen([])
    with pytest.raises(UsageError, match="did you mean 'nginx-two'"):
        chosen(["nginx-tow"])
    with pytest.raises(UsageError, match="did you mean 'short'"):
        chosen_columns(["shot"])


def test_a_program_that_is_missing_is_told_with_its_package() -> None:
    """The message names the program, the remedy the package."""
    lack = missing(replace(EVERY["varnish"], program="varnish-of-tomorrow"))
    assert lack and lack.slug == "no-program"
    assert "varnish-of-tomorrow" in lack.message
    assert "apt-get install varnish" in lack.remedy and "setup/install.sh atlas" in lack.remedy
    lack = missing(replace(EVERY["requests"], needs=("requests_of_tomorrow",)))
    assert lack and lack.remedy == "pip install requests"


# As strace 6.1 writes it: nginx with proxy_bind; two of Caddy's threads, interleaved.
NGINX = (ROOT / "tests" / "data" / "atlas" / "nginx.trace").read_text()
THREADS = (ROOT / "tests" / "data" / "atlas" / "threads.trace").read_text()


def test_calls_are_read_from_a_trace() -> None:
    """What came before each connect(), and which calls failed for want of a port."""
    assert trace.before_connect(NGINX, "10.2.1.1:80") == ["NO_PORT bind(10.3.2.1:0)"]
    assert trace.failures(NGINX) == ["bind EADDRINUSE"]
    assert trace.before_connect(THREADS, "10.2.1.1:80") == ["nothing"]
    assert trace.failures(THREADS) == ["connect EADDRNOTAVAIL"]
    assert trace.before_connect(NGINX, "10.2.1.1:81") == []
    listener = NGINX.replace("sin_port=htons(0)", "sin_port=htons(8080)")
    assert trace.failures(listener) == []


def test_a_second_connect_on_a_socket_is_no_other_connection() -> None:
    """Some programs call connect() again to see whether it is done."""
    again = NGINX + NGINX.splitlines()[3] + "\n" + NGINX.splitlines()[3] + "\n"
    assert trace.before_connect(again, "10.2.1.1:80")[1:] == ["REUSEADDR bind(10.3.2.1:0) EADDRINUSE"]


def test_the_port_of_a_visitor_is_told_as_such() -> None:
    """It is drawn, so that its number would differ from run to run; other ports stay."""
    bound = NGINX.replace("sin_port=htons(0)", "sin_port=htons(47422)")
    assert trace.before_connect(bound, "10.2.1.1:80", [47_422]) == ["NO_PORT bind(10.3.2.1:VISITORS)"]
    assert trace.before_connect(bound, "10.2.1.1:80", [47_424]) == ["NO_PORT bind(10.3.2.1:47422)"]


def segment(flags: str, at_s: float, *, port: int = 40_000, back: bool = False) -> Segment:
    """One between a program and port 80 of the origin."""
    ends = ("10.2.1.1", 80, "10.3.2.1", port) if back else ("10.3.2.1", port, "10.2.1.1", 80)
    made = Segment.__new__(Segment)
    for name, value in zip(
        ("source", "source_port", "destination", "destination_port", "flags", "at_s"), (*ends, flags, at_s), strict=True
    ):
        object.__setattr__(made, name, value)
    return made


def test_endings_are_read_from_segments() -> None:
    """Who sent FIN or RST first, how the other end answered, and a port that is used twice."""
    opening = [segment("S", 0), segment("SA", 0, back=True), segment("A", 0)]
    assert endings(opening, 80) == [Ending()]
    assert endings([*opening, segment("FA", 2), segment("FA", 3, back=True)], 80) == [
        Ending("program", "FIN", "FIN", 2)
    ]
    reset = endings([*opening, segment("FA", 2, back=True), segment("RA", 3)], 80)
    assert [each.words() for each in reset] == ["origin FIN, program RST"]
    twice = endings([*opening, segment("RA", 2), *opening, segment("FA", 5, back=True)], 80)
    assert [each.words() for each in twice] == ["program RST", "origin FIN"]


@pytest.mark.parametrize(
    ("unread", "length"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", 0),
        (b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcGET", 41),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", 0),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", 59),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", 0),
    ],
)
def test_a_request_is_whole_with_its_body(unread: bytes, length: int) -> None:
    """The origin answers when all of it is there, and not before."""
    assert whole(unread) == length


def test_answers_of_postgresql_are_read() -> None:
    """A server that is ready, one that refuses, and a message that is not whole yet."""
    ready = b"R\0\0\0\x08\0\0\0\0" + b"Z\0\0\0\x05I"
    assert postgres.outcome(ready) == "200"
    assert postgres.outcome(ready[:-1]) == ""
    said = b"SFATAL\0VFATAL\0C08P01\0Mserver login has been failing\0\0"
    refusal = b"E" + (len(said) + 4).to_bytes(4, "big") + said
    assert postgres.outcome(refusal) == "error 08P01"
    assert postgres.outcome(refusal[:-1]) == ""


def test_facts_are_told_in_words() -> None:
    """Each column's words say what its facts do."""
    assert _runs(["200", "200", "503", "200"]) == "200 x2, 503 x1, 200 x1"
    lasting = {"answered": 10, "asked": 30, "sees": "200 x10, 502 x20", "calls": {"connect EADDRNOTAVAIL": 2}}
    assert words.cell("short", {**lasting, "says": "", "back_after_s": 7.4}).endswith("says nothing; back after 7 s")
    assert words.cell("short", {**lasting, "says": "", "back_after_s": 0.2}).endswith("back after 0.2 s")
    assert words.cell("short", {**lasting, "says": "", "back_after_s": None}).endswith("never back")
    assert words.cell("short", {"answered": 30, "asked": 30}) == "30 of 30"
    retried, lost = {"answer": "200", "sent": 2, "met": True}, {"answer": "502", "sent": 1, "met": True}
    own = {"answer": "200", "sent": 1, "met": False}
    race = {"get_fin": retried, "get_rst": lost, "post_fin": own, "post_rst": own}
    assert words.cell("race", race) == "GET FIN 200 (sent 2 times), RST 502; POST own connection"
    assert words.cell("idle", {"s": 0.0, "by": "origin FIN"}) == "not kept"
    unseen = {"as_it_comes": None, "as_it_comes_ports": "connect"}
    assert words.cell("bind", unseen) == "ports as connect chooses them (no system calls seen)"
    assert first_version("HAProxy version 2.6.12-1+deb12u3 2025/01/02") == "2.6.12-1"


def test_the_files_have_every_row() -> None:
    """CSV and Markdown; and two tables are compared cell by cell."""
    row: dict[str, Any] = {**dict.fromkeys((column.name for column in COLUMNS), "x | y"), "role": "client"}
    row |= {"name": "curl", "version": "7", "package": "curl", "alone": "twlab atlas curl --only COLUMN", "error": ""}
    assert as_csv([row], COLUMNS).count("x | y") == len(COLUMNS)
    made = {"command": "twlab atlas curl", "engine": "guest", "kernel": "7.3.4 x", "rows": [row]}
    assert page(made).splitlines()[-1].count("x or y") == len(COLUMNS)
    assert differences({"rows": [row]}, {"rows": [row]}) == []
    assert differences({"rows": [row]}, {"rows": [{**row, "race": "z"}]}) == ["curl race: x | y, z"]


def measured(name: str, *columns: str, engine: str = "guest") -> dict[str, Any]:
    """The facts of some columns of a program, by column."""
    cells: list[dict[str, Any]] = []
    driver.carry_out({"subject": name, "columns": columns, "seed": 1, "engine": engine}, cells.append)
    assert [cell.get("error") for cell in cells] == [None] * len(columns)
    return {cell["column"]: cell["facts"] for cell in cells}


@pytest.mark.guest
def test_one_server_of_nginx_is_never_down_and_two_are() -> None:
    """The same shortage: two server lines are given up after one failure each, and stay away."""
    one, two = measured("nginx-one", "short")["short"], measured("nginx-two", "short")["short"]
    assert one["sees"] == two["sees"] == "200 x10, 502 x20"
    assert (one["calls"], one["back_after_s"]) == ({"connect EADDRNOTAVAIL": 20}, 0.0)
    assert (two["calls"], two["back_after_s"] > 5) == ({"connect EADDRNOTAVAIL": 2}, True)


@pytest.mark.guest
def test_squid_binds_first_before_version_6_and_has_a_connection_for_each_post() -> None:
    """So tcp_tw_reuse does not help the older one where a source address is named; version 6 asks for
    the port in connect().
    """
    found = measured("squid", "bind", "reuse", "both")
    bind = "bind(10.3.2.1:0)", "bind or named", {"bind EADDRINUSE"}
    source, ports, errors = bind if binds_first() else ("NO_PORT bind(10.3.2.1:0)", "connect", set())
    assert (found["bind"]["as_it_comes"], found["bind"]["source"]) == ("nothing", source)
    assert (found["bind"]["seen_by"], found["bind"]["source_ports"]) == ("system calls", ports)
    assert (found["reuse"]["get"], found["reuse"]["post"]) == (1, 4)
    assert set(found["both"]["calls"]) == errors


@pytest.mark.guest
def test_nginx_sends_a_get_again_and_not_a_post() -> None:
    """A kept connection that ends while a request is under way."""
    race = measured("nginx-keepalive", "race")["race"]
    assert race["get_fin"] == race["get_rst"] == {"answer": "200", "sent": 2, "met": True}
    assert race["post_fin"] == race["post_rst"] == {"answer": "502", "sent": 1, "met": True}


@pytest.mark.guest
def test_pgbouncer_waits_for_its_login_to_be_tried_again() -> None:
    """Without a pool it closes first, and two failed connects keep queries out for seconds."""
    found = measured("pgbouncer-once", "close", "short")
    assert (found["close"]["keeps"], found["close"]["closes"]) == ("program FIN", "origin FIN")
    assert found["short"]["answered"] == 10
    assert found["short"]["calls"]["connect EADDRNOTAVAIL"] < 5
    assert found["short"]["back_after_s"] > 2


@pytest.mark.guest
def test_curl_asks_for_its_port_at_connect() -> None:
    """It names an address without taking a port, and closes first."""
    found = measured("curl", "bind", "close")
    assert "NO_PORT bind(10.3.2.1:0)" in found["bind"]["source"]
    assert found["close"] == {"keeps": "program FIN", "says": "program FIN", "closes": "origin FIN"}


@pytest.mark.host
def test_the_host_shows_the_same() -> None:
    """The facts of a cell are the same in real time."""
    found = measured("nginx-one", "bind", "short", engine="host")
    assert (found["bind"]["as_it_comes"], found["bind"]["source"]) == ("nothing", "NO_PORT bind(10.3.2.1:0)")
    assert found["short"]["sees"] == "200 x10, 502 x20"


@pytest.mark.guest
def test_the_command_writes_its_table(tmp_path: Path) -> None:
    """One cell: printed as JSON, and kept in three files."""
    words = [sys.executable, "-m", "twlab", "atlas", "microsocks", "--only", "bind", "--out", str(tmp_path), "--json"]
    made = json.loads(subprocess.run(words, check=True, capture_output=True, text=True, cwd=tmp_path).stdout)
    assert made["rows"][0]["bind"] == "nothing; source: bind(10.3.2.1:0)"
    assert made["rows"][0]["commands"] == {"bind": "twlab atlas microsocks --only bind"}
    assert json.loads((tmp_path / "atlas.json").read_text()) == made
    assert sorted(path.name for path in tmp_path.iterdir()) == ["atlas.csv", "atlas.json", "atlas.md"]
