"""The prompt: lines from a person at a terminal, while the lab goes on.

How it works. Editing a line blocks, and the lab must not stand still meanwhile: segments wait at
the wire, timers fall due. So the line is edited by a child, which has the terminal to itself, with
readline's history and completion; this process serves the lab until the child hands it the line.
What happens in between is printed above the line, and the child then shows the line again.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from dataclasses import asdict, dataclass, field

from twlab.linux import syscalls
from twlab.loop import Loop

# Python looks for signals when its wait for a key is interrupted. One that comes just before that
# wait would stay unseen until the next key (CPython Modules/readline.c,
# readline_until_enter_or_signal), so the wait is interrupted every so many seconds.
_LOOK_S = 0.2


@dataclass
class Vocabulary:
    """What the Tab key knows.

    Attributes:
        first: words that a line may begin with.
        after: first word to words that may follow; ``""``: what may follow any other.
    """

    first: list[str] = field(default_factory=list)
    after: dict[str, list[str]] = field(default_factory=dict)

    def complete(self, text: str, line: str) -> list[str]:
        """Return the completions of `text`, the end of `line`.

        A completion is a word and a space, or a key and its equals sign.
        """
        before = line[: len(line) - len(text)].split()
        words = self.after.get(before[0], self.after.get("", [])) if before else self.first
        return sorted({word if word.endswith("=") else f"{word} " for word in words if word.startswith(text)})


class Prompt:
    """Reads lines from the terminal that is standard input and output.

    Make it before the lab, so that its child process has no part in the lab.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until the child is ready for it
        self._child = os.fork()
        if self._child == 0:
            ours.close()
            _edit(theirs)
        signal.signal(signal.SIGUSR1, before)
        theirs.close()
        self._conversation = ours.makefile("rw", buffering=1, encoding="utf-8")
        self._socket = ours
        self._open = False

    def line(self, prompt: str, vocabulary: Vocabulary, loop: Loop) -> str | None:
        """Return the next line without its end, or None when there are no more.

        Meanwhile `loop` is served. Its errors are printed. Ctrl-C gives the line up.
        """
        answered = interrupted = False

        def answer() -> None:
            nonlocal answered
            answered = True

        def interrupt(*_: object) -> None:
            # The child is interrupted, too. It answers with an empty line, unless it had sent one a
            # moment before.
            nonlocal interrupted
            interrupted = True

        # From before the child shows the prompt: who sees it may press Ctrl-C.
        before = signal.signal(signal.SIGINT, interrupt)
        try:
            self._conversation.write(json.dumps({"prompt": prompt, "vocabulary": asdict(vocabulary)}) + "\n")
            self._conversation.flush()
            self._open = True
            loop.watch(self._socket, answer)
            while not answered:
                try:
                    loop.wait_until(lambda: answered)
                except KeyboardInterrupt:  # of a loop that watches for signals
                    interrupt()
                except Exception as error:
                    self.print_above(f"{type(error).__name__}: {error}")
            loop.forget(self._socket)
            self._open = False
            text = self._conversation.readline()
        finally:
            signal.signal(signal.SIGINT, before)
        line = json.loads(text)["line"] if text else None
        return "" if line and interrupted else line

    def print_above(self, text: str) -> None:
        """Print `text`, above the line that is being edited if there is one."""
        if self._open:
            sys.stdout.write(f"\r\033[K{text}\n")
            sys.stdout.flush()
            os.kill(self._child, signal.SIGUSR1)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """End the child."""
        self._conversation.close()
        self._socket.close()
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)


def _edit(conversation: socket.socket) -> None:
    """Edit lines in the child, one for each request. It does not return."""
    import readline

    shown = ""
    editing = False
    vocabulary = Vocabulary()

    def complete(text: str, state: int) -> str | None:
        found = vocabulary.complete(text, readline.get_line_buffer()[: readline.get_endidx()])
        return found[state] if state < len(found) else None

    def show_again(*_: object) -> None:
        if editing:
            os.write(1, f"\r\033[K{shown}{readline.get_line_buffer()}".encode())  # sys.stdout may be at work just then

    def give_up(*_: object) -> None:
        # input() looks for signals again with this exception set. A handler that calls a built-in
        # function then makes a SystemError of it (CPython Python/bltinmodule.c, builtin_input).
        nonlocal editing
        editing = False
        raise KeyboardInterrupt

    try:
        syscalls.die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # while no line is being edited it means something else
        signal.signal(signal.SIGUSR1, show_again)
        signal.signal(signal.SIGALRM, lambda *_: None)
        readline.set_completer(complete)
        readline.set_completer_delims(" \t\n")
        readline.parse_and_bind("tab: complete")
        stream = conversation.makefile("rw", encoding="utf-8")
        for order in stream:
            wanted = json.loads(order)
            vocabulary = Vocabulary(**wanted["vocabulary"])
            shown = wanted["prompt"]
            try:
                signal.signal(signal.SIGINT, give_up)
                signal.setitimer(signal.ITIMER_REAL, _LOOK_S, _LOOK_S)
                editing = True
                line: str | None = input(shown)
            except EOFError:
                editing, line = False, None
                print()
            except KeyboardInterrupt:
                editing, line = False, ""
                print("^C")
            editing = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            stream.write(json.dumps({"line": line}) + "\n")
            stream.flush()
    finally:
        os._exit(0)
