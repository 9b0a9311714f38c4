"""A haproxy.cfg: what is read of it, and what is proposed."""

import pytest
from own_configurations import changed, prepared

from twlab.own_proxy.reading import Place

HEAD = """\
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend www
    bind *:8080
    default_backend app
"""
ONE = Place("10.0.0.21", 80)


def read(tmp_path, text):
    """What is read of a haproxy.cfg."""
    return prepared(tmp_path, "haproxy.cfg", text)[1].reading


def absent(reading):
    return [entry.what for entry in reading.absent]


@pytest.mark.parametrize(
    ("backend", "origins", "sources"),
    [
        ("default-server ssl verify none check\n server s 10.0.0.21:443", {Place("10.0.0.21", 443, True)}, ()),
        ("default-server ssl\n server s 10.0.0.21:80 no-ssl", {ONE}, ()),
        ("default-server source 10.9.9.9\n server s 10.0.0.21:80", {ONE}, ("10.9.9.9",)),
        ("server-template web 1-3 app.example:8080 check", {Place("app.example", 8080)}, ()),
        ("server s 10.0.0.21:80 source 192.0.2.7:20000-20999", {ONE}, ("192.0.2.7",)),
        ("source 192.0.2.7:0\n server s 10.0.0.21:80", {ONE}, ("192.0.2.7",)),
        ("server s 2001:db8::21:80", {Place("2001:db8::21", 80)}, ()),
        ("server s [2001:db8::21]:80 source [2001:db8::7]:1024-2047", {Place("2001:db8::21", 80)}, ("2001:db8::7",)),
        ("server s 10.0.0.21", {Place("10.0.0.21", 8080)}, ()),
    ],
)
def test_servers_have_the_words_of_their_section(tmp_path, backend, origins, sources):
    """default-server, source, templates and ranges of ports; the port follows the last colon."""
    route = read(tmp_path, f"{HEAD}backend app\n {backend}\n").routes[0]
    assert (set(route.origins), route.sources) == (origins, sources)


def test_defaults_are_inherited_by_name_and_order(tmp_path):
    """A section has the named ones, else the last before it; each begins with HAProxy's own mode."""
    text = HEAD.replace("defaults", "defaults web\n    source 10.9.9.9\n    default-server source 10.9.9.8")
    text = text.replace("frontend", "defaults raw\n    timeout connect 5s\nfrontend")
    bytes_only = read(tmp_path, f"{text}backend app\n    server s 10.0.0.21:80\n").routes[0]
    assert (bytes_only.mode, bytes_only.sources) == ("tcp", ())
    named = text.replace("frontend www", "frontend www from web")
    for backend, source in (("", "10.9.9.8"), ("\n    default-server source 10.9.9.7", "10.9.9.7")):
        route = read(tmp_path, f"{named}backend app from web{backend}\n    server s 10.0.0.21:80\n").routes[0]
        assert (route.mode, route.sources) == ("http", (source,))


def test_variables_have_the_values_of_the_file(tmp_path, monkeypatch):
    """Set there, or there as a default; what is set nowhere is told."""
    monkeypatch.setenv("OTHER", "10.0.0.99")
    text = "global\n    setenv A 10.0.0.21\n    presetenv B 10.0.0.22\n    presetenv OTHER 10.0.0.23\n" + HEAD
    servers = "".join(f'    server s{name} "${{{name}}}:80"\n' for name in ("A", "B", "OTHER", "C-10.0.0.24", "NONE"))
    reading = read(tmp_path, f"{text}backend app\n{servers}")
    assert [origin.host for origin in reading.routes[0].origins] == [
        *("10.0.0.21", "10.0.0.22", "10.0.0.99", "10.0.0.24"),
    ]
    assert reading.environment == {"OTHER": "10.0.0.99"}
    assert "the variable NONE" in absent(reading)


def test_files_lie_where_the_bases_and_the_file_say(tmp_path):
    """crt-base, ca-base; what is relative lies beside the file, and is made there if it is missing."""
    text = "global\n    crt-base /srv/crt\n    ca-base /srv/ca\n" + HEAD.replace(
        "*:8080", "*:8080 ssl crt site.pem ca-file clients.pem crt /abs/dir/\n    acl bad src -f blocked.lst"
    )
    reading = read(tmp_path, text + "backend app\n    server s 10.0.0.21:80\n")
    assert reading.certificates == {"/srv/crt/site.pem", "/abs/dir/site.pem"}
    assert reading.authorities == {"/srv/ca/clients.pem"}
    assert reading.files == {str(tmp_path / "blocked.lst"): ""}


