"""A user's own proxy configuration: what is read of it, what is proposed, and what the lab shows."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from twlab.errors import CapabilityError, UsageError
from twlab.own_proxy.ceiling import find_ceiling
from twlab.own_proxy.order import AS_IT_IS, Order, prepare, request
from twlab.own_proxy.reading import Place, parse_place
from twlab.settings import Settings
from twlab.traffic.program import find

HAPROXY = """\
global
    user www-data2
    chroot /var/lib/haproxy
    lua-load /etc/haproxy/none.lua
defaults
    mode http
frontend web
    bind 192.0.2.1:80,192.0.2.2:80
    bind :443 ssl crt /etc/haproxy/certs/
    acl api path_beg /api
    use_backend api if api
    default_backend app
backend app
    server a app1.example:8080 check
    server b 10.9.8.7:8080 source 192.0.2.9
    server c 10.9.8.8:8080 disabled
    server d /run/app.sock
backend api
    server a 10.9.8.9:9000 # the old one
"""
NGINX = """\
user nobody2;
events {}
http {
    include none.types;
    upstream app { server app1.example:3000; server 10.1.1.1:3000; server unix:/run/app.sock; }
    server { listen 80; return 301 https://$host$request_uri; }
    server {
        listen 443 ssl;
        server_name shop.example www.shop.example;
        ssl_certificate /etc/none/cert.pem;
        ssl_certificate_key /etc/none/key.pem;
        location / { proxy_pass http://app; }
        location ~ ^/api/v[0-9]+ { proxy_pass https://api.example; proxy_bind 192.0.2.3; }
        location /php { fastcgi_pass 127.0.0.1:9000; }
        location /dynamic { set $upstream app1.example; proxy_pass http://$upstream; }
    }
}
stream {
    server { listen 5432; proxy_pass 10.2.2.2:5432; }
}
"""
SQUID = """\
http_port 3128
http_port 3129 intercept
tcp_outgoing_address 192.0.2.7
server_persistent_connections off
http_access allow all
"""
EXHAUSTED = """\
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend clients
    bind :8080
    default_backend origins
backend origins
    server origin 192.168.77.1:80
"""


def prepared(tmp_path, name, text, **options):
    """The file, read; with what will be run."""
    path = tmp_path / name
    path.write_text(text)
    order = Order(path=path, **options)
    return order, prepare(order)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("80", Place("", 80)),
        (":80", Place("", 80)),
        ("*:80", Place("", 80)),
        ("192.0.2.1:80", Place("192.0.2.1", 80)),
        ("[2001:db8::1]:80", Place("2001:db8::1", 80)),
        ("[::]:80", Place("", 80)),
        ("2001:db8::1:80", Place("2001:db8::1:80", 8080)),
        ("app.example", Place("app.example", 8080)),
        ("app.example:x", None),
        ("app.example:70000", None),
    ],
)
def test_a_place_is_an_address_and_a_port(text, place):
    """As HAProxy, nginx and Squid write them; 8080 where none is given."""
    assert parse_place(text, 8080) == place


def test_a_haproxy_cfg_is_read(tmp_path):
    """Routes with the default first, addresses, names, users; what is absent by name."""
    _, made = prepared(tmp_path, "haproxy.cfg", HAPROXY)
    reading = made.reading
    first = reading.routes[0]
    assert first.name == "frontend web, backend app"
    assert [route.listener for route in reading.routes[:3]] == [
        Place("192.0.2.1", 80),
        Place("192.0.2.2", 80),
        Place("", 443, True),
    ]
    assert first.origins == (Place("app1.example", 8080), Place("10.9.8.7", 8080))
    assert [(route.path, route.origins) for route in reading.routes[3:4]] == [("/api", (Place("10.9.8.9", 9000),))]
    assert reading.addresses == {"192.0.2.1", "192.0.2.2", "192.0.2.9"}
    assert reading.users == {"www-data2"}
    assert reading.folders >= {"/var/lib/haproxy", "/etc/haproxy/certs"}
    absent = " ".join(f"{entry.what} {entry.way_round}" for entry in reading.absent)
    assert all(word in absent for word in ("none.lua", "/run/app.sock", "app1.example", "site.pem"))
    assert list(made.names) == ["app1.example"]


def test_an_nginx_conf_is_read_with_what_it_includes(tmp_path):
    """Host, path and TLS of each location; a missing include is made; other passes are told."""
    _, made = prepared(tmp_path, "nginx.conf", NGINX)
    reading = made.reading
    assert [(route.listener, route.host, route.path, route.origins) for route in reading.routes] == [
        (Place("", 443, True), "shop.example", "/", (Place("app1.example", 3000), Place("10.1.1.1", 3000))),
        (Place("", 443, True), "shop.example", "/api/v", (Place("api.example", 443, True),)),
        (Place("", 5432), "origin.example", "/", (Place("10.2.2.2", 5432),)),
    ]
    assert reading.routes[1].sources == ("192.0.2.3",)
    assert reading.users == {"nobody2"}
    assert set(reading.certificates) == {"/etc/none/cert.pem", "/etc/none/key.pem"}
    absent = " ".join(entry.what for entry in reading.absent)
    assert all(word in absent for word in ("none.types", "fastcgi_pass", "$upstream", "unix:", "/etc/none/key.pem"))


def test_a_squid_conf_is_read(tmp_path):
    """A forward proxy is asked for a whole URL; with peers it is asked for a page of theirs."""
    _, made = prepared(tmp_path, "squid.conf", SQUID)
    (route,) = made.reading.routes
    assert (route.listener.port, route.absolute, route.sources) == (3128, True, ("192.0.2.7",))
    assert "origin.example" in made.names
    accel = "http_port 80 accel defaultsite=www.example\ncache_peer 10.1.2.3 parent 8080 0 originserver\n"
    _, made = prepared(tmp_path, "squid.conf", accel)
    (route,) = made.reading.routes
    assert (route.host, route.absolute, route.origins) == ("www.example", False, (Place("10.1.2.3", 8080),))


def changed(made, name):
    return next(change.text for change, _, _ in made.arms if change.name == name)


def test_changes_change_what_they_say_and_nothing_else(tmp_path):
    """Each proposed configuration, beside the one that was given."""
    _, made = prepared(tmp_path, "haproxy.cfg", EXHAUSTED)
    assert "server origin 192.168.77.1:80 source 10.254.2.1:10000-10599" in changed(made, "named ports")
    assert changed(made, "mode http") == EXHAUSTED.replace("mode tcp", "mode http")
    _, made = prepared(tmp_path, "haproxy.cfg", HAPROXY)
    assert changed(made, "named ports").count(" source 10.254.2.1:") == 3
    assert changed(made, "http-reuse always") == HAPROXY.replace(
        "backend app\n", "backend app\n    http-reuse always\n"
    ).replace("default_backend app\n    http-reuse always\n", "default_backend app\n")
    _, made = prepared(tmp_path, "nginx.conf", NGINX)
    kept = changed(made, "keepalive")
    assert "keepalive 32;" in kept
    assert "proxy_http_version 1.1;" in kept
    assert changed(made, "max_fails=0").count("max_fails=0") == 3
    _, made = prepared(tmp_path, "squid.conf", SQUID)
    assert "server_persistent_connections on" in changed(made, "persistent")
    assert "#tcp_outgoing_address 192.0.2.7" in changed(made, "no tcp_outgoing_address")


def test_theory_and_the_division_of_ports(tmp_path):
    """Ports x destinations / TIME_WAIT at full size; the lab has about 600 ports and as much less."""
    order, made = prepared(tmp_path, "haproxy.cfg", EXHAUSTED)
    assert made.arms[0][2][0] == pytest.approx(28_232 / 60)
    asked = request(order, made, "guest")
    assert order.divided_by == 47
    assert asked["rate_per_s"] == pytest.approx(500 / 47)
    assert asked["arms"][0]["settings"]["port_high"] == 32_768 + 600 - 1
    _, made = prepared(tmp_path, "squid.conf", SQUID, settings=Settings(tw_reuse=1))
    assert made.arms[0][2][0] == pytest.approx(28_232 / 60)  # bound first: tcp_tw_reuse does not apply
    _, made = prepared(tmp_path, "squid.conf", SQUID.replace("tcp_outgoing", "#"), settings=Settings(tw_reuse=1))
    assert made.arms[0][2][0] == pytest.approx(28_232)


@pytest.mark.parametrize(
    ("name", "text", "options", "slug"),
    [
        ("other.conf", "hello", {}, "no-proxy-reader"),
        ("haproxy.cfg", EXHAUSTED, {"program": "envoy"}, "no-proxy-reader"),
        ("haproxy.cfg", "frontend x\n    bind :80\n", {}, "no-proxy-route"),
        ("haproxy.cfg", EXHAUSTED, {"listen": 81}, "no-proxy-route"),
        ("haproxy.cfg", EXHAUSTED, {"origins": {"a": "b"}}, "bad-origin"),
        ("haproxy.cfg", EXHAUSTED, {"only": ("keepalive",)}, "no-such-change"),
        ("haproxy.cfg", EXHAUSTED, {"after": Path("/none")}, "no-configuration"),
    ],
)
def test_what_cannot_be_run_is_told(tmp_path, name, text, options, slug):
    """Before a lab is started."""
    with pytest.raises(UsageError) as told:
        prepared(tmp_path, name, text, **options)
    assert told.value.slug == slug
    assert told.value.remedy


def test_a_file_that_is_not_there_is_told(tmp_path):
    """By its name."""
    with pytest.raises(UsageError, match=r"none\.cfg cannot be read"):
        prepare(Order(path=tmp_path / "none.cfg"))


@pytest.mark.parametrize(
    ("edge", "most", "found"),
    [(470, 2000, (451, 489)), (300, 2000, (235, 470)), (700, 2000, (685, 717)), (5000, 900, (900, None))],
)
def test_a_ceiling_is_found_near_theory_and_far_from_it(edge, most, found):
    """Two loads where theory holds; a few more where it does not; none above what was asked."""
    ceiling = find_ceiling(lambda rate, _: rate > edge, theory_per_s=470, most_per_s=most, duration_s=1)
    low, high = found
    assert ceiling["sustained_per_s"] <= edge
    assert (ceiling["failing_per_s"] or 1e9) > edge
    assert ceiling["sustained_per_s"] >= low * 0.9
    assert (ceiling["failing_per_s"] is None) is (high is None)
    assert all(rate <= most for rate, _ in ceiling["trials"])


def ran(tmp_path, name, text, *options):
    """``twlab proxy`` of a file, as JSON; skipped where the program is not installed."""
    try:
        find(name.partition(".")[0])
    except CapabilityError as error:
        pytest.skip(error.message)
    (tmp_path / name).write_text(text)
    small = ["--set", "time_wait_s=2", "--ports", "40000-40059", "--rate", "50", "--duration", "4"]
    command = [sys.executable, "-m", "twlab", "proxy", name, *small, "--out", "runs", "--json", *options]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)


def arms_of(done):
    """The arms by name, from what it printed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return {arm["name"]: arm for arm in json.loads(done.stdout)["arms"]}


@pytest.mark.guest
@pytest.mark.slow
def test_a_haproxy_cfg_runs_unchanged_and_changed(tmp_path):
    """30 connections a second of 50; named ports and mode http serve them all; the result and the
    changed file are kept.
    """
    done = ran(
        tmp_path,
        "haproxy.cfg",
        EXHAUSTED,
        "--change",
        "named ports",
        "--change",
        "mode http",
        "--change",
        "tcp_tw_reuse=1",
    )
    arms = arms_of(done)
    first = arms[AS_IT_IS]
    assert first["load"]["sees"] == {"closed": pytest.approx(80, abs=12)}
    assert "no free ports" in first["load"]["complaint"] or first["load"]["complaints"] == 0
    assert first["ceiling"]["sustained_per_s"] < 30.1 < first["ceiling"]["failing_per_s"]
    assert all(arms[name]["load"]["sees"] == {} for name in ("named ports", "mode http", "tcp_tw_reuse=1"))
    assert arms["mode http"]["load"]["in_time_wait"]["proxy"] == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert {path.name for path in folder.iterdir()} >= {
        "proxy.json",
        "named-ports.haproxy.cfg",
        "mode-http.haproxy.cfg",
    }


@pytest.mark.guest
@pytest.mark.slow
def test_an_nginx_conf_with_tls_names_users_and_missing_files_runs(tmp_path):
    """All of it is made in the lab; what was made is told; two servers become an outage."""
    done = ran(
        tmp_path,
        "nginx.conf",
        NGINX.replace("stream {", "#")
        .replace("server { listen 5432", "#")
        .replace("#; proxy_pass 10.2.2.2:5432; }\n}", "#"),
        "--change",
        "keepalive",
        "--no-ceiling",
        "--rate",
        "100",
    )
    arms = arms_of(done)
    about = json.loads(done.stdout)
    assert about["route"]["listener"]["tls"]
    assert "user or group nobody2" in [entry["what"] for entry in about["absent"]]
    assert set(arms[AS_IT_IS]["load"]["sees"]) == {"502"}
    assert arms["keepalive"]["load"]["sees"] == {}
    assert arms[AS_IT_IS]["race"]["GET FIN"]["kept"] is False
    assert arms["keepalive"]["race"]["GET FIN"]["kept"] is True


@pytest.mark.guest
@pytest.mark.slow
def test_a_configuration_that_the_program_refuses_is_told_in_its_words(tmp_path):
    """Exit status 2, the program's words, and no result."""
    done = ran(tmp_path, "nginx.conf", NGINX.replace("listen 443 ssl;", "listen 443 ssl; no_such_thing on;"))
    assert done.returncode == 2
    assert "no_such_thing" in done.stderr
    assert "[proxy-rejects-configuration]" in done.stderr


@pytest.mark.host
@pytest.mark.slow
def test_a_squid_conf_runs_on_this_machine_and_leaves_its_files_alone(tmp_path):
    """Bound first, tcp_tw_reuse does not help, on the host engine too; no log appears outside."""
    logs = Path("/var/log/squid")
    before = sorted(path.stat().st_mtime_ns for path in logs.iterdir()) if logs.is_dir() else []
    done = ran(
        tmp_path, "squid.conf", SQUID, "--engine", "host", "--change", "tcp_tw_reuse=1", "--no-race", "--no-ceiling"
    )
    arms = arms_of(done)
    for load in (arms[name]["load"] for name in (AS_IT_IS, "tcp_tw_reuse=1")):
        assert load["sees"]["503"] == load["asked"] - load["answered"] > 0
        assert load["answered"] == load["to_origin"], "an answer came from Squid's store"
    assert "commBind Cannot bind" in arms[AS_IT_IS]["load"]["complaint"]
    assert (sorted(path.stat().st_mtime_ns for path in logs.iterdir()) if logs.is_dir() else []) == before


def test_orders_say_what_they_mean():
    """Ports, TIME_WAIT and the division follow the settings."""
    order = Order(path=Path("x"), settings=Settings(port_low=1000, port_high=1999, time_wait_s=5))
    assert (order.count, order.hold_s, order.divided_by) == (1000, 5, 1)
    assert replace(order, scale=7).divided_by == 7
