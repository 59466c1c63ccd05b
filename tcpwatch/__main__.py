"""`python -m tcpwatch`."""

from tcpwatch.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
