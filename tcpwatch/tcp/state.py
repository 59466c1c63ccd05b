"""The 11 states of RFC 9293 3.3.2, and every spelling of them that tools print.

Owns: the one alias table. Everything that reads a state's name reads it through `TcpState.parse`.
"""

from __future__ import annotations

from difflib import get_close_matches
from enum import Enum


class TcpState(Enum):
    """A connection's state; its value is the name exactly as RFC 9293 spells it."""

    LISTEN = "LISTEN"
    SYN_SENT = "SYN-SENT"
    SYN_RECEIVED = "SYN-RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN-WAIT-1"
    FIN_WAIT_2 = "FIN-WAIT-2"
    CLOSE_WAIT = "CLOSE-WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST-ACK"
    TIME_WAIT = "TIME-WAIT"
    CLOSED = "CLOSED"

    def __str__(self) -> str:
        return self.value

    # Enum's own hashes the name, in Python: states stand in sets and keys everywhere.
    __hash__ = object.__hash__

    @classmethod
    def parse(cls, text: str) -> TcpState:
        """The state that ``text`` names, in any case and any common spelling.

        Understands RFC 9293's names, Linux's (``TCP_FIN_WAIT1``), ss's (``FIN-WAIT-1``,
        ``UNCONN``), psutil's (``FIN_WAIT1``, ``CLOSE``) and the common ``SYN_RCVD``. Raises
        ValueError, naming the nearest state, for anything else.
        """
        key = text.strip().upper().replace("_", "-").removeprefix("TCP-")
        found = _ALIASES.get(key)
        if found is None:
            near = get_close_matches(key, _ALIASES, n=1)
            hint = f"; did you mean {_ALIASES[near[0]]}?" if near else ""
            raise ValueError(f"{text.strip()!r} is not a TCP state{hint}")
        return found

    @classmethod
    def from_linux(cls, number: int) -> TcpState:
        """The state for the kernel's number (include/net/tcp_states.h). Raises ValueError."""
        try:
            return _LINUX[number]
        except KeyError:
            raise ValueError(f"{number} is not a Linux TCP state") from None


_ALIASES: dict[str, TcpState] = {state.value: state for state in TcpState} | {
    "CLOSE": TcpState.CLOSED,  # Linux, psutil: TCP_CLOSE
    "UNCONN": TcpState.CLOSED,  # ss
    "UNCONNECTED": TcpState.CLOSED,  # ss, in its filters
    "LISTENING": TcpState.LISTEN,  # Windows netstat
    "SYNSENT": TcpState.SYN_SENT,
    "SYN-RECV": TcpState.SYN_RECEIVED,  # Linux, psutil, ss
    "NEW-SYN-RECV": TcpState.SYN_RECEIVED,  # Linux: a request socket
    "NEW-SYNC-RECV": TcpState.SYN_RECEIVED,  # the same as Wireshark spells it
    "SYN-RCVD": TcpState.SYN_RECEIVED,  # textbooks, BSD
    "SYN-RECD": TcpState.SYN_RECEIVED,
    "SYNRECEIVED": TcpState.SYN_RECEIVED,
    "ESTAB": TcpState.ESTABLISHED,  # ss
    "FIN-WAIT1": TcpState.FIN_WAIT_1,  # Linux, psutil
    "FIN-WAIT2": TcpState.FIN_WAIT_2,
    "FINWAIT1": TcpState.FIN_WAIT_1,
    "FINWAIT2": TcpState.FIN_WAIT_2,
    "FINWAIT-1": TcpState.FIN_WAIT_1,
    "FINWAIT-2": TcpState.FIN_WAIT_2,
    "CLOSEWAIT": TcpState.CLOSE_WAIT,
    "LASTACK": TcpState.LAST_ACK,
    "TIMEWAIT": TcpState.TIME_WAIT,
}

_LINUX = {
    1: TcpState.ESTABLISHED,
    2: TcpState.SYN_SENT,
    3: TcpState.SYN_RECEIVED,
    4: TcpState.FIN_WAIT_1,
    5: TcpState.FIN_WAIT_2,
    6: TcpState.TIME_WAIT,
    7: TcpState.CLOSED,
    8: TcpState.CLOSE_WAIT,
    9: TcpState.LAST_ACK,
    10: TcpState.LISTEN,
    11: TcpState.CLOSING,
    12: TcpState.SYN_RECEIVED,  # TCP_NEW_SYN_RECV, the request socket
}
