"""What is run beside a configuration, and by which way it is asked."""

from pathlib import Path

import pytest
from own_configurations import arms_of, changed, prepared, ran

from twlab.errors import UsageError
from twlab.own_proxy.asked import request
from twlab.own_proxy.order import Order, prepare
from twlab.own_proxy.outcome import run
from twlab.own_proxy.reading import Place, asked_host

LISTEN = """\
defaults
    mode {mode}
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen pg
    bind {bind}
    server s1 {server}
"""


def haproxy(*, mode="tcp", bind="*:8080", server="10.0.0.21:5432", more=""):
    return LISTEN.format(mode=mode, bind=bind, server=server) + more


NGINX = "events {}\nhttp { server { listen LISTEN; location / { proxy_pass http://ORIGIN; } } }\n"


def nginx(listen="8080", origin="10.0.0.5:9000"):
    return NGINX.replace("LISTEN", listen).replace("ORIGIN", origin)


def after(tmp_path, text):
    (tmp_path / "after.cfg").write_text(text)
    return tmp_path / "after.cfg"


def test_a_changed_configuration_is_read_too(tmp_path):
    """Its origins, sources and names are in the lab; its theory is that of its own origins."""
    other = haproxy(more="    server s2 second.example:5432\n    source 192.0.2.8\n    bind 192.0.2.9:81\n")
    order, made = prepared(tmp_path, "haproxy.cfg", haproxy(), after=after(tmp_path, other))
    first, changed_one = made.arms[0], made.arms[-1]
    assert changed_one.theory == [pytest.approx(2 * first.theory[0])]
    asked = request(order, made, "guest")
    assert [(place["host"], place["port"]) for place in asked["places"]] == [
        *(("10.0.0.21", 5432), ("second.example", 5432)),
    ]
    assert asked["addresses"] == ["192.0.2.8", "192.0.2.9"]
    assert list(asked["names"]) == ["second.example"]
    arm = asked["arms"][-1]
    assert (arm["name"], arm["text"], arm["folder"]) == ("after.cfg", None, str(tmp_path))
    assert arm["arguments"][-1] == str(tmp_path / "after.cfg")
    assert [place["host"] for place in arm["routes"][0]["origins"]] == ["10.0.0.21", "second.example"]


def test_a_changed_configuration_is_asked_as_the_first_is(tmp_path):
    """By a listener on the same port: without one there is nothing to compare."""
    with pytest.raises(UsageError, match="no listener on port 8080") as told:
        prepared(tmp_path, "haproxy.cfg", haproxy(), after=after(tmp_path, haproxy(bind="*:8081")))
    assert told.value.slug == "no-proxy-route"


@pytest.mark.guest
@pytest.mark.slow
def test_a_changed_configuration_has_its_own_origins_and_sources(tmp_path):
    """One more server, and a source of its own: every request is answered."""
    other = after(tmp_path, haproxy(more="    server s2 10.0.0.22:5432\n    source 192.0.2.8\n"))
    done = ran(tmp_path, "haproxy.cfg", haproxy(), "--after", str(other), "--change", "after.cfg",
               "--no-race", "--no-ceiling", "--duration", "1")  # fmt: skip
    arms = arms_of(done)
    assert arms["after.cfg"]["load"]["sees"] == {}
    assert arms["after.cfg"]["theory_per_s"] == pytest.approx(2 * arms["as it is"]["theory_per_s"])


@pytest.mark.guest
@pytest.mark.slow
def test_a_page_of_the_proxys_own_is_no_way_through(tmp_path):
    """Checks of the origin's health reach it all the same; another path leads there."""
    page = "    http-request return status 200 content-type text/plain string ok if { path / }\n"
    text = haproxy(mode="http", server="10.0.0.21:80 check inter 100ms", more=page)
    done = ran(tmp_path, "haproxy.cfg", text, "--no-race", "--no-ceiling", "--change", "tcp_tw_reuse=1")
    assert (done.returncode, "200, which the proxy answered itself" in done.stderr) == (2, True)
    done = ran(tmp_path, "haproxy.cfg", text, "--no-race", "--no-ceiling", "--duration", "1",
               "--change", "tcp_tw_reuse=1", "--path", "/app")  # fmt: skip
    assert arms_of(done)["as it is"]["load"]["sees"] == {}


@pytest.mark.parametrize(
    ("name", "text", "change", "source"),
    [
        ("haproxy.cfg", haproxy(server="[2001:db8::21]:80"), "named ports", "source [fd00:0:254:2::1]:10000-"),
        ("nginx.conf", nginx(origin="[2001:db8::5]:9000"), "source addresses", "25% fd00:0:254:2::1"),
    ],
)
def test_sources_are_of_the_origins_family(tmp_path, name, text, change, source):
    """IPv6 where the origins are; none is proposed where they are of both."""
    _, made = prepared(tmp_path, name, text)
    assert source in changed(made, change)
    both = {"haproxy.cfg": haproxy(server="[2001:db8::21]:80", more="    server s2 10.0.0.21:80\n")}
    both["nginx.conf"] = nginx(origin="u").replace(
        "server {", "upstream u { server [2001:db8::5]:9000; server 10.0.0.5:9000; }\nserver {", 1
    )
    _, made = prepared(tmp_path, name, both[name])
    assert change not in [arm.change.name for arm in made.arms]


