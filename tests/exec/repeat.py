"""Repeats the set of real programs under load, and tells each verdict that is not the right one.

By hand: `python tests/exec/repeat.py 200`. Each time is a pytest of its own, some of them side by
side, with processes beside them that do nothing but compute. What fails in one of 200 is a false
leak, a false pass or a doubt that nobody should have: its report is shown, and it counts.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
SET = (HERE / "test_programs.py", HERE / "test_exec.py", HERE.parent / "test_api.py")
ONLY = "test_programs or leak or close_wait or demand or examples"


def main() -> int:
    """The exit status: 1 where anything was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("times", type=int, nargs="?", default=200)
    parser.add_argument("--only", default=ONLY, metavar="EXPRESSION", help="as of pytest -k")
    parser.add_argument("--side-by-side", type=int, default=2 * (os.cpu_count() or 1), metavar="N")
    parser.add_argument("--load", type=int, default=os.cpu_count(), metavar="PROCESSES")
    parser.add_argument("--begin-for", type=float, default=float("inf"), metavar="SECONDS")
    arguments = parser.parse_args()
    began_s, wrong, passed, number = time.monotonic(), Counter[str](), 0, 0
    with loaded(arguments.load), ThreadPoolExecutor(arguments.side_by_side) as pool:
        until_s = began_s + arguments.begin_for
        running = [pool.submit(once, arguments.only, until_s) for _ in range(arguments.times)]
        try:
            for done in as_completed(running):
                text = done.result()
                if text is None:
                    continue
                number += 1
                found = re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
                wrong.update(found)
                passed += sum(map(int, re.findall(r"(\d+) passed", text)))
                if found or not passed:
                    tell(text)
                told = f"{wrong.total()} not as they should be, {passed} right"
                tell(f"{number} of {arguments.times}: {told}, {time.monotonic() - began_s:.0f} s")
        except KeyboardInterrupt:  # of those that it ends too, nothing can be said
            pool.shutdown(wait=False, cancel_futures=True)
    for name, count in wrong.most_common():
        tell(f"{count} times {name}")
    return int(bool(wrong) or not passed)


def tell(text: str) -> None:
    """At once, into a pipe too."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def once(only: str, until_s: float) -> str | None:
    """The whole set, once; all that pytest says of it. None: it is too late to begin."""
    if time.monotonic() > until_s:
        return None
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", only]
    argv += map(str, SET)
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


@contextmanager
def loaded(count: int) -> Iterator[None]:
    """So many processes compute meanwhile."""
    argv = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(argv, stderr=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
