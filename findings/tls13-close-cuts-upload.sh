#!/usr/bin/env bash
# A TLS 1.3 client that only writes loses data that its send call accepted; under TLS 1.2 all arrives.
#
# Guess: sendall() and then close() deliver everything, as they do on a plain socket and under TLS 1.2.
# Happened: after a TLS 1.3 handshake OpenSSL's server sends session tickets. A client that never reads has
# them in its receive buffer when it closes; so Linux sends RST and discards what waits to be sent. Of
# 2 MB to a server that pauses, a part arrives. The client sees no error.
# Matters to: log shippers and other senders that do not expect an answer, after a library update turned
# TLS 1.3 on. unwrap(), or reading until the peer's end, prevents it.
# The page of Python's ssl module mentions neither the tickets nor this.
# Versions: Python 3.11.7, OpenSSL 3.0.19, Linux 6.18.44.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs python3 openssl
python3 -c 'import ssl; print(ssl.OPENSSL_VERSION)'

cat >upload.py <<'PY'
import socket
import ssl
import threading
import time

SIZE = 2_000_000
server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_side.load_cert_chain("cert.pem", "key.pem")


def receive(listener: socket.socket, got: list[int]) -> None:
    """Take one connection, pause, then count the bytes that arrive."""
    connection, _ = listener.accept()
    with server_side.wrap_socket(connection, server_side=True) as tls:
        time.sleep(1)
        try:
            while data := tls.recv(65536):
                got.append(len(data))
        except ConnectionResetError:
            pass


for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    client_side = ssl.create_default_context(cafile="cert.pem")
    client_side.minimum_version = client_side.maximum_version = version
    got: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=receive, args=(listener, got))
        server.start()
        tls = client_side.wrap_socket(socket.create_connection(listener.getsockname()), server_hostname="localhost")
        time.sleep(0.3)
        tls.sendall(b"x" * SIZE)
        tls.close()
        server.join()
    print(f"{version.name}: {'all' if sum(got) == SIZE else 'a part'} of the data arrived")
PY
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost 2>openssl.log
alone python3 upload.py >seen

expect <<'SEEN'
TLSv1_2: all of the data arrived
TLSv1_3: a part of the data arrived
SEEN
