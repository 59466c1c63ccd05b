"""TCP itself: states, sequence numbers, segments, headers, notation. Standard library only, no I/O."""
