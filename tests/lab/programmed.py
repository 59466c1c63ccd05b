"""Programs given by their text, and what was told of them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tcpwatch.lab.loopback import Loopback
from tcpwatch.lab.namespace import Namespaces
from tcpwatch.lab.process import Program
from tcpwatch.model.events import CallPhase, ProcessChanged, UserCall
from tcpwatch.model.witness import Observation

AnyLab = Namespaces | Loopback
Run = Callable[..., Program]

SERVER = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.socket(family, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((sys.argv[1], 0))
listener.listen(8)
print(listener.getsockname()[1])
"""
CLIENT = """
import socket, sys
client = socket.create_connection((sys.argv[1], int(sys.argv[2])))
"""


def wait_until(condition: Callable[[], bool]) -> None:
    """pytest's timeout ends this where the condition never holds."""
    never = threading.Event()
    while not condition():
        never.wait(0.01)


def port_of(server: Program) -> int:
    """What a `SERVER` has printed first."""
    server.wait_printed("\n")
    return int(server.printed.splitlines()[0])


def events_of(observations: list[Observation], process: str) -> list[str]:
    """Its calls as ``accept(`` when made and ``) = 4`` when back, and what befell it."""
    told = []
    for seen in observations:
        match seen.payload:
            case UserCall(process=name) as call if name == process and call.call != "run":
                if call.phase is CallPhase.CALLED:
                    told.append(f"{call.call}({call.arguments})")
                else:
                    told.append(f"{call.call} = {call.errno or call.result}")
            case ProcessChanged(process=name) as change if name == process:
                told.append(change.change.value)
            case _:
                pass
    return told


def calls(observations: list[Observation], name: str, process: str = "") -> list[UserCall]:
    payloads = [seen.payload for seen in observations]
    found = [one for one in payloads if isinstance(one, UserCall) and one.call == name]
    return [call for call in found if process in ("", call.process)]
