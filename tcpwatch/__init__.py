"""tcpwatch: a debugger for TCP's state machine on real kernels."""

__version__ = "0.1.0"
