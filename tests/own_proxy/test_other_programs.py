"""A squid.conf, an envoy.yaml and a Caddyfile: what is read of them, and what is proposed."""

import pytest
from own_configurations import arms_of, changed, prepared, ran

from twlab.own_proxy.asked import request
from twlab.own_proxy.reading import Place

ENVOY = """\
static_resources:
  listeners:
  - address: {socket_address: {address: 0.0.0.0, port_value: 8080}}
    CHAIN
      filters:
      - typed_config: {"@type": v3.TcpProxy, cluster: 1}
  clusters:
  - name: 1
    load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: ORIGIN}}}]}]}
  - name: unasked
    load_assignment:
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: b.internal, port_value: 81}}}}]}]
"""


def envoy(tmp_path, chain="default_filter_chain:", origin="{address: 10.0.0.5, port_value: 80}"):
    """What is read of an envoy.yaml, and what will be run."""
    return prepared(tmp_path, "envoy.yaml", ENVOY.replace("CHAIN", chain).replace("ORIGIN", origin))[1]


def caddy(tmp_path, text):
    """What is read of a Caddyfile, and what will be run."""
    return prepared(tmp_path, "Caddyfile", text)[1]


def squid(tmp_path, text):
    """What is read of a squid.conf, and what will be run."""
    return prepared(tmp_path, "squid.conf", text)[1]


def names(made):
    return [arm.change.name for arm in made.arms]


def absent(made):
    return [entry.what for entry in made.reading.absent]


@pytest.mark.parametrize("chain", ["default_filter_chain:", "filter_chains:\n    -"])
def test_an_envoy_yaml_is_read_by_each_chain_and_any_name(tmp_path, chain):
    """Also by the chain that is left for the rest; a number is a name; all clusters are served."""
    made = envoy(tmp_path, chain)
    assert [route.origins for route in made.reading.routes] == [(Place("10.0.0.5", 80),)]
    assert set(made.reading.places) == {Place("10.0.0.5", 80), Place("b.internal", 81)}
    assert "address: 10.254.2.1" in changed(made, "source address")


def test_envoys_source_is_of_the_origins_family(tmp_path):
    """It could reach none otherwise."""
    made = envoy(tmp_path, origin='{address: "2001:db8::5", port_value: 80}')
    assert "address: fd00:0:254:2::1" in changed(made, "source address")


@pytest.mark.parametrize(
    ("text", "listener", "host"),
    [
        ("http://app.example.com:8080 {\n reverse_proxy 10.0.0.5:80\n}\n", Place("", 8080), "app.example.com"),
        ("{\n http_port 8080\n}\nhttp://app.example.com {\n reverse_proxy 10.0.0.5:80\n}\n", Place("", 8080),
         "app.example.com"),
        ("*.example.com {\n reverse_proxy 10.0.0.5:80\n}\n", Place("", 443, True), "any.example.com"),
        (":8080 {\n bind localhost\n reverse_proxy 10.0.0.5:80\n}\n", Place("localhost", 8080), "origin.example"),
    ],
)  # fmt: skip
def test_a_caddy_is_asked_over_tls_where_it_has_certificates(tmp_path, text, listener, host):
    """Not where the file says http://, nor at the port of HTTP."""
    (route,) = caddy(tmp_path, text).reading.routes
    assert (route.listener, route.host) == (listener, host)


def test_caddys_forward_auth_is_no_way_to_an_origin(tmp_path):
    """It has to be there, as a port that is asked for health; the answer comes from elsewhere."""
    made = caddy(
        tmp_path,
        ":8080 {\n forward_auth auth.internal:9091 {\n  uri /verify\n }\n"
        " reverse_proxy 10.0.0.5:9000 {\n  health_uri /up\n  health_port 9001\n }\n}\n",
    )
    assert [route.origins for route in made.reading.routes] == [(Place("10.0.0.5", 9000),)]
    assert set(made.reading.places) == {
        *(Place("auth.internal", 9091), Place("10.0.0.5", 9000), Place("10.0.0.5", 9001)),
    }


def test_caddys_http_2_to_an_origin_is_told(tmp_path):
    """The lab's origins do not speak it."""
    assert "HTTP/2 to an upstream" in absent(caddy(tmp_path, ":80 {\n reverse_proxy h2c://10.0.0.5:90\n}\n"))


