"""How the server is started: its address, its folder, and the time that a request's head has."""

import os
import socket
import threading
import time

import pytest
import uvicorn
from visiting import Visitor, make_site

from twlab.errors import UsageError
from twlab.web import app, server
from twlab.web.guard import Rate
from twlab.web.server import Served
from twlab.web.store import Store


@pytest.mark.parametrize(
    ("host", "name", "public"),
    [
        ("127.0.0.1", "localhost", False),
        ("127.0.0.2", "127.0.0.2", False),
        ("localhost", "localhost", False),
        ("::1", "[::1]", False),
        ("[::1]", "[::1]", False),
        ("::", "[::]", True),
        ("192.0.2.7", "192.0.2.7", True),
    ],
)
def test_the_address_that_is_printed(host, name, public):
    """It leads to the server, and is an address of the web."""
    served = Served(host=host)
    assert (served.name, served.public) == (name, public)


def test_the_server_answers_to_the_address_it_prints(tmp_path, monkeypatch):
    """Another address of loopback, too."""
    kernel = tmp_path / "lab" / "linux"
    kernel.parent.mkdir()
    kernel.write_bytes(b"a kernel")
    monkeypatch.setattr(server, "kernel_path", lambda: kernel)
    made, site = server.make(Served(host="127.0.0.2", state=tmp_path / "state"))
    statuses = [Visitor(made).get("/", headers={"host": host}).status_code for host in ("127.0.0.2:8000", "127.0.0.3")]
    site.store.close()
    assert statuses == [200, 421]
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "state").iterdir() if path.is_file()} == {0}


def test_a_state_folder_has_one_server(tmp_path):
    """The second is refused; when the first has ended, it is not."""
    first = Store(tmp_path / "serve.sqlite")
    with pytest.raises(UsageError) as caught:
        Store(tmp_path / "serve.sqlite")
    assert caught.value.slug == "state-in-use" and "--state" in caught.value.remedy
    first.close()
    Store(tmp_path / "serve.sqlite").close()


@pytest.mark.parametrize(
    ("there", "given_away"), [([], True), (["serve.sqlite", "secret"], True), (["secret", "thesis"], False)]
)
def test_root_gives_away_its_own_folder_only(tmp_path, monkeypatch, there, given_away):
    """One that holds anything else stays as it is."""
    state, chowned = tmp_path / "state", []
    for name in there:
        state.mkdir(exist_ok=True)
        (state / name).touch()
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, *_, **__: chowned.append(path.name))
    for name in ("setgroups", "setresgid", "setresuid"):
        monkeypatch.setattr(os, name, lambda *_: None)
    monkeypatch.setattr(os, "environ", {})
    assert server.give_up_root(state) == "nobody"
    assert sorted(chowned) == (sorted(["state", *there]) if given_away else [])
    assert there or state.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def address(tmp_path, monkeypatch):
    """The server, listening, without workers; a head has half a second."""
    monkeypatch.setattr(server, "_HEAD_S", 0.5)
    site, _ = make_site(tmp_path)
    monkeypatch.setattr(site.runs, "start", lambda: None)
    running = []
    monkeypatch.setattr(uvicorn.Server, "install_signal_handlers", lambda self: None, raising=False)
    run = uvicorn.Server.run
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, **more: (running.append(self), run(self, **more))[1])
    made = app.build(site, (), Rate(1e6, 1e6), Rate(1e6, 1e6))
    with server.bind(Served(port=0)) as at:
        thread = threading.Thread(target=server.listen, args=(at, made))
        thread.start()
        yield at.getsockname()
        running[0].should_exit = True
        thread.join()


def answered(client):
    """Read one answer, to its end."""
    said = b""
    while b"</svg>" not in said:
        part = client.recv(1 << 16)
        assert part
        said += part
    assert said.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("before", [0, 2])
def test_each_head_has_its_time(address, before):
    """The first of a connection, and those after it; one that comes in time is answered."""
    whole, part = b"GET /static/icon.svg HTTP/1.1\r\nhost: localhost\r\n\r\n", b"GET / HTTP/1.1\r\nx: "
    with socket.create_connection(address, timeout=20) as client:
        for _ in range(before):
            client.sendall(whole[:20])
            time.sleep(0.05)
            client.sendall(whole[20:])
            answered(client)
        client.sendall(part)
        assert client.recv(1) == b""


def test_a_connection_that_is_kept_is_not_timed(address):
    """Between two requests it has uvicorn's own, longer time."""
    with socket.create_connection(address, timeout=20) as client:
        for pause_s in (0, 1):
            time.sleep(pause_s)
            client.sendall(b"GET /static/icon.svg HTTP/1.1\r\nhost: localhost\r\n\r\n")
            answered(client)
