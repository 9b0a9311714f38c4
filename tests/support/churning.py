"""What tests of loads run, in the sandbox and in the lab kernel: one load after the other between
two nodes, and their accounts.
"""

from twlab.linux.sockstat import Sockstat
from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.results.transcript import Transcript
from twlab.settings import Settings
from twlab.traffic.load_client import Load, LoadClient, LoadServer
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
