"""An nginx.conf: what is read of it, and what is proposed."""

import pytest
from own_configurations import changed, prepared

from twlab.errors import UsageError
from twlab.own_proxy.nginx import NGINX
from twlab.own_proxy.reading import Place

APP = Place("10.0.0.5", 9000)
SPLIT, CHOSEN = "split_clients $remote_port $ip { 50% 10.9.9.1; * 10.9.9.2; }", ("10.9.9.1", "10.9.9.2")
UPSTREAM = "upstream app { server 10.0.0.5:9000; }"


def made_of(tmp_path, http):
    """What is read of an nginx.conf with `http` in its block, and what will be run."""
    return prepared(tmp_path, "nginx.conf", f"events {{}}\nhttp {{ {http} }}\n")[1]


def names(made):
    return [arm.change.name for arm in made.arms]


def flat(text):
    """Its directives, with one space between words."""
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("http", "origins", "sources"),
    [
        (f"{UPSTREAM} server {{ location / {{ proxy_pass http://app$request_uri; }} }}", {APP}, ()),
        ("server { location / { proxy_pass http://10.0.0.5:9000$uri; } }", {APP}, ()),
        (f"proxy_bind 10.9.9.9; {UPSTREAM} server {{ location / {{ proxy_pass http://app; }} }}", {APP}, ("10.9.9.9",)),
        (
            f"proxy_bind 10.9.9.9; {UPSTREAM} server {{ location / {{ proxy_pass http://app; proxy_bind off; }} }}",
            *({APP}, ()),
        ),
        (f"{SPLIT} {UPSTREAM} server {{ location / {{ proxy_pass http://app; proxy_bind $ip; }} }}", {APP}, CHOSEN),
    ],
)
def test_a_location_leads_to_origins_from_sources(tmp_path, http, origins, sources):
    """A variable of the request's URI ends a target; proxy_bind is inherited, and may be chosen."""
    reading = made_of(tmp_path, http).reading
    assert (set(reading.routes[0].origins), reading.routes[0].sources) == (origins, sources)
    assert reading.addresses >= set(sources)


@pytest.mark.parametrize(
    "http", ["server { location / { proxy_pass http://app.example$request_uri; } }", "server { location / "]
)
def test_what_leads_nowhere_is_told(tmp_path, http):
    """A name that is looked up at each request; a file that crossplane cannot read to its end."""
    with pytest.raises(UsageError, match=r"proxy_pass http://app\.example|unexpected end of file"):
        made_of(tmp_path, http)


@pytest.mark.parametrize("http", ["upstream app; server { location / { proxy_pass http://app; } }",
                                  "server { location /; location /a { proxy_pass http://app; } }"])  # fmt: skip
def test_a_block_that_is_missing_is_nginxs_to_tell(tmp_path, http):
    """The reader passes over it."""
    assert made_of(tmp_path, http).reading.routes


def test_a_variable_target_of_a_stream_is_no_name(tmp_path):
    """It is told; the next server is a route."""
    text = "events {}\nstream { map $x $pool { default 10.0.0.5:8443; }\nserver { listen 1; proxy_pass $pool; }\n"
    text += "server { listen 2; proxy_pass 10.0.0.7:80; proxy_ssl on; } }\n"
    _, made = prepared(tmp_path, "nginx.conf", text)
    assert [route.origins for route in made.reading.routes] == [(Place("10.0.0.7", 80, True),)]
    assert (made.names, "proxy_pass $pool" in [entry.what for entry in made.reading.absent]) == ({}, True)


def test_every_name_that_nginx_looks_up_has_an_address(tmp_path):
    """Of FastCGI, of logs and of servers that are not used; places that no route takes are served, too."""
    http = (
        "access_log syslog:server=rsyslog:514; upstream php { server 10.0.0.9:9000; server spare.example backup; }"
        "server { location / { proxy_pass http://10.0.0.5:9000; auth_request /auth; }"
        "location /auth { proxy_pass http://auth.internal:9091/verify; }"
        "location /a { fastcgi_pass php; } location /b { fastcgi_pass fpm:9000; }"
        "location /c { grpc_pass grpc://rpc.internal:50051; } location /d { uwsgi_pass unix:/run/x.sock; } }"
    )
    made = made_of(tmp_path, http)
    assert set(made.names) == {"rsyslog", "spare.example", "auth.internal", "fpm", "rpc.internal"}
    assert set(made.reading.places) == {APP, Place("auth.internal", 9091)}


@pytest.mark.parametrize(
    ("name", "host"),
    [(".example.com", "any.example.com"), ("*.example.com", "any.example.com"), ("_", "origin.example")],
)
def test_a_pattern_of_server_names_is_asked_by_one_of_them(tmp_path, name, host):
    """A leading dot could not be asked for over TLS."""
    made = made_of(tmp_path, f"server {{ server_name {name}; location / {{ proxy_pass http://10.0.0.5; }} }}")
    assert made.reading.routes[0].host == host


