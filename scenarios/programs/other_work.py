"""What a process may do while it waits for nothing: some milliseconds of computing.

It asks nothing of the kernel, and a signal's handler can run in the midst of it.
"""


def do_other_work() -> None:
    """Sums up squares."""
    sum(number * number for number in range(100_000))
