"""How long a TIME_WAIT socket lives when each mechanism sets its length. Runs in the lab kernel
too, so it imports little.
"""

from __future__ import annotations

from twlab.linux import tcp_sockets
from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.results.transcript import Transcript
from twlab.settings import Settings
from twlab.tuning.apply import Tuning


def lives(lengths_s: list[float], mechanisms: list[str]) -> list[list[float]]:
    """Seconds that a TIME_WAIT lasted: a row for each length, in it one for each mechanism (empty:
    what the kernel offers).
    """
    return [[life_s(length_s, mechanism) for mechanism in mechanisms] for length_s in lengths_s]


def life_s(length_s: float, mechanism: str) -> float:
    """The client closes first; from its TIME_WAIT's beginning to its end."""
    loop = Loop()
    forced = {"time_wait_s": mechanism} if mechanism else {}
    with Network(load_topology("pair")) as network:
        client, server = network["client"], network["server"]
        with Tuning(client, Settings(time_wait_s=length_s), loop, Transcript(lambda: loop.now_s), forced):
            with server.socket() as listener, client.socket() as first:
                listener.bind((server.ip4, 80))
                listener.listen()
                first.connect((server.ip4, 80))
                second, _ = listener.accept()
                first.close()
                loop.sleep(0.01)
                began_s = loop.now_s
                second.close()
            assert loop.wait_until(lambda: tcp_sockets.count(client), 1, look_s=0.001), "no TIME_WAIT"
            while tcp_sockets.count(client):
                loop.sleep(0.005)
            return loop.now_s - began_s


def agree(lengths_s: list[float]) -> list[list[float]]:
    """`lives` by the sysctl and by sockets ended over inet_diag."""
    return lives(lengths_s, ["", "inet_diag"])
