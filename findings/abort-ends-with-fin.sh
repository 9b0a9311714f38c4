#!/usr/bin/env bash
# abort() of asyncio, uvloop and trio throws data away and then ends the connection with a clean FIN.
#
# Guess: aborting a connection sends RST, so that the peer knows that the stream is cut.
# Happened: asyncio's and uvloop's transport.abort() and trio.aclose_forcefully() drop what is not yet
# sent, and close() does the rest: FIN. The peer reads an orderly end of 5 MB that never came whole.
# Twisted's abortConnection() sets SO_LINGER to 0 first: the peer gets ECONNRESET.
# Matters to: protocols where the end of the stream ends the message, and programs that abort in order to
# have no TIME_WAIT: the side that aborted with FIN keeps the port for 60 s.
# asyncio's page "Transports and Protocols" says that buffered data is lost, and not how the peer sees it.
# Versions: Python 3.11.7, uvloop 0.23.0, trio 0.35.0, Twisted 26.10.0.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi uvloop==0.23.0 trio==0.35.0 Twisted==26.10.0

cat >abort.py <<'PY'
import asyncio
import socket
import sys
import threading
import time

import trio
import uvloop
from twisted.internet import protocol, reactor

DATA = b"x" * 5_000_000


def peer(listener: socket.socket) -> None:
    """Read slowly, then report how the connection ended."""
    connection, _ = listener.accept()
    time.sleep(0.5)
    size, end = 0, "FIN"
    try:
        while data := connection.recv(65536):
            size += len(data)
    except ConnectionResetError:
        end = "RST"
    print(f"{sys.argv[1]}: {end}, {'all' if size == len(DATA) else 'part'} of the data")


async def with_asyncio(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(DATA)
    writer.transport.abort()
    await asyncio.sleep(0.1)


async def with_trio(port: int) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    with trio.move_on_after(0.1):
        await stream.send_all(DATA)
    await trio.aclose_forcefully(stream)


class Sender(protocol.Protocol):
    def connectionMade(self) -> None:
        self.transport.write(DATA)
        reactor.callLater(0.1, self.transport.abortConnection)
        reactor.callLater(0.3, reactor.stop)


def with_twisted(port: int) -> None:
    factory = protocol.ClientFactory()
    factory.protocol = Sender
    reactor.connectTCP("127.0.0.1", port, factory)
    reactor.run()


with socket.create_server(("127.0.0.1", 0)) as listener:
    reader = threading.Thread(target=peer, args=(listener,))
    reader.start()
    port = listener.getsockname()[1]
    {
        "asyncio": lambda: asyncio.run(with_asyncio(port)),
        "uvloop": lambda: uvloop.run(with_asyncio(port)),
        "trio": lambda: trio.run(with_trio, port),
        "Twisted": lambda: with_twisted(port),
    }[sys.argv[1]]()
    reader.join()
PY
for library in asyncio uvloop trio Twisted; do alone python3 abort.py $library; done >seen

expect <<'SEEN'
asyncio: FIN, part of the data
uvloop: FIN, part of the data
trio: FIN, part of the data
Twisted: RST, part of the data
SEEN
