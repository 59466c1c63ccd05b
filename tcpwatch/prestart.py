"""The lab's supervisor, started before it is needed: its imports run while ours do.

Owns: the process and our end of its channel until `take`. It waits for its orders, and ends by
itself when the channel closes, so that one that is never taken leaves nothing behind.
"""

from __future__ import annotations

import atexit
import socket
import subprocess
import sys
from pathlib import Path

import tcpwatch
from tcpwatch.errors import TcpwatchError

# Takes this very copy of the package, and nothing else of the folder it is in.
# tcpwatch.lab is entered without its __init__, which would bring plays and wire along (70 ms).
_PROGRAM = """
import sys, types
sys.path.insert(0, {folder!r})
import tcpwatch
lab = types.ModuleType("tcpwatch.lab")
lab.__path__ = [tcpwatch.__path__[0] + "/lab"]
sys.modules["tcpwatch.lab"] = lab
from tcpwatch.lab.supervisor import main
del sys.path[0]
sys.path.append({folder!r})
main({fd})
"""

Launched = tuple["subprocess.Popen[bytes]", socket.socket]
_spare: list[Launched] = []


def prepare() -> None:
    """Starts one to be taken later. Where that fails, `take` will tell."""
    try:
        _spare.append(_launch())
    except TcpwatchError:
        return
    atexit.register(_dismiss)


def take() -> Launched:
    """The supervisor's process and our end of its channel: the spare one, or a new one.

    Raises TcpwatchError.
    """
    return _spare.pop() if _spare else _launch()


def _launch() -> Launched:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = str(Path(tcpwatch.__file__).resolve().parents[1])
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM.format(folder=folder, fd=theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # or a terminal's ctrl-C would hit it
        )
    except OSError as error:
        ours.close()
        raise TcpwatchError(f"cannot start the lab's supervisor: {error.strerror}") from error
    finally:
        theirs.close()
    return process, ours


def _dismiss() -> None:
    while _spare:
        process, ours = _spare.pop()
        ours.close()
        process.wait()