@pytest.mark.parametrize(
    ("listen", "host"), [("[::]:8080", "::"), ("[::]:8080 ipv6only=off", ""), ("localhost:8080", "localhost")]
)
def test_a_listener_is_of_a_family(tmp_path, listen, host):
    """nginx takes IPv4 at [::] only where it is told to; a name is one of the machine's."""
    made = made_of(tmp_path, f"server {{ listen {listen}; location / {{ proxy_pass http://10.0.0.5; }} }}")
    assert made.reading.routes[0].listener == Place(host, 8080)


def test_connections_are_kept_with_the_headers_that_were_sent(tmp_path):
    """A location that has headers inherits none; one that upgrades, or leads elsewhere, is left alone."""
    http = (
        "upstream app { server 10.0.0.5:9000; keepalive 8; } upstream other { server 10.0.0.6:9000; }"
        "server { proxy_set_header Host $host; proxy_set_header Connection close;"
        "location / { proxy_pass http://app; }"
        "location /ws { proxy_set_header Upgrade $u; proxy_set_header Connection $c; proxy_pass http://app; }"
        "location /other { proxy_pass http://other; } }"
    )
    text = flat(changed(made_of(tmp_path, http), "keepalive"))
    assert (
        "location / { proxy_pass http://app; proxy_set_header Host $host; "
        "proxy_http_version 1.1; proxy_set_header Connection ''; }" in text
    )
    assert "location /ws { proxy_set_header Upgrade $u; proxy_set_header Connection $c; proxy_pass" in text
    assert "upstream other { server 10.0.0.6:9000; }" in text
    assert "location /other { proxy_pass http://other; }" in text


@pytest.mark.parametrize(
    ("target", "before", "stated"),
    [
        ("http://10.0.0.5:9000", "", "proxy_set_header Host 10.0.0.5:9000;"),
        ("https://app.internal:9000", "", "proxy_set_header Host app.internal:9000; proxy_ssl_name app.internal;"),
        ("http://10.0.0.5:9000", "proxy_set_header Host $host; ", "proxy_set_header Host $host;"),
    ],
)
def test_a_target_that_becomes_a_group_is_named_as_before(tmp_path, target, before, stated):
    """nginx would send the group's name to the origin, and look for it in the certificate."""
    text = flat(changed(made_of(tmp_path, f"server {{ location / {{ {before}proxy_pass {target}; }} }}"), "keepalive"))
    scheme, _, place = target.partition("://")
    assert f"upstream twlab_0 {{ server {place}; keepalive 32; }}" in text
    assert (
        f"location / {{ proxy_pass {scheme}://twlab_0; {stated} "
        "proxy_http_version 1.1; proxy_set_header Connection ''; }" in text
    )


def test_connections_that_are_kept_already_are_left_alone(tmp_path):
    """With keepalive, HTTP/1.1 and an empty Connection header, also where they are inherited."""
    http = (
        "proxy_http_version 1.1; upstream app { server 10.0.0.5:9000; keepalive 8; }"
        'server { proxy_set_header Connection ""; location / { proxy_pass http://app; } }'
    )
    assert "keepalive" not in names(made_of(tmp_path, http))
    assert "keepalive" in names(made_of(tmp_path, http.replace("proxy_http_version 1.1;", "")))
    assert "keepalive" in names(made_of(tmp_path, http.replace("keepalive 8;", "")))


def test_what_stands_in_an_if_is_changed_around_it(tmp_path):
    """nginx allows neither headers nor proxy_bind there."""
    http = (
        "upstream blue { server 10.0.0.5:9000; } server { location / {"
        'if ($cookie_beta = "1") { proxy_pass http://blue; } proxy_pass http://blue; } }'
    )
    made = made_of(tmp_path, http)
    for name, once in (("keepalive", "proxy_http_version 1.1;"), ("source addresses", "proxy_bind $twlab_source;")):
        text = flat(changed(made, name))
        assert "{ proxy_pass http://blue; } proxy_pass http://blue;" in text
        assert text.count(once) == 1


def test_only_the_routes_group_and_locations_are_changed(tmp_path):
    """Servers that say otherwise about max_fails, too; a location with a source of its own has it."""
    http = (
        "upstream app { server 10.0.0.5:9000 max_fails=3; server 10.0.0.6:9000; }"
        "upstream other { server 10.0.0.7:9000; server 10.0.0.8:9000; }"
        "server { location / { proxy_pass http://app; }"
        "location /pay { proxy_bind 10.9.9.9; proxy_pass http://other; } }"
    )
    made = made_of(tmp_path, http)
    text = flat(changed(made, "max_fails=0"))
    assert "server 10.0.0.5:9000 max_fails=0; server 10.0.0.6:9000 max_fails=0;" in text
    assert "server 10.0.0.7:9000; server 10.0.0.8:9000;" in text
    text = flat(changed(made, "source addresses"))
    assert "location /pay { proxy_bind 10.9.9.9; proxy_pass http://other; }" in text
    assert text.count("proxy_bind $twlab_source;") == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("worker_processes 1; daemon off;\n", True),
        ("daemon on;\n", True),
        ("# daemon off;\n", False),
        ("worker_processes 1;\n", False),
    ],
)
def test_it_is_kept_in_the_foreground_unless_the_file_says(text, told):
    """nginx refuses to be told twice."""
    assert (NGINX.run(text)[-1] == "{file}") == told
