"""What the server refuses: forged, replayed, huge, too many, from elsewhere."""

import socket

import pytest
from visiting import Visitor, make_site

from twlab.web import server
from twlab.web.guard import MOST_BODY, POLICY, Rate, Secret

RUN = "/scenario/stale-data/run"


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path)


@pytest.fixture
def visitor(site):
    return Visitor(site[1])


@pytest.mark.parametrize("path", ["/", "/scenario/stale-data", "/how-low", "/proxy", "/class", "/static/web.js", "/no"])
def test_every_answer_has_the_policy(visitor, path):
    """Scripts and styles are the server's own files; nothing in markup is executed, on no page."""
    answer = visitor.get(path)
    assert answer.headers["content-security-policy"] == POLICY and "unsafe" not in POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    for inline in ("<style", " style=", " onclick=", "<script>", "javascript:", "http://", "https://"):
        assert path.startswith("/static") or inline not in answer.text.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_a_form_without_a_token_is_refused(site, visitor):
    """And one with another visitor's token, or one of last week: nothing is queued."""
    other = Visitor(site[1])
    visitor.token()
    for token in ("", "1.2", other.token(), "9" * 13 + ".0", "é.é"):
        answer = visitor.client.post(RUN, data={"token": token, "arm": "treatment"})
        assert answer.status_code == 403
    assert site[0].runs.waiting == 0
    assert visitor.client.post(RUN, data={"token": visitor.token(), "arm": "treatment"}).status_code == 303


def test_no_connection_waits_for_acknowledgements():
    """Nagle would hold the body of a page until its head is acknowledged: 40 ms each."""
    with server.bind(server.Served(port=0)) as at, socket.create_connection(at.getsockname()):
        accepted, _ = at.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_token_is_old_after_a_day(tmp_path, monkeypatch):
    """It holds for twelve hours, for one visitor."""
    secret = Secret(tmp_path / "secret")
    token = secret.token("one")
    assert secret.allows(token, "one") and not secret.allows(token, "two")
    made = int(token.split(".")[0])
    monkeypatch.setattr("twlab.loop.wall_s", lambda: made + 13 * 3600.0)
    assert not secret.allows(token, "one")
    assert (tmp_path / "secret").stat().st_mode & 0o077 == 0


def test_a_forged_cookie_is_no_visitor(site, visitor):
    """The server gives another; predictions of the one that was forged stay its own."""
    first = visitor.get("/").cookies["twlab"]
    assert "set-cookie" not in visitor.get("/").headers
    for forged in ("x", first[:-1] + ("0" if first[-1] != "0" else "1"), f"{'0' * 32}.{'0' * 32}", '"; a=b'):
        stranger = Visitor(site[1])
        given = stranger.get("/", headers={"cookie": f"twlab={forged}"}).cookies["twlab"]
        assert given not in (first, forged)
    assert "HttpOnly" in Visitor(site[1]).get("/").headers["set-cookie"]


@pytest.mark.parametrize("other", ['prefs={"a":1}', "x=a b", "a[0]=1", "foo", ";", "twlab2=x", 'q="; "'])
def test_cookies_of_other_programs_change_nothing(visitor, other):
    """They are sent to every port of a host, in any form."""
    mine = visitor.get("/").cookies["twlab"]
    stranger = visitor.client
    stranger.cookies.clear()
    for cookie in (f"{other}; twlab={mine}", f"twlab={mine}; {other}"):
        assert "set-cookie" not in stranger.get("/", headers={"cookie": cookie}).headers


@pytest.mark.parametrize("there", ["", "0" * 63])
def test_half_a_secret_is_none(tmp_path, there):
    """As a full disk leaves it, or a kill: another one is made, whole, and stays."""
    path = tmp_path / "secret"
    path.write_text(there)
    made = Secret(path).sign("x")
    assert len(path.read_text()) == 64 and path.stat().st_mode & 0o077 == 0
    assert Secret(path).sign("x") == made and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": "application/json"}, 415),
    ],
)
def test_forms_of_other_sites_and_kinds_are_refused(visitor, headers, status):
    """By the name under which the server is asked, where the form comes from, and what it is."""
    token = visitor.token()
    base = {"content-type": "application/x-www-form-urlencoded"}
    answer = visitor.client.post(RUN, content=f"token={token}&arm=treatment", headers={**base, **headers})
    assert answer.status_code == status


def test_huge_forms_are_refused(visitor):
    """Too many bytes, announced or not, and too many fields; the server goes on."""
    token = visitor.token()
    kind = {"content-type": "application/x-www-form-urlencoded"}
    bodies = [b"a" * (MOST_BODY + 1), b"&".join(b"a%d=1" % number for number in range(200)), b"\xff\xfe"]
    for body in bodies:
        assert visitor.client.post(RUN, content=body, headers=kind).status_code == 413

    def trickle():
        for _ in range(40):
            yield b"a" * 1024

    assert visitor.client.post(RUN, content=trickle(), headers=kind).status_code == 413
    long = visitor.client.post("/proxy/diagnose", data={"token": token, "text": "x" * (9 << 20)})
    assert long.status_code == 413 and "at most" in long.text
    assert visitor.get("/").status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(visitor, method):
    """GET and POST are all that there is."""
    assert visitor.client.request(method, "/").status_code == 405


def test_one_address_can_not_ask_without_end(tmp_path):
    """Requests and forms have their limits; after a while some are allowed again."""
    _, application = make_site(tmp_path, rate=Rate(0.001, 5))
    visitor = Visitor(application)
    assert [visitor.get("/").status_code for _ in range(7)] == [200] * 5 + [429] * 2
    rate = Rate(1e9, 1)
    assert rate.allows("a") and rate.allows("a")


@pytest.mark.parametrize(
    "path",
    [
        "/run/../../etc/passwd",
        "/run/%2e%2e%2fserve.sqlite",
        "/run/0123456789abcdef0123",
        "/run/0123456789abcdef0123/treatment.pcapng",
        "/run/x/events.pcapng",
        "/scenario/..%2f..%2fx",
        "/scenario/mine.py",
        "/scenario/<script>",
        "/static/../secret",
        "/beside/a/b",
        "/class/'; drop table classes",
    ],
)
def test_what_is_not_there_is_said_so(visitor, path):
    """No path, no file and no name from a browser reaches the machine."""
    answer = visitor.get(path)
    assert answer.status_code == 404
    assert "<script>alert" not in answer.text and "<script>" not in answer.text


def test_code_and_shell_in_a_form_are_values_out_of_range(site, visitor):
    """Each field is a number in its bounds or one of the choices that there are."""
    bad = [
        {"set.time_wait_s": "__import__('os')"},
        {"set.time_wait_s": "1;reboot"},
        {"set.time_wait_s": "nan"},
        {"set.time_wait_s": "1e999"},
        {"set.time_wait_s": "-1"},
        {"set.timestamps": "1.5"},
        {"set.firewall": "$(id)"},
        {"set.congestion_control": "bbr"},
        {"set.server:time_wait_s": "1"},
        {"set.family": "6"},
        {"arm": "../x"},
        {"arm": "<b>"},
        {"seed": "0x10"},
        {"seed": "99999999999"},
        {"fact.foreign_bytes": "inf"},
        {"fact.reopened": "<script>"},
    ]
    token = visitor.token()
    for fields in bad:
        answer = visitor.client.post(RUN, data={"token": token, "arm": "treatment", **fields})
        assert answer.status_code == 400, fields
        assert "That cannot be" in answer.text and "<b>" not in answer.text and "<script>" not in answer.text
    assert site[0].runs.waiting == 0
