"""The shell: Mininet's own command line on a running lab, with the lab's verbs.

All that is done in it is recorded. Mininet's command line waits for its commands as if nothing else
went on. Here the loop is served meanwhile, so that segments cross, timers fall due and applications
answer.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
from cmd import Cmd
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twlab.errors import LabError
from twlab.lab.assembly import RunningLab
from twlab.network import Node
from twlab.results.transcript import Entry
from twlab.settings import setting_names
from twlab.shell import phrases
from twlab.shell.mininet_verbs import Line, MininetVerbs, Net, Paper, print_on
from twlab.shell.prompt import Prompt, Vocabulary
from twlab.shell.verbs import GROUPS, Verbs

if TYPE_CHECKING:
    from twlab.report.ladder.ladder import Ladder

PROMPT = "twlab> "
_ASKS = {
    *("help", "exit", "quit", "ladder", "timewait", "sockets", "counters"),
    *("connections", "held", "nodes", "net", "dump", "links", "intfs"),
}
_SAYS_OTHERS = {"EOF", "source", "time"}  # what these have carried out is recorded by itself
_OF_SWITCHES = {"do_dpctl", "do_switch", "do_ports", "do_gterm", "do_x", "do_xterm", "do_iperfudp", "do_noecho"}
_IDLE_S = 0.05  # between two pieces of what is imported while a person thinks
_SETTLE_S = 0.01  # so that what a line brings about is seen below it
_LOOK_AFTER_S = 1.0  # how often to see whether the shell of a node is still there
_KEPT = 4000  # characters of what a command of a node prints, in the transcript


class Shell(Verbs, MininetVerbs):
    """The command line.

    Args:
        running: the running lab.
        paper: the text stream on which all is printed.
        draw_ladder: writes the evidence so far, and returns its ladder.
        virtual: the lab's time is virtual: it passes only while nothing computes.

    Attributes:
        lines: what was typed: seconds since the lab began, and the line.
        interrupts: the lines that Ctrl-C interrupted: number in `lines`, and seconds.
        failed: whether a line could not be carried out.
    """

    def __init__(self, running: RunningLab, paper: Paper, draw_ladder: Callable[[], Ladder], *, virtual: bool = False):
        Verbs.__init__(self, running.lab.network.nodes)
        self.running = running
        self.draw_ladder = draw_ladder
        self.lines: list[tuple[float, str]] = []
        self.interrupts: list[tuple[int, float]] = []
        self.failed = False
        self.mn = Net(running.lab.network)
        self.locals = {"net": self.mn, "lab": running.lab}
        self.inputFile = None
        self._paper = paper
        self._virtual = virtual
        self._prompt: Prompt | None = None
        self._stops = False
        self._sources: list[Path] = []
        print_on(paper)
        Cmd.__init__(self)
        self.stdout: Any = paper
        for node in running.lab.network:
            # Mininet's own would leave the lab unserved.
            node.waitReadable = lambda timeoutms=None, node=node: self._serve_until_readable(node)

    # How lines come in.

    def carry_out(self, lines: Sequence[Line]) -> bool:
        """Carry out lines in turn; return whether one of them ends the session.

        Each begins, and is interrupted, at its time (s since the lab began) if it has one. After a
        Ctrl-C the rest is left out.
        """
        for at_s, line, stop_s in lines:
            if not line.strip():
                continue
            if at_s is not None:
                self.lab.sleep_until(at_s)
            self.say(f"{PROMPT}{line}")
            before = len(self.interrupts)
            with self._interrupted_at(stop_s):
                if self.onecmd(self.precmd(line)):
                    return True
            if stop_s is None and len(self.interrupts) > before:
                break
        return False

    @contextlib.contextmanager
    def _interrupted_at(self, stop_s: float | None) -> Iterator[None]:
        """Interrupt what the block does at `stop_s`, as Ctrl-C did when it was typed."""
        if stop_s is None:
            yield
            return

        def interrupt() -> None:
            raise KeyboardInterrupt

        timer = self.lab.loop.call_at(stop_s, interrupt)
        self._stops = True
        try:
            yield
        finally:
            self._stops = False
            timer.cancel()

    def _note_interrupt(self) -> None:
        self.interrupts.append((len(self.lines) - 1, round(self.lab.now_s, 6)))

    def talk(self, prompt: Prompt) -> None:
        """Carry out what a person types, until the session ends."""
        self._prompt = prompt
        with self._interruptible():
            self.say(f"{len(self.mn.hosts)} nodes: {' '.join(self.mn)}. Type help, or NODE COMMAND; exit ends the lab.")
            self.lab.loop.call_later(_IDLE_S, self._warm_up)
            done = False
            while not done:
                line = prompt.line(PROMPT, self._vocabulary(), self.lab.loop)
                done = line is None or bool(self.onecmd(self.precmd(line)))
        self._prompt = None

    def _warm_up(self) -> None:
        """Import what `inject` needs, a piece at a time, while nothing else is due.

        All at once would take seconds in the lab kernel.
        """
        from twlab.wire import craft

        if craft.warm_up():
            self.lab.loop.call_later(_IDLE_S, self._warm_up)

    def say(self, text: str) -> None:
        """Print a line; above the one that is being typed."""
        if self._prompt:
            self._prompt.print_above(text)
        else:
            self._paper.write(f"{text}\n")
            self._paper.flush()

    def hear(self, entry: Entry) -> None:
        """Print what the lab does, as it does it."""
        if entry.kind != "step":
            self.say(f"  {entry.at_s:9.4f}  {entry.node + ': ' if entry.node else ''}{entry.text}")

    def onecmd(self, line: str) -> Any:
        """Carry out one line. An error becomes one message, and the shell goes on."""
        self.ends.settle()
        line = line.strip()
        if not line:
            return None
        verb = line.split()[0]
        if verb not in _SAYS_OTHERS:
            self.lines.append((round(self.lab.now_s, 6), line))
        does = self._does(verb, line)
        if does:
            self.lab.transcript.record("step", line)
        try:
            done = super().onecmd(line)
            if does:
                self.lab.sleep(_SETTLE_S)
            return done
        except KeyboardInterrupt:
            self._note_interrupt()
            self.say("interrupted")
            return None
        except LabError as error:
            self._complain(str(error))
        except (ValueError, IndexError, KeyError) as error:
            known = getattr(self, f"do_{verb}", None)
            self._complain(f"{line}: {error}" + (f"\n  remedy: {self._help(known)}" if known else ""))
        except OSError as error:
            self._complain(f"{line}: {error.strerror or error}")
        except Exception as error:
            self._complain(f"{type(error).__name__}: {error}")
        self.lab.transcript.withdraw_last(line)  # nothing came of it
        return None

    def _does(self, verb: str, line: str) -> bool:
        """Return whether a line acts, so that the ladder should show it, or only asks."""
        known = hasattr(self, f"do_{verb}") or verb in self.mn
        asks = verb in _ASKS or (verb == "segments" and " o" not in line) or (verb == "settings" and "=" not in line)
        return known and not asks and verb != "step"

    def _complain(self, text: str) -> None:
        self.failed = True
        self.say(text)

    # What Mininet's command line does otherwise.

    def precmd(self, line: str) -> str:
        """Remove a comment: the whole line, or its end."""
        return "" if line.lstrip().startswith("#") else line.partition(" # ")[0]

    def default(self, line: str) -> None:
        """Run a command on the node that is named first.

        Names of nodes in it become their addresses.
        """
        name, _, command = line.partition(" ")
        if name not in self.mn:
            nodes = " ".join(self.mn)
            self._complain(
                f"there is no verb and no node called {name!r} [bad-phrase]\n  remedy: help; the nodes are: {nodes}"
            )
        elif not command.strip():
            self._complain(f"what shall {name} do? For example: {name} ss -tan")
        else:
            self._check_ends(command)
            node = self.mn[name]
            words = [self.mn[word].ip4 if word in self.mn else word for word in command.split(" ")]
            node.sendCmd(" ".join(words))
            said = self.waitForNode(node)
            self.lab.transcript.record("note", f"{command}: {len(said.splitlines())} lines", name, output=said[:_KEPT])

    def waitForNode(self, node: Node) -> str:  # noqa: N802
        """Follow the node's command to its end, and return what it printed.

        What is typed meanwhile goes to the command.
        """
        said = ""

        def take() -> None:
            nonlocal said
            text = node.monitor().replace("\r\n", "\n")
            said += text
            self._paper.write(text)
            self._paper.flush()

        loop = self.lab.loop
        with self._keys(node):
            loop.watch(node.stdout, take)
            try:
                while node.waiting:
                    try:
                        loop.wait_until(lambda: not node.waiting, _LOOK_AFTER_S)
                    except KeyboardInterrupt:
                        self._note_interrupt()
                        node.sendInt()
                    if node.shell.poll() is not None:
                        break
            finally:
                loop.forget(node.stdout)
        if node.waiting:
            node.give_up_shell()
            self.say(f"the shell of {node.name} has ended; the next command starts another")
        return said

    def do_help(self, line: str) -> None:
        """help [VERB]: what there is, or what one verb does."""
        if line:
            verb = getattr(self, f"do_{line}", None)
            self.say(
                "\n".join(part.strip() for part in verb.__doc__.strip().splitlines())
                if verb
                else f"there is no verb called {line!r}"
            )
            return
        known = {name for verbs in GROUPS.values() for name in verbs}
        mininet = sorted(name[3:] for name in dir(self) if name.startswith("do_") and name not in _OF_SWITCHES)
        for title, verbs in (
            *GROUPS.items(),
            ("Mininet's", [name for name in mininet if name not in known and name != "EOF"]),
        ):
            self.say(f"{title + ':':17} {' '.join(verbs)}")
        self.say(f"{'a node:':17} NODE COMMAND, e.g. client ping -c 1 server; client ss -tan")
        self.say("help VERB says how a verb is used; Tab completes")

    def do_EOF(self, line: str) -> Any:  # noqa: N802
        """End the shell at the end of the lines."""
        return self.do_exit(line)

    def do_exit(self, _line: str) -> bool:
        """exit: end the lab."""
        return True

    def do_ladder(self, line: str) -> None:
        """ladder [unfold]: all segments that have crossed, with what was done. unfold: every
        segment of the bulk.
        """
        from twlab.report.ladder import text as ladder_text

        found = self.draw_ladder()
        width = os.get_terminal_size().columns if self._prompt else 140
        self.say(ladder_text.draw(found.unfolded() if line == "unfold" else found, width))

    def _vocabulary(self) -> Vocabulary:
        verbs = [name[3:] for name in dir(self) if name.startswith("do_") and name not in {"do_EOF", *_OF_SWITCHES}]
        names = [*self.mn, *self.ends.named, *self.rules]
        wire = [*names, *phrases.KINDS, *phrases.WORDS, "on", "off"]
        after = {"": names, "help": verbs, "settings": [*names, "all", *(f"{name}=" for name in setting_names())]}
        ends, rules = list(self.ends.named), list(self.rules)
        after |= dict.fromkeys(GROUPS["the wire"], wire) | dict.fromkeys(("release", "stop"), rules)
        return Vocabulary([*verbs, *self.mn], after | dict.fromkeys(("send", "read", "close", "reset"), ends))

    # Waiting and interrupting.

    def _serve_until_readable(self, node: Node) -> bool:
        ready = bool(node.readbuf)

        def note() -> None:
            nonlocal ready
            ready = True

        if not ready and not select.select([node.stdout], [], [], 0)[0]:
            self.lab.loop.watch(node.stdout, note)
            try:
                self.lab.loop.wait_until(lambda: ready)
            finally:
                self.lab.loop.forget(node.stdout)
        return True

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Have Ctrl-C interrupt the loop where it waits, and nothing that it serves."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

        def interrupt() -> None:
            os.read(reading, 64)
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, lambda *_: None)
        signal.set_wakeup_fd(writing)
        self.lab.loop.watch(reading, interrupt)
        try:
            yield
        finally:
            self.lab.loop.forget(reading)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, before)
            os.close(reading)
            os.close(writing)

    @contextlib.contextmanager
    def _keys(self, node: Node) -> Iterator[None]:
        """Pass what is typed to the node's command, key by key."""
        if not self._prompt:
            yield
            return
        before = termios.tcgetattr(0)
        by_key = termios.tcgetattr(0)
        by_key[3] &= ~termios.ICANON
        by_key[6][termios.VMIN] = 1
        termios.tcsetattr(0, termios.TCSANOW, by_key)
        self.lab.loop.watch(0, lambda: node.write(os.read(0, 1024).decode(errors="replace").replace("\r", "\n")))
        try:
            yield
        finally:
            self.lab.loop.forget(0)
            termios.tcsetattr(0, termios.TCSADRAIN, before)
