"""Watching a host: its sockets as they are now, their moves, who holds them.

Owns: what is known of a live host, and what knowing it may cost. Must not know how it is shown.
"""
