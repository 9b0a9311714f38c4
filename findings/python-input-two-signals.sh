#!/usr/bin/env bash
# Ctrl-C at Python's input() is a SystemError, if another signal with a handler comes with it.
#
# Guess: a program that edits a line with readline and handles SIGUSR1 gets KeyboardInterrupt from input() for SIGINT,
# also where something else comes at that moment.
# Happened: SIGINT's handler raises; then input() looks for signals again, with that exception set, and calls the
# other handler. This one shows the line again, so it asks readline for it: get_line_buffer() "returned a result with
# an exception set". That is a SystemError, which no `except KeyboardInterrupt` catches.
# Matters to: prompts beside which something goes on (messages, timers, a child's end). The way out: a handler of
# SIGINT that sets a flag before it raises, and others that look at the flag before anything else.
# Versions: CPython 3.11.2 (Debian 12); seen with 3.13.5 and 3.14.8, too.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
readonly VERSION=3.11.2-6+deb12u9
deb python3.11-minimal=$VERSION libpython3.11-minimal=$VERSION libpython3.11-stdlib=$VERSION

cat >ask.py <<'PY'
import os, pty, readline, signal, time


def ask(interrupt):
    signal.signal(signal.SIGUSR1, shows)
    signal.signal(signal.SIGINT, interrupt)
    os.write(1, b"ready ")
    try:
        input("> ")
    except BaseException as error:
        os.write(1, f"{type(error).__name__}: {error}".encode())
    os._exit(0)


editing = True


def give_up(*_):
    global editing
    editing = False
    raise KeyboardInterrupt


def shows(*_):
    if editing:
        readline.get_line_buffer()


default = signal.default_int_handler
for words, interrupt, signals in (
    ("Ctrl-C alone", default, [signal.SIGINT]),
    ("with SIGUSR1", default, [signal.SIGUSR1, signal.SIGINT]),
    ("with SIGUSR1 and a flag", give_up, [signal.SIGUSR1, signal.SIGINT]),
):
    pid, terminal = pty.fork()
    if not pid:
        ask(interrupt)
    said = b""
    while not said.endswith(b"> "):
        said += os.read(terminal, 1000)
    time.sleep(1)  # until it waits for a key
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    for number in (*signals, signal.SIGCONT):  # both are there when it goes on
        os.kill(pid, number)
    os.waitpid(pid, 0)
    print(words, os.read(terminal, 1000).decode().strip(), sep=": ")
PY
# shellcheck disable=SC2154  # lib.sh sets it
PYTHONHOME=$folder/unpacked/usr python3.11 ask.py >seen

expect <<'SEEN'
Ctrl-C alone: KeyboardInterrupt:
with SIGUSR1: SystemError: <built-in function get_line_buffer> returned a result with an exception set
with SIGUSR1 and a flag: KeyboardInterrupt:
SEEN