def test_theory_counts_the_sources_of_the_origins_family(tmp_path):
    """A forward proxy with a source of each family, and an origin of one."""
    text = "http_port 3128\nhttp_access allow all\ntcp_outgoing_address 192.0.2.7\n"
    theories = [
        prepared(tmp_path, "squid.conf", f"{text}{more}")[1].arms[0].theory
        for more in ("", "tcp_outgoing_address 2001:db8::7\n")
    ]
    assert theories[0] == theories[1]


def test_theory_without_sources_is_that_of_one(tmp_path):
    """Where the change takes both of them out."""
    text = "http_port 3128\ntcp_outgoing_address 192.0.2.7\ntcp_outgoing_address 192.0.2.8\n"
    theory = {arm.change.name: arm.theory[0] for arm in prepared(tmp_path, "squid.conf", text)[1].arms}
    assert theory["as it is"] == pytest.approx(2 * theory["no tcp_outgoing_address"])


@pytest.mark.parametrize(
    ("listen", "client", "reached"),
    [("8080", "2001:db8::5", False), ("[::]:8080", "192.0.2.5", False), ("[::]:8080", "2001:db8::5", True)],
)
def test_a_client_is_of_the_listeners_family(tmp_path, listen, client, reached):
    """It could not connect otherwise."""
    if reached:
        (route,) = prepared(tmp_path, "nginx.conf", nginx(listen), client=client)[1].reading.routes
        assert route.listener == Place("::", 8080)
        return
    with pytest.raises(UsageError, match=f"--client {client} cannot reach") as told:
        prepared(tmp_path, "nginx.conf", nginx(listen), client=client)
    assert told.value.slug == "bad-origin"


def test_a_host_that_cannot_be_asked_for_is_told(tmp_path):
    """Before a lab is started."""
    with pytest.raises(UsageError, match=r"--host \.example\.com"):
        prepared(tmp_path, "nginx.conf", nginx(), host=".example.com")


@pytest.mark.parametrize(
    ("pattern", "host"),
    [
        (".example.com", "any.example.com"),
        ("*.example.com", "any.example.com"),
        ("www.*", "www.example"),
        ("www.example.com:8080", "www.example.com:8080"),
        (r"~^(www\.)?(.+)$", "origin.example"),
        ("*", "origin.example"),
    ],
)
def test_a_pattern_of_names_has_a_host_that_it_matches(pattern, host):
    """One that TLS can name."""
    assert asked_host(pattern) == host


@pytest.mark.parametrize("name", ["haproxy.cfg", "nginx.conf"])
def test_the_proxys_own_listeners_are_no_origins(tmp_path, name):
    """Where it leads to itself, the lab leaves the place to it; all other places are served."""
    chained = {
        "haproxy.cfg": haproxy(
            server="127.0.0.1:81",
            more="listen inner\n    bind 127.0.0.1:81\n    server s 10.0.0.9:80\n"
            "frontend stats\n    bind *:8404\nbackend own\n    server s 127.0.0.1:8404\n",
        ),
        "nginx.conf": nginx(origin="127.0.0.1:81").replace(
            "{ server", "{ server { listen 127.0.0.1:81; location / { proxy_pass http://10.0.0.9:80; } } server"
        ),
    }
    order, made = prepared(tmp_path, name, chained[name])
    assert [place["host"] for place in request(order, made, "guest")["places"]] == ["10.0.0.9"]


def test_what_a_link_includes_lies_beside_the_link(tmp_path):
    """As nginx sees it, which is given the link's name."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "real.conf").write_text("events {}\nhttp { include conf.d/*.conf; }\n")
    (tmp_path / "etc" / "conf.d").mkdir()
    (tmp_path / "etc" / "conf.d" / "app.conf").write_text(
        "server { listen 8080; location / { proxy_pass http://10.0.0.5:9000; } }\n"
    )
    link = tmp_path / "etc" / "nginx.conf"
    link.symlink_to("../real.conf")

    made = prepare(Order(path=link))
    assert made.reading.routes[0].origins == (Place("10.0.0.5", 9000),)
    assert made.reading.file == str(Path(link))


class Stopped:
    """An engine that its user stops."""

    name = "guest"

    def run(self, request, folder, on_event, limit_s):
        """Leave the guest's console, as engines do, and stop."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "console.log").write_text("boot\n")
        raise KeyboardInterrupt


def test_a_run_that_is_stopped_before_its_first_result_leaves_no_folder(tmp_path):
    """As its message says."""
    order, made = prepared(tmp_path, "haproxy.cfg", haproxy())
    with pytest.raises(KeyboardInterrupt):
        run(order, made, Stopped(), tmp_path / "runs", lambda _: None)
    assert list((tmp_path / "runs").iterdir()) == []
