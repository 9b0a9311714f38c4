"""The prompt's Ctrl-C, whenever it comes."""

import os
import signal
import sys

import typing_at
from conftest import ROOT

TIMES = 60

READS_LINES = """
import os
from twlab.loop import Loop
from twlab.shell.prompt import Prompt, Vocabulary
prompt, loop = Prompt(), Loop()
print("child", prompt._child, flush=True)
while (line := prompt.line("ask> ", Vocabulary(), loop)) != "end":
    pass
prompt.close()
"""


def test_ctrl_c_right_after_a_line_is_shown_again_is_not_lost(tmp_path):
    """It comes while the signal before it is still being dealt with, many times over: each time the
    line is given up, and a new one asked for.
    """
    with typing_at.Terminal(sys.executable, "-c", READS_LINES, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}) as terminal:
        child = int(terminal.expect(r"child \d+\n").split()[-1])
        for _ in range(TIMES):
            terminal.expect("ask> ")
            os.kill(child, signal.SIGUSR1)
            terminal.expect("ask> ")
            terminal.type("\x03")
            terminal.expect(r"\^C", timeout_s=5)
        terminal.expect("ask> ")
        terminal.type("end\n")
        assert terminal.wait() == 0


def test_ctrl_c_together_with_other_signals_gives_the_line_up(tmp_path):
    """The line is to be shown again, and Ctrl-C comes, before the process has had time for either."""
    with typing_at.Terminal(sys.executable, "-c", READS_LINES, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}) as terminal:
        child = int(terminal.expect(r"child \d+\n").split()[-1])
        for _ in range(5):
            terminal.expect("ask> ")
            os.kill(child, signal.SIGSTOP)
            for number in (signal.SIGUSR1, signal.SIGALRM, signal.SIGINT, signal.SIGCONT):
                os.kill(child, number)
            terminal.expect(r"\^C", timeout_s=5)
        terminal.expect("ask> ")
        terminal.type("end\n")
        assert terminal.wait() == 0
