"""Everything that a command gives out: what it prints, its documents, its exit status.

Owns: the sinks of a run and the order in which many are told. Must not know what is played next.
"""