@pytest.mark.parametrize(
    ("before", "after"), [(" {\n  lb_policy first\n }", " {\n     LB\n  lb_policy first\n }"), ("", " {\n     LB\n }")]
)
def test_caddys_options_go_behind_a_placeholder(tmp_path, before, after):
    """Its braces begin no block."""
    text = ":80 {\n reverse_proxy {$B:10.0.0.5:9}OPTIONS\n}\n"
    made = caddy(tmp_path, text.replace("OPTIONS", before))
    assert changed(made, "lb_try_duration") == text.replace("OPTIONS", after.replace("LB", "lb_try_duration 5s"))


def test_a_change_that_changes_nothing_is_not_proposed(tmp_path):
    """Where reverse_proxy stands in an included file."""
    (tmp_path / "part").write_text("reverse_proxy 10.0.0.5:9\n")
    assert "lb_try_duration" not in names(caddy(tmp_path, ":80 {\n import part\n}\n"))


def test_squids_files_are_made_where_it_needs_them(tmp_path):
    """What it includes, as it does not start without; lists; certificates of listeners and peers."""
    made = squid(
        tmp_path,
        'include /etc/none/site.conf\ninclude /etc/none/*.conf\nacl bad dstdomain "bad.txt"\n'
        "https_port 443 accel defaultsite=www.example:8443 tls-cert=/srv/site.pem\n"
        "cache_peer 10.0.0.5 parent 443 0 originserver tls tls-cafile=/srv/ca.pem ssldomain=app.internal\n",
    )
    assert set(made.reading.files) == {"/etc/none/site.conf", "/etc/none/lab.conf", str(tmp_path / "bad.txt")}
    assert (made.reading.certificates, made.reading.authorities) == ({"/srv/site.pem"}, {"/srv/ca.pem"})
    (route,) = made.reading.routes
    assert (route.host, set(made.names)) == ("www.example:8443", {"www.example"})


def test_squids_lines_are_changed_where_they_end(tmp_path):
    """Behind the line that continues one; a blank line before one stays one."""
    text = (
        "http_port 80 accel\n\ntcp_outgoing_address 192.0.2.7\n"
        "cache_peer 10.0.0.5 parent 80 0 originserver \\\n    name=a  # the first\n"
        "cache_peer 10.0.0.6 parent 80 0 originserver connect-fail-limit=5\n"
    )
    made = squid(tmp_path, text)
    assert changed(made, "no tcp_outgoing_address") == text.replace("tcp_out", "#tcp_out")
    assert changed(made, "connect-fail-limit") == text.replace("name=a", "name=a connect-fail-limit=1000000")


def test_an_origins_certificate_has_the_names_that_are_looked_for(tmp_path):
    """Those of the places, their addresses, and those that the file names; the proxy trusts it."""
    text = (
        "defaults\n    mode http\nlisten app\n    bind :80\n"
        "    server a 10.0.0.5:443 ssl verify required verifyhost a.internal ca-file /srv/ca.pem\n"
        "    server b b.internal:443 ssl verify required sni str(c.internal) ca-file @system-ca\n"
    )
    order, made = prepared(tmp_path, "haproxy.cfg", text)
    asked = request(order, made, "guest")
    assert asked["certificate"] == ["a.internal", "b.internal", "c.internal", "origin.example", "10.0.0.5"]
    assert asked["authorities"] == ["/etc/ssl/certs/ca-certificates.crt", "/srv/ca.pem"]
    assert asked["environment"] == {"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}


VERIFYING = {
    "haproxy.cfg": """\
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen app
    bind :8080
    server a 10.0.0.5:443 ssl verify required ca-file /etc/ssl/certs/ca-certificates.crt
""",
    "Caddyfile": ":8080 {\n    reverse_proxy https://app.internal:8443\n}\n",
    "squid.conf": """\
http_access allow all
cache deny all
http_port 8080 accel defaultsite=www.example.com
cache_peer 10.0.0.5 parent 443 0 no-query originserver tls
""",
}


@pytest.mark.guest
@pytest.mark.slow
@pytest.mark.parametrize("name", VERIFYING)
def test_an_origin_that_is_verified_is_trusted(tmp_path, name):
    """By the file's own authorities, and by the system's."""
    done = ran(
        tmp_path, name, VERIFYING[name], "--no-race", "--no-ceiling", "--duration", "1", "--change", "tcp_tw_reuse=1"
    )
    assert arms_of(done)["as it is"]["load"]["sees"] == {}
