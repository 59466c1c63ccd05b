"""The end of the TCP sockets that a host's kernel still holds when its lab closes.

Owns: which of them may be destroyed. A socket without a process retransmits its FIN into a wire
that is no more, and keeps its network namespace for over a minute. Runs in the supervisor only.
Must not know actors, nor netlink's messages.
"""

from __future__ import annotations

import os
import re
import socket

from tcpwatch.lab.diag import Row, destroy, dump

_ROUNDS = 4  # one suffices, unless a socket was just changing its state
_TIMEOUT_S = 1.0

# net/tcp_states.h. TIME-WAIT is not among the wanted: it does not hold its namespace.
_FIN_WAIT_1, _FIN_WAIT_2, _TIME_WAIT, _LAST_ACK, _CLOSING = 4, 5, 6, 9, 11
_WANTED = 0x1FFE & ~(1 << _TIME_WAIT)
_WITHOUT_PROCESS = {_FIN_WAIT_1, _FIN_WAIT_2, _LAST_ACK, _CLOSING}


def destroy_sockets(diag: socket.socket) -> None:
    """Destroys every TCP socket of the namespace that ``diag``, a sock_diag socket, is of.

    Its peer gets a RST. What this kernel cannot destroy stays. Raises OSError where it cannot be
    asked.
    """
    diag.settimeout(_TIMEOUT_S)
    orphans_too = destroys_orphans(os.uname().release)
    for _ in range(_ROUNDS):
        rows = [row for row in dump(diag, _WANTED) if orphans_too or not _is_orphan(row)]
        destroyed = [destroy(diag, row) == 0 for row in rows]
        if not any(destroyed):
            return


def destroys_orphans(release: str) -> bool:
    """From Linux 6.11: before it the orphan lost its timer only, and lived for ever.

    Linux: commit bac76cf89816, "tcp: fix forever orphan socket caused by tcp_abort".
    """
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= (6, 11)


def _is_orphan(row: Row) -> bool:
    return row.inode == 0 and row.state in _WITHOUT_PROCESS
