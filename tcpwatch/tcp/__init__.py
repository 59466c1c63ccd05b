"""TCP itself: states, sequence numbers, segments, headers, notation. Stdlib only, no I/O."""
