"""A command in a network of its own: started there, led through a wire, what it left behind.

Owns: what only `tcpwatch exec` does to a program. Must not know how anything is shown.
"""
