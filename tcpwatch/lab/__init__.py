"""The lab: two hosts with real kernel TCP stacks, a wire between them, and plays.

A scenario's author needs only what is named here.
"""

from tcpwatch.lab.filters import ACK, DATA, FIN, PSH, PURE_ACK, RST, SYN, SYN_ACK, where
from tcpwatch.lab.player import PORT, Lab

__all__ = ["ACK", "DATA", "FIN", "PORT", "PSH", "PURE_ACK", "RST", "SYN", "SYN_ACK", "Lab", "where"]
