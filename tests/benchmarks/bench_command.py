"""Whole commands, as a user waits for them, side by side with the bare interpreter.

    python tests/benchmarks/bench_command.py [ROUNDS]

Goals: `tcpwatch run simultaneous-close` at most 1 s, most of it the wire's latency;
`tcpwatch --help` at most 0.15 s over `python -c pass`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

TCPWATCH = [sys.executable, "-m", "tcpwatch"]
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "tcpwatch --help": [*TCPWATCH, "--help"],
    "tcpwatch list": [*TCPWATCH, "list"],
    "tcpwatch run simultaneous-close": [*TCPWATCH, "run", "simultaneous-close"],
    "... --without kernel": [*TCPWATCH, "run", "simultaneous-close", "--without", "kernel"],
    "... --latency 0": [*TCPWATCH, "run", "simultaneous-close", "--latency", "0"],
}


def main() -> None:
    """Interleaves the rounds, so that the machine's mood falls on all alike."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            began = time.perf_counter()
            status = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
            seconds[name].append(time.perf_counter() - began)
            if status not in (0, 3):
                sys.exit(f"{name}: exit status {status}")
    floor = statistics.median(seconds["python -c pass"])
    print(f"{'command':34} {'median s':>9} {'min':>6} {'max':>6} {'over the floor':>15}")
    for name, measured in seconds.items():
        median = statistics.median(measured)
        print(
            f"{name:34} {median:9.3f} {min(measured):6.3f} {max(measured):6.3f}"
            f" {median - floor:15.3f}"
        )


if __name__ == "__main__":
    main()
