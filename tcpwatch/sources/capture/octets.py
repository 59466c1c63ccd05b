"""The octets of a file or of standard input, unpacked where they are compressed.

Owns: gzip, zstd, and that memory stays bounded whatever the length. Whatever breaks off, what came
before it is given first. Must not know what the octets mean.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tcpwatch.errors import ExitCode, TcpwatchError

if TYPE_CHECKING:
    import zstandard

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_LARGEST_WINDOW = 1 << 27  # octets of memory that a zstd file may ask for; `zstd --ultra` uses it
_LONGEST_LINE = 1 << 24  # characters
_PIECE = 1 << 22
_AHEAD = 1 << 18
_FEED = 2048  # packed octets at a time: at worst they hold 64 MB (4 octets a block of 128 KB)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Octets:
    """A stream of octets that is read once, from its beginning to its end.

    ``name`` is what the user calls it. ``position`` counts the octets given so far, unpacked.
    """

    def __init__(self, name: str, stream: _Readable, packed: str = "") -> None:
        self.name = name
        self.packed = packed
        self.position = 0
        self._stream = stream
        self._ahead = b""
        self._broken: TcpwatchError | None = None

    def peek(self, count: int) -> bytes:
        """The next octets, which stay to be read; fewer only at the end. Raises as `read`."""
        self._ahead += self._fetch(count - len(self._ahead))
        return self._ahead[:count]

    def read(self, count: int) -> bytes:
        """That many octets; fewer only at the end, none after it.

        Raises TcpwatchError where the stream breaks, once all that came before has been given.
        """
        taken, self._ahead = self._ahead[:count], self._ahead[count:]
        taken += self._fetch(count - len(taken), have=bool(taken))
        self.position += len(taken)
        return taken

    def give_back(self, last: bytes) -> None:
        """Those that were read last are to be read once more.

        A file is asked for them again, which is quicker than to copy what comes behind them.
        """
        self.position -= len(last)
        if not self._ahead and isinstance(self._stream, io.FileIO) and self._stream.seekable():
            self._stream.seek(-len(last), io.SEEK_CUR)
        else:
            self._ahead = last + self._ahead

    def lines(self) -> Iterator[str]:
        """The octets as text in UTF-8, line by line. Raises TcpwatchError where one has no end."""
        text = io.TextIOWrapper(io.BufferedReader(_Raw(self), _AHEAD), encoding="utf-8")
        for number in count(1):
            line = text.readline(_LONGEST_LINE)
            if not line:
                return
            if len(line) == _LONGEST_LINE:
                raise TcpwatchError(
                    f"line {number} is longer than {_LONGEST_LINE} characters",
                    "no line that tcpwatch writes is: name a capture or a recording",
                    ExitCode.USAGE,
                )
            yield line

    def where(self, offset: int) -> str:
        """A place in the stream, for a person to find it."""
        return f"octet {offset}" + (" once unpacked" if self.packed else "")

    def _fetch(self, count: int, *, have: bool = False) -> bytes:
        if self._broken is not None and not have:
            raise self._broken
        pieces: list[bytes] = []
        missing = count
        while missing > 0 and self._broken is None:
            piece = self._next(min(missing, _PIECE))
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        if self._broken is not None and not pieces and not have and not self._ahead:
            raise self._broken
        return b"".join(pieces)

    def _next(self, count: int) -> bytes:
        try:
            return self._stream.read(count)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self._broken = self._unpackable(str(error))
        except OSError as error:
            self._broken = TcpwatchError(
                f"cannot read {self.name}: {error.strerror or error}",
                "name a capture or a recording",
                ExitCode.USAGE,
            )
        except ValueError as error:  # what the readers of zstd raise
            self._broken = self._unpackable(str(error))
        return b""

    def _unpackable(self, why: str) -> TcpwatchError:
        return TcpwatchError(
            f"{self.name}: the {self.packed} stream breaks after it has given "
            f"{self.position + len(self._ahead)} octets or more: {why}",
            "what came before is shown; fetch the file again",
            ExitCode.FAILED,
        )


def packing(magic: bytes) -> str:
    """How a file is packed that begins so: gzip, zstd or not at all."""
    if magic.startswith(_GZIP):
        return "gzip"
    return "zstd" if magic == _ZSTD else ""


@contextmanager
def open_octets(name: str) -> Iterator[Octets]:
    """Opens a file, or standard input for ``-``, and unpacks it if it begins as gzip or zstd does.

    Raises TcpwatchError where it cannot be opened, or where zstd is not installed.
    """
    with ExitStack() as stack:
        if name == "-":
            plain = Octets("standard input", sys.stdin.buffer)
        else:
            try:
                plain = Octets(name, stack.enter_context(Path(name).open("rb", buffering=0)))
            except (OSError, ValueError) as error:  # ValueError: a NUL in the name
                why = error.strerror if isinstance(error, OSError) else str(error)
                raise TcpwatchError(
                    f"cannot read {name}: {why}", "name a capture or a recording", ExitCode.USAGE
                ) from error
        kind = packing(plain.peek(4))
        if kind == "gzip":
            packed = io.BufferedReader(_Raw(plain), _AHEAD)
            yield Octets(plain.name, _Gzip(fileobj=packed, mode="rb"), "gzip")
        elif kind == "zstd":
            yield Octets(plain.name, _zstd(plain), "zstd")
        else:
            yield plain


class _Raw(io.RawIOBase):
    """The octets as a file object, which the unpackers ask for."""

    def __init__(self, octets: Octets) -> None:
        self._octets = octets

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        piece = self._octets.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


class _Gzip(gzip.GzipFile):
    """A gzip stream, unpacked; where it breaks off, what was unpacked before is not lost."""

    def read(self, size: int | None = -1) -> bytes:
        return self.read1(-1 if size is None else size)


class _Zstd:
    """A stream of zstd frames, unpacked. Raises ValueError for what zstd refuses.

    zstandard's own reader takes a stream that is cut off for one that has ended.
    """

    def __init__(self, octets: Octets, unpacker: zstandard.ZstdDecompressor) -> None:
        from zstandard import ZstdError

        self._octets = octets
        self._unpacker = unpacker
        self._refused = ZstdError
        self._frame = unpacker.decompressobj()
        self._begun = False
        self._packed = b""
        self._unpacked = memoryview(b"")

    def read(self, size: int = -1, /) -> bytes:
        while not self._unpacked:
            if not self._packed:
                self._packed = self._octets.read(_FEED)
            if not self._packed:
                if self._begun:
                    raise ValueError("the file ends within a frame")
                return b""
            self._feed()
        given, self._unpacked = self._unpacked[:size], self._unpacked[size:]
        return bytes(given)

    def _feed(self) -> None:
        fed, self._packed, self._begun = self._packed, b"", True
        try:
            self._unpacked = memoryview(self._frame.decompress(fed))
        except self._refused as error:
            raise ValueError(str(error)) from error
        if self._frame.eof:
            self._packed, self._begun = self._frame.unused_data, False
            self._frame = self._unpacker.decompressobj()


def _zstd(octets: Octets) -> _Zstd:
    try:
        import zstandard
    except ImportError:
        raise TcpwatchError(
            f"{octets.name} is packed with zstd, which Python cannot unpack by itself",
            f"pip install 'tcpwatch[capture]', or: zstdcat {octets.name} | tcpwatch replay -",
            ExitCode.INCONCLUSIVE,
        ) from None
    return _Zstd(octets, zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW))
