"""What `tcpwatch exec` costs a command: its own speed there and in a bare namespace, side by side.

Run it: python tests/benchmarks/bench_exec.py [ROUNDS]. The goals are 0.7 of the bare speed for
short connections and 0.9 for one bulk transfer. What tcpwatch concludes comes after the command.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(__file__).parents[1] / "exec" / "programs"
LOADS = {
    "2,000 short connections, a second": ("short.py", "2000", 0.7),
    "one bulk transfer of 8 GB, MB a second": ("bulk.py", "8000", 0.9),
}
UNSHARE = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
BARE = [*UNSHARE, "sh", "-c", 'ip link set lo up && exec "$@"', "bare"]
EXEC = [sys.executable, "-m", "tcpwatch", "exec", "--quiet", "--"]


def speed(how: list[str], name: str, argument: str) -> float:
    """As the program itself measures it."""
    argv = [*how, sys.executable, str(PROGRAMS / name), argument]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Interleaves the rounds, so that the machine's mood falls on all alike."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"{'load':40} {'bare':>9} {'exec':>9} {'ratio':>6} {'goal':>5}   ratios")
    for name, (program, argument, goal) in LOADS.items():
        bare: list[float] = []
        watched: list[float] = []
        for number in range(rounds):
            ways = [(BARE, bare), (EXEC, watched)]
            for how, speeds in ways if number % 2 else ways[::-1]:
                speeds.append(speed(how, program, argument))
        ratios = [theirs / alone for alone, theirs in zip(bare, watched, strict=True)]
        told = " ".join(f"{ratio:.2f}" for ratio in ratios)
        medians = f"{statistics.median(bare):9.0f} {statistics.median(watched):9.0f}"
        print(f"{name:40} {medians} {statistics.median(ratios):6.2f} {goal:5.1f}   {told}")


if __name__ == "__main__":
    main()