def test_a_range_of_ports_is_listened_at(tmp_path):
    """Each port is a listener, and so is a name of this machine, with an address of the proxy's."""
    text = HEAD.replace("*:8080", "*:8000-8002,here:81,:::82,[::]:83").replace("[::]:83", "[::]:83 v6only")
    _, made = prepared(tmp_path, "haproxy.cfg", text + "backend app\n    server s 10.0.0.21:80\n")
    assert [(route.listener.host, route.listener.port) for route in made.reading.routes] == [
        *(("", 8000), ("", 8001), ("", 8002), ("here", 81), ("::", 82), ("::", 83)),
    ]
    assert made.reading.addresses == {made.names["here"]}


def test_every_name_that_haproxy_looks_up_has_an_address(tmp_path):
    """Those of logs, peers and servers that no rule leads to; servers are all served."""
    text = (
        "global\n    log rsyslog:514 local0\n    log stdout format raw local0\n"
        + HEAD
        + "backend app\n    server s 10.0.0.21:80\n    server spare spare.example:80 backup\n"
        + "backend blog\n    server b blog.internal\n"
        + "peers lbs\n    peer lb2 lb2.internal:10000\n"
    )
    _, made = prepared(tmp_path, "haproxy.cfg", text)
    assert set(made.names) == {"rsyslog", "spare.example", "blog.internal", "lb2.internal"}
    assert set(made.reading.places) == {ONE, Place("blog.internal", 80)}


@pytest.mark.parametrize(
    ("lines", "server", "told"),
    [
        ("option redis-check", "check", "option redis-check at backend app"),
        ("option tcp-check\n tcp-check expect string +PONG", "check", "tcp-check expect at backend app"),
        ("http-check expect string UP", "check", "http-check expect string UP at backend app"),
        ("http-check expect status 204", "check", "http-check expect status 204 at backend app"),
        ("http-check expect status 200-399", "check", ""),
        ("http-check expect ! string down", "check", ""),
        ("http-check expect rstatus ^2", "check", ""),
        ("http-check expect rstring (?", "check", "http-check expect rstring (? at backend app"),
        ("option redis-check", "", ""),
        ("option redis-check\n default-server check", "no-check", ""),
        ("option httpchk GET /health", "check", ""),
        ("", "proto h2", "HTTP/2 to server s 10.0.0.21:80"),
        ("", "send-proxy-v2", "send-proxy-v2 to server s 10.0.0.21:80"),
        ("", "ssl verify none send-proxy", "send-proxy before TLS to server s 10.0.0.21:80"),
        ("", "send-proxy", ""),
    ],
)
def test_what_the_origins_of_the_lab_do_not_speak_is_told(tmp_path, lines, server, told):
    """Checks that would take a server down, HTTP/2, and the second PROXY protocol."""
    text = f"{HEAD}backend app\n {lines}\n server s 10.0.0.21:80 {server}\n"
    assert absent(read(tmp_path, text)) == ([told] if told else [])


def test_a_listener_that_asks_for_certificates_is_told(tmp_path):
    """The lab's clients have none."""
    bind = "*:8080 ssl crt site.pem ca-file ca.pem verify required"
    text = HEAD.replace("*:8080", bind) + "backend app\n    server s 10.0.0.21:80\n"
    assert "a client's certificate at bind *:8080" in absent(read(tmp_path, text))
    assert "a client's certificate at bind *:8080" not in absent(read(tmp_path, text.replace("required", "optional")))


@pytest.mark.parametrize(
    ("condition", "asked"),
    [
        ("{ hdr_end(host) -i .example.com }", ("any.example.com", "/")),
        ("{ hdr(host) -i www.example.com:8080 }", ("www.example.com:8080", "/")),
        ("{ path -m beg /api }", ("origin.example", "/api")),
        ("{ path_beg -f paths.lst }", ("origin.example", "/")),
    ],
)
def test_a_condition_is_fulfilled_by_what_is_asked(tmp_path, condition, asked):
    """A name for a domain; the path behind the options."""
    text = HEAD.replace("default_backend app", f"use_backend app if {condition}")
    route = read(tmp_path, text + "backend app\n    server s 10.0.0.21:80\n").routes[0]
    assert (route.host, route.path) == asked


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    http-reuse never\n    server s 10.0.0.21:80\n", "    server s 10.0.0.21:80\n"),
        ("    server s 10.0.0.21:80\n", "    server s 10.0.0.21:80\n"),
    ],
)
def test_connections_are_shared_in_the_backend_of_the_route_alone(tmp_path, before, after):
    """Not in one whose name begins alike; what the section says otherwise is replaced."""
    other = "backend app-v2\n    http-reuse safe\n    server s 10.0.0.31:80\n"
    _, made = prepared(tmp_path, "haproxy.cfg", f"{HEAD}{other}backend app\n{before}")
    assert changed(made, "http-reuse always") == f"{HEAD}{other}backend app\n    http-reuse always\n{after}"
    _, made = prepared(tmp_path, "haproxy.cfg", HEAD.replace("mode http", "mode http\n    http-reuse always") + (
        "backend app\n    server s 10.0.0.21:80\n"
    ))  # fmt: skip
    assert "http-reuse always" not in [arm.change.name for arm in made.arms]
