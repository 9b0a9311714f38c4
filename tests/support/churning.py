"""What tests of loads run, in the sandbox and in the lab kernel: one load after the other between
two nodes, and their accounts.
"""

import socket

from twlab.linux.sockstat import Sockstat
from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.results.transcript import Transcript
from twlab.settings import Settings
from twlab.traffic.load_client import Load, LoadClient, LoadServer
from twlab.traffic.options import abort_on_close
from twlab.tuning.apply import Tuning


def accounts(settings: dict, cases: list) -> list:
    """For each case (arguments of a load, and of the origin, contents by length): the account of
    the load, what the origin counted, and the TIME_WAITs once both ends have closed everything.
    """
    found = []
    loop = Loop()
    with Network(load_topology("proxy,sources=4")) as network:
        proxy, server = network["proxy"], network["server"]
        with Tuning(proxy, Settings(**settings), loop, Transcript(lambda: loop.now_s)):
            sockets = Sockstat(proxy)
            for load, serving in cases:
                given = {**load, "request": b"x" * load.get("request", 0)}
                if given.pop("all_sources", False):
                    given["sources"] = proxy.addresses()
                ports = given.pop("to_ports", [80])
                origin = LoadServer(
                    server, loop, **{**serving, "response": b"y" * serving.get("response", 0), "ports": ports}
                )
                address = server.address(given.pop("family", 4)) if not given.pop("nobody", False) else "10.2.1.254"
                churn = LoadClient(
                    proxy,
                    loop,
                    Load(
                        **{
                            "rate_per_s": 200,
                            "duration_s": 0.5,
                            **given,
                            "targets": [(address, port) for port in ports],
                        }
                    ),
                )
                tally = churn.run()
                loop.sleep(0.05)
                found.append(
                    {
                        **tally.as_dict(),
                        "accepted": origin.accepted,
                        "served": origin.answered,
                        "left": len(origin._open),
                        "time_waits": sockets.time_wait(),
                    }
                )
                origin.close()
            sockets.close()
    return found


def reset_before_the_next_request(seen: bool) -> dict:
    """The account of a load whose one kept connection is reset before the second request arrives.

    Not `seen`: in the turn of the loop in which it arrives, so that it is sent on what is broken.
    """
    loop = Loop()
    with Network(load_topology("proxy")) as network, network["server"].socket(socket.AF_INET) as listener:
        listener.bind((network["server"].address(), 80))
        listener.listen()
        load = Load(
            rate_per_s=10,
            duration_s=0.2,
            targets=[listener.getsockname()],
            request=b"x" * 100,
            response_bytes=300,
            requests_per_connection=5,
            tick_s=0.1,
        )
        client = LoadClient(network["proxy"], loop, load)

        def answer() -> socket.socket:
            far, _ = listener.accept()
            far.send(b"y" * len(far.recv(1000)) * 3)
            return far

        first = answer()
        abort_on_close(first)
        loop.wait_until(lambda: client.counts.now.answered)
        if seen:
            first.close()
            loop.wait_until(lambda: client.counts.now.attempted == 2)
            with answer():
                return client.run().as_dict()
        loop.call_at(loop.now_s, first.close)
        while client.elapsed_s < load.tick_s:
            pass  # the loop is not served, so both are due in the same turn
        return client.run().as_dict()
