"""A user's own proxy configuration: what is read of it, what is proposed, and what the lab shows."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from own_configurations import arms_of, changed, prepared, ran

from twlab.errors import CapabilityError, UsageError
from twlab.lab_kernel import is_possible
from twlab.own_proxy.agent import _faults as faults
from twlab.own_proxy.asked import request
from twlab.own_proxy.ceiling import find_ceiling
from twlab.own_proxy.order import AS_IT_IS, Order, prepare
from twlab.own_proxy.outcome import engine_for
from twlab.own_proxy.reading import Place, parse_place
from twlab.proxies import squid
from twlab.settings import Settings

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
CLOSES = "proxy_http_version 1.0;"  # a connection for each request, as nginx has by itself before 1.29.7
SQUID = """\
http_port 3128
http_port 3129 intercept
tcp_outgoing_address 192.0.2.7
server_persistent_connections off
http_access allow all
"""
ENVOY = """\
static_resources:
  listeners:
  - address: { socket_address: { address: 192.0.2.1, port_value: 10000 } }
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          access_log:
          - name: file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: /var/log/envoy/access.log
          route_config:
            virtual_hosts:
            - name: shop
              domains: ["shop.example"]
              routes:
              - match: { prefix: "/api" }
                route: { cluster: app }
          http_filters:
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  - address: { socket_address: { address: "::", port_value: 5432 } }
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: sql
          cluster: sql
  clusters:
  - name: app
    type: STRICT_DNS
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        common_http_protocol_options: { max_requests_per_connection: 1 }
        explicit_http_config: { http_protocol_options: {} }
    load_assignment:
      cluster_name: app
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: app.internal, port_value: 8080 } } }
  - name: sql
    type: STATIC
    upstream_bind_config: { source_address: { address: 192.0.2.9, port_value: 0 } }
    load_assignment:
      cluster_name: sql
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 10.4.4.4, port_value: 5432 } } }
"""
CADDYFILE = """\
shop.example {
    log {
        output file /var/log/caddy/access.log
    }
    handle /api/* {
        reverse_proxy https://api.internal
    }
    reverse_proxy app1.internal:8080 10.1.1.1:8080 {
        fail_duration 10s
        transport http {
            keepalive off
        }
    }
}
:8081 {
    reverse_proxy 127.0.0.1:9000 # the old one
}
"""
CONTAINER = (
    SQUID
    + """\
access_log stdio:/dev/stdout
cache_log /dev/stderr
pid_filename none
cache_peer 192.0.2.20 parent 80 0 no-query originserver
never_direct allow all
"""
)
PART = """\
upstream app { server app.example:3000; server spare.example:3000 backup; }
server {
    listen 8080;
    server_name _;
    location /api/ { proxy_pass http://app; }
}
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


HERE = Place("127.0.0.1", 9000)


@pytest.mark.parametrize(
    ("name", "text", "origins"),
    [
        ("nginx.conf", "events {}\nhttp { server { listen 80; location / {proxy_pass http://0.0.0.0:9000;} } }", HERE),
        ("nginx.conf", "events {}\nstream { upstream u { server [::]:9000; }\nserver { listen 80; proxy_pass u; } }",
         Place("::1", 9000)),
        ("Caddyfile", ":80 {\n    reverse_proxy :9000\n}\n", HERE),
        ("squid.conf", "http_port 80 accel\ncache_peer 0.0.0.0 parent 9000 0 originserver\n", HERE),
        ("envoy.yaml", """
static_resources:
  listeners:
  - address: { socket_address: { address: 0.0.0.0, port_value: 80 } }
    filter_chains:
    - filters:
      - typed_config: { "@type": v3.TcpProxy, cluster: a }
  clusters:
  - name: a
    load_assignment:
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 0.0.0.0, port_value: 9000 } } }
""", HERE),
    ],
    ids=["nginx", "nginx, IPv6", "caddy", "squid", "envoy"],
)  # fmt: skip
def test_an_origin_at_every_address_is_on_the_proxy_itself(tmp_path, name, text, origins):
    """connect() to 0.0.0.0 goes to this machine; only HAProxy takes it for where the client asked."""
    _, made = prepared(tmp_path, name, text)
    assert made.reading.routes[0].origins == (origins,)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("haproxy.cfg", EXHAUSTED + "    source 0.0.0.0 usesrc clientip\n", "source 0.0.0.0 usesrc clientip"),
        ("haproxy.cfg", EXHAUSTED.replace(":80\n", ":80 source 0.0.0.0 usesrc client\n"), "usesrc client"),
        ("nginx.conf", NGINX.replace("proxy_pass", "proxy_bind $remote_addr transparent; proxy_pass", 1),
         "proxy_bind $remote_addr transparent"),
    ],
)  # fmt: skip
def test_a_proxy_that_connects_as_its_client_is_told(tmp_path, name, text, line):
    """Answers reach it by rules of its machine, which no configuration of a proxy has."""
    _, made = prepared(tmp_path, name, text)
    (absent,) = [entry for entry in made.reading.absent if line in entry.what]
    assert "take it out of a copy" in absent.way_round


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("squid.conf", CONTAINER),
        ("nginx.conf", "error_log /dev/stderr;\nhttp { access_log /dev/stdout;\n" + PART + "}\n"),
    ],
)
def test_the_devices_of_a_container_are_left_alone(tmp_path, name, text):
    """They are the lab's own; on the host engine a folder over /dev would hide its /dev/shm."""
    _, made = prepared(tmp_path, name, text)
    asked = made.reading.as_request()
    assert not [path for path in (*asked["outputs"], *asked["logs"]) if "/dev" in path]


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


def test_a_part_of_an_nginx_conf_is_read_and_changed_by_itself(tmp_path):
    """As conf.d and sites-enabled have them, and containers mount them: the lab has what is around it."""
    _, made = prepared(tmp_path, "site.conf", PART)
    (route,) = made.reading.routes
    assert (route.listener.port, route.origins, route.path) == (8080, (Place("app.example", 3000),), "/api/")
    assert set(made.names) == {"app.example", "spare.example"}  # nginx looks both up as it starts
    assert str(tmp_path / "site.conf") in made.reading.files[made.reading.main]
    assert "the nginx.conf around it" in [entry.what for entry in made.reading.absent]
    for name in ("keepalive", "source addresses"):
        assert "http {" not in changed(made, name)
    assert "keepalive 32;" in changed(made, "keepalive")
    with pytest.raises(UsageError, match="no listener") as told:
        prepared(tmp_path, "nginx.conf", "location / { proxy_pass http://app.example; }")
    assert "name that one" in told.value.remedy


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


def test_an_envoy_yaml_is_read(tmp_path):
    """Listeners, hosts, paths and clusters; what is passed on as bytes; logs and sources."""
    _, made = prepared(tmp_path, "envoy.yaml", ENVOY)
    web, sql = made.reading.routes
    assert (web.listener, web.host, web.path, web.origins) == (
        *(Place("192.0.2.1", 10000), "shop.example", "/api", (Place("app.internal", 8080),)),
    )
    assert (sql.listener, sql.mode, sql.origins, sql.sources) == (
        *(Place("::", 5432), "tcp", (Place("10.4.4.4", 5432),), ("192.0.2.9",)),
    )
    assert made.reading.addresses == {"192.0.2.1", "192.0.2.9"}
    assert made.reading.outputs == {"/var/log/envoy/access.log"}
    assert list(made.names) == ["app.internal"]


def test_what_an_envoy_yaml_gets_from_elsewhere_is_told(tmp_path):
    """A management server, discovered endpoints and TLS, by name."""
    elsewhere = ENVOY.replace("type: STATIC", "type: EDS") + "dynamic_resources: {}\n"
    absent = " ".join(entry.what for entry in prepared(tmp_path, "envoy.yaml", elsewhere)[1].reading.absent)
    assert all(word in absent for word in ("dynamic_resources", "cluster sql (EDS)"))


def test_a_caddyfile_is_read_as_caddy_reads_it(tmp_path):
    """TLS by automatic HTTPS, with a certificate in Caddy's storage; hosts and paths."""
    _, made = prepared(tmp_path, "Caddyfile", CADDYFILE)
    api, shop, plain = made.reading.routes
    assert (api.listener, api.path, api.origins) == (Place("", 443, True), "/api/", (Place("api.internal", 443, True),))
    assert (shop.host, shop.origins) == ("shop.example", (Place("app1.internal", 8080), Place("10.1.1.1", 8080)))
    assert (plain.listener, plain.origins) == (Place("", 8081), (Place("127.0.0.1", 9000),))
    assert made.reading.logs == ["/var/log/caddy/access.log"]
    assert [Path(name).name for name in made.reading.private] == [
        f"shop.example.{end}" for end in ("crt", "key", "json")
    ]
    assert "a certificate of shop.example by ACME" in [entry.what for entry in made.reading.absent]


def test_variables_of_the_environment_are_handed_on(tmp_path, monkeypatch):
    """Those that are not set are told by name."""
    monkeypatch.setenv("SITE", "shop.example")
    text = ":8080 {\n    header Site {$SITE}\n    header Other {$OTHER}\n    reverse_proxy 10.1.1.1:80\n}\n"
    reading = prepared(tmp_path, "Caddyfile", text)[1].reading
    assert reading.environment == {"SITE": "shop.example"}
    assert "the variable OTHER" in [entry.what for entry in reading.absent]


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
    assert "persistent for POST" not in [arm.change.name for arm in made.arms]
    _, made = prepared(tmp_path, "squid.conf", SQUID, method="POST")
    assert changed(made, "persistent for POST") == (
        changed(made, "persistent") + "server_pconn_for_nonretriable allow all\n"
    )
    _, made = prepared(tmp_path, "squid.conf", changed(made, "persistent for POST"), method="POST")
    assert "persistent for POST" not in [arm.change.name for arm in made.arms]
    _, made = prepared(tmp_path, "envoy.yaml", ENVOY)
    assert "max_requests_per_connection" not in changed(made, "kept connections")
    assert changed(made, "retry").count("retry_on: connect-failure,reset") == 1
    assert changed(made, "source address").count("upstream_bind_config") == 2
    _, made = prepared(tmp_path, "Caddyfile", CADDYFILE)
    assert changed(made, "keepalive") == CADDYFILE.replace("            keepalive off\n", "")
    assert changed(made, "no fail_duration") == CADDYFILE.replace("        fail_duration 10s\n", "")
    patient = changed(made, "lb_try_duration")
    assert patient.count("lb_try_duration 5s") == 3
    assert "reverse_proxy 127.0.0.1:9000 {\n        lb_try_duration 5s\n    }\n" in patient


def test_theory_and_the_division_of_ports(tmp_path):
    """Ports x destinations / TIME_WAIT at full size; the lab has about 600 ports and as much less."""
    order, made = prepared(tmp_path, "haproxy.cfg", EXHAUSTED)
    assert made.arms[0].theory[0] == pytest.approx(28_232 / 60)
    asked = request(order, made, "guest")
    assert order.divided_by == 47
    assert asked["rate_per_s"] == pytest.approx(500 / 47)
    assert asked["arms"][0]["settings"]["port_high"] == 32_768 + 600 - 1
    _, made = prepared(tmp_path, "squid.conf", SQUID, settings=Settings(tw_reuse=1))
    assert made.arms[0].theory[0] == pytest.approx(28_232 / 60)  # bound first: tcp_tw_reuse does not apply
    _, made = prepared(tmp_path, "squid.conf", SQUID.replace("tcp_outgoing", "#"), settings=Settings(tw_reuse=1))
    assert made.arms[0].theory[0] == pytest.approx(28_232)


def test_an_ordinary_user_is_sent_to_the_guest_engine(monkeypatch):
    """The lab's hosts file cannot lie over one that belongs to root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CapabilityError) as told:
        engine_for("host")
    assert (told.value.slug, "--engine guest" in told.value.remedy) == ("needs-root", is_possible())


@pytest.mark.parametrize(
    ("name", "text", "options", "slug"),
    [
        ("other.conf", "hello", {}, "no-proxy-reader"),
        ("haproxy.cfg", EXHAUSTED, {"program": "relayd"}, "no-proxy-reader"),
        ("envoy.yaml", "static_resources: {", {}, "no-proxy-route"),
        ("Caddyfile", ":80 {\n    no_such_thing\n}\n", {}, "proxy-rejects-configuration"),
        ("haproxy.cfg", "frontend x\n    bind :80\n", {}, "no-proxy-route"),
        ("haproxy.cfg", "listen x\n    bind :80\n    server a *:81 check\n", {}, "no-proxy-route"),
        ("haproxy.cfg", "listen x\n    bind :80\n    server a 0.0.0.0\n", {}, "no-proxy-route"),
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
        .replace("#; proxy_pass 10.2.2.2:5432; }\n}", "#")
        .replace("location / {", f"location / {{ {CLOSES}"),
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
@pytest.mark.parametrize(
    "text",
    [
        # HAProxy does not start where it gets fewer than two files for each connection.
        "global\n    maxconn 100000\n" + EXHAUSTED,
        # Of two addresses of localhost HAProxy takes ::1.
        EXHAUSTED.replace("192.168.77.1:80", "localhost:8003"),
    ],
    ids=["many files", "localhost"],
)
def test_what_busy_proxies_and_sidecars_ask_for_is_there(tmp_path, text):
    """As many open files as systemd lets a service ask for; an origin on the proxy itself."""
    text = text.replace("mode tcp", "mode http")
    arms = arms_of(ran(tmp_path, "haproxy.cfg", text, "--no-race", "--change", "tcp_tw_reuse=1"))
    assert arms[AS_IT_IS]["load"]["sees"] == {}


@pytest.mark.guest
@pytest.mark.slow
def test_a_squid_of_a_container_logs_to_its_output(tmp_path):
    """As another user it opens /dev/stdout; its complaints are found in what it printed."""
    arms = arms_of(ran(tmp_path, "squid.conf", CONTAINER, "--no-race", "--no-ceiling", "--change", "tcp_tw_reuse=1"))
    said = "commBind Cannot bind" if squid.binds_first() else "Connection to 192.0.2.20 failed"
    assert said in arms[AS_IT_IS]["load"]["complaint"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine", [pytest.param("guest", marks=pytest.mark.guest), pytest.param("host", marks=pytest.mark.host)]
)
def test_folders_at_the_top_that_containers_have_are_made_in_the_lab_alone(tmp_path, engine):
    """A certificate in /keystore, a pid file in /: HAProxy finds and writes them; the machine has neither."""
    text = EXHAUSTED.replace("mode tcp", "mode http").replace(":8080", ":8443 ssl crt /keystore/site.pem")
    text = f"global\n    pidfile /haproxy.pid\n{text}"
    done = ran(tmp_path, "haproxy.cfg", text, "--no-race", "--engine", engine, "--change", "tcp_tw_reuse=1")
    assert arms_of(done)[AS_IT_IS]["load"]["sees"] == {}
    assert json.loads(done.stdout)["refused"] == {}
    assert not [place for place in ("/keystore", "/haproxy.pid") if Path(place).exists()]


def test_the_faults_of_a_long_output_are_shown_from_both_ends():
    """HAProxy names the first fault first, Squid the fatal one last; never is it nothing."""
    noise = "[NOTICE]   (23) : path to executable\n2024/01/01 00:00:01| Processing: http_port 3128\n"
    assert faults(noise + "[ALERT] one\n" + "more\n" * 1000 + "FATAL: two").splitlines() == [
        "[ALERT] one", "more", "more", "more", "more", "...", "more", "more", "more", "more", "FATAL: two",
    ]  # fmt: skip
    assert faults("one\ntwo\n") == "one\ntwo"
    assert len(faults("x" * 100_000)) == 500
    assert faults(noise) == "it said nothing"


@pytest.mark.guest
@pytest.mark.slow
def test_a_password_that_a_rule_asks_for_is_told(tmp_path):
    """No client of the lab has one; and where a rule admits some clients, an option is one of them."""
    asks = "http_port 3128\nhttp_access deny all\n"
    done = ran(tmp_path, "squid.conf", asks)
    assert (done.returncode, "--client ADDRESS" in done.stderr) == (2, True)
    (tmp_path / "haproxy").mkdir()
    rule = "    http-request auth\n    default_backend origins\n"
    asks = EXHAUSTED.replace("mode tcp", "mode http").replace("    default_backend origins\n", rule)
    done = ran(tmp_path / "haproxy", "haproxy.cfg", asks)
    assert (done.returncode, "have no password" in done.stderr) == (2, True)


@pytest.mark.guest
@pytest.mark.slow
def test_a_configuration_that_the_program_refuses_is_told_in_its_words(tmp_path):
    """Exit status 2, the program's words, and no result."""
    done = ran(tmp_path, "nginx.conf", NGINX.replace("listen 443 ssl;", "listen 443 ssl; no_such_thing on;"))
    assert done.returncode == 2
    assert "no_such_thing" in done.stderr
    assert "[proxy-rejects-configuration]" in done.stderr


@pytest.mark.guest
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text", "change", "failures"),
    [("envoy.yaml", ENVOY, "kept connections", {"503"}), ("Caddyfile", CADDYFILE, "keepalive", {"502", "503"})],
)
def test_envoy_and_caddy_run_unchanged_and_changed(tmp_path, name, text, change, failures):
    """Without ports they answer with errors; with kept connections they need hardly any."""
    text = text.replace("    handle /api/* {\n        reverse_proxy https://api.internal\n    }\n", "")
    text = text.replace(" 10.1.1.1:8080", "")
    arms = arms_of(ran(tmp_path, name, text, "--change", change, "--no-ceiling"))
    assert set(arms[AS_IT_IS]["load"]["sees"]) <= failures
    assert sum(arms[AS_IT_IS]["load"]["sees"].values()) >= 60
    assert arms[change]["load"]["sees"] == {}
    assert arms[AS_IT_IS]["race"]["GET FIN"]["kept"] is False
    assert arms[change]["race"]["GET FIN"]["kept"] is True


@pytest.mark.guest
@pytest.mark.slow
def test_a_part_of_an_nginx_conf_runs_unchanged_and_changed(tmp_path):
    """As it is it runs out of ports, with kept connections it does not."""
    closes = PART.replace("/api/ {", f"/api/ {{ {CLOSES}")
    arms = arms_of(ran(tmp_path, "nginx.site.conf", closes, "--no-ceiling", "--no-race", "--change", "keepalive"))
    assert arms[AS_IT_IS]["load"]["sees"]["502"] > 0
    assert arms["keepalive"]["load"]["sees"] == {}
    assert arms["keepalive"]["load"]["to_origin"] < 20


@pytest.mark.guest
@pytest.mark.slow
def test_a_squid_that_keeps_its_connections_runs_out_of_ports_by_post(tmp_path):
    """With persistent connections a GET never does, a POST does; the change for POST serves them all,
    and shows its price: a client gets an error where the origin closes at that moment.
    """
    kept = "http_port 3128\nhttp_access allow all\ncache deny all\n"
    options = ("--no-ceiling", "--change", "persistent for POST", "--method", "POST")
    done = ran(tmp_path, "squid.conf", kept, *options)
    arms = arms_of(done)
    assert json.loads(done.stdout)["method"] == "POST"
    first, changed = arms[AS_IT_IS], arms["persistent for POST"]
    assert first["load"]["sees"]["503"] == first["load"]["asked"] - first["load"]["answered"] > 0
    assert not first["race"]["POST FIN"]["kept"]
    assert changed["load"]["sees"] == {}
    assert changed["load"]["to_origin"] < 20
    assert changed["race"]["POST FIN"] == {"kept": True, "sees": "502", "sent": 1}
    asked_by_get = arms_of(ran(tmp_path, "squid.conf", kept, "--no-ceiling", "--no-race", "--change", "wider range"))
    assert asked_by_get[AS_IT_IS]["load"]["sees"] == {}


@pytest.mark.host
@pytest.mark.slow
def test_a_squid_conf_runs_on_this_machine_and_leaves_its_files_alone(tmp_path):
    """Bound first, as by Squid 5, tcp_tw_reuse does not help, on the host engine too; no log appears
    outside.
    """
    logs = Path("/var/log/squid")
    before = sorted(path.stat().st_mtime_ns for path in logs.iterdir()) if logs.is_dir() else []
    done = ran(
        tmp_path, "squid.conf", SQUID, "--engine", "host", "--change", "tcp_tw_reuse=1", "--no-race", "--no-ceiling"
    )
    arms = arms_of(done)
    for name, runs_out in ((AS_IT_IS, True), ("tcp_tw_reuse=1", squid.binds_first())):
        load = arms[name]["load"]
        assert load["sees"].get("503", 0) == load["asked"] - load["answered"]
        assert (load["answered"] < load["asked"]) == runs_out, name
        assert load["answered"] == load["to_origin"], "an answer came from Squid's store"
    assert ("commBind Cannot bind" in arms[AS_IT_IS]["load"]["complaint"]) == squid.binds_first()
    assert (sorted(path.stat().st_mtime_ns for path in logs.iterdir()) if logs.is_dir() else []) == before


def test_orders_say_what_they_mean():
    """Ports, TIME_WAIT and the division follow the settings."""
    order = Order(path=Path("x"), settings=Settings(port_low=1000, port_high=1999, time_wait_s=5))
    assert (order.count, order.hold_s, order.divided_by) == (1000, 5, 1)
    assert replace(order, scale=7).divided_by == 7
