"""Any command on a lab's host: this program runs it as its child, and prints what it prints.

Owns: passing on signals and the exit status. It runs within the lab, and knows nothing of it.
"""

from __future__ import annotations

import signal
import subprocess
import sys


def main(command: list[str]) -> int:
    """Runs it to its end; its exit status as a shell gives it."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="backslashreplace"
    ) as child:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda received, _frame: child.send_signal(received))
        assert child.stdout is not None
        for line in child.stdout:
            sys.stdout.write(line)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
