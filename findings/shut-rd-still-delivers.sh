#!/usr/bin/env bash
# After shutdown(SHUT_RD) Linux goes on receiving, and recv() goes on returning data sent later.
#
# Guess, from shutdown(2), "further receptions will be disallowed": recv() returns 0 from then on, and
# the sender is stopped.
# Happened: data that is sent after the call is acknowledged and read, again and again; the sender sees
# no error. Where no data waits, recv() returns 0. An end of file is followed by more data.
# Matters to: programs that take SHUT_RD for a way to refuse data: the peer goes on sending, unread data
# fills the buffer, and turns the later close() into RST.
# Versions: Linux 6.18.44, Python 3.11.7 (only as the caller).
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs python3

cat >shut.py <<'PY'
import socket
import time

with socket.create_server(("127.0.0.1", 0)) as listener:
    sender = socket.create_connection(listener.getsockname())
    receiver, _ = listener.accept()
receiver.shutdown(socket.SHUT_RD)
print("nothing sent:", receiver.recv(100))
for text in (b"later", b"later still"):
    sender.sendall(text)
    time.sleep(0.1)
    print("recv:", receiver.recv(100), "then", receiver.recv(100))
print("sender's error:", sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
sender.sendall(b"unread")
time.sleep(0.1)
receiver.close()
try:
    sender.recv(100)
except ConnectionResetError as error:
    print("after close:", error.strerror)
PY
alone python3 shut.py >seen

expect <<'SEEN'
nothing sent: b''
recv: b'later' then b''
recv: b'later still' then b''
sender's error: 0
after close: Connection reset by peer
SEEN
