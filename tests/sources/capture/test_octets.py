"""The octets of a file, unpacked; where the packed stream breaks, what came before it is given."""

from __future__ import annotations

import gzip
import io
import os
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.sources.capture.octets import open_octets

CONTENT = os.urandom(700_000) + bytes(3_000_000)
ZSTD = zstandard.ZstdCompressor(write_checksum=True).compress
PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": ZSTD, "plain": bytes}


def read_all(name: str, piece: int = 70_000) -> tuple[bytes, TcpwatchError | None]:
    got = b""
    try:
        with open_octets(name) as octets:
            while piece_read := octets.read(piece):
                got += piece_read
                assert octets.position == len(got)
    except TcpwatchError as error:
        return got, error
    return got, None


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], str]:
    def written(content: bytes) -> str:
        path = tmp_path / "it.pcap"
        path.write_bytes(content)
        return str(path)

    return written


@pytest.mark.parametrize("packer", sorted(PACKERS))
def test_a_file_gives_its_octets_whatever_it_is_packed_with(
    packer: str, write: Callable[[bytes], str]
) -> None:
    assert read_all(write(PACKERS[packer](CONTENT))) == (CONTENT, None)


@pytest.mark.parametrize("packer", ["gzip", "zstd"])
def test_several_packed_streams_in_one_file_follow_each_other(
    packer: str, write: Callable[[bytes], str]
) -> None:
    pack = PACKERS[packer]
    assert read_all(write(pack(b"one") + pack(b"") + pack(CONTENT))) == (b"one" + CONTENT, None)


@pytest.mark.parametrize("packer", ["gzip", "zstd"])
def test_a_packed_stream_that_is_cut_off_gives_what_came_before(
    packer: str, write: Callable[[bytes], str]
) -> None:
    packed = PACKERS[packer](CONTENT)
    got, error = read_all(write(packed[: len(packed) // 2]))
    assert CONTENT.startswith(got)
    assert len(got) > 200_000
    assert error is not None
    assert error.exit_code is ExitCode.FAILED
    assert packer in error.message


@pytest.mark.parametrize("packer", ["gzip", "zstd"])
def test_a_packed_stream_that_is_corrupt_is_told(
    packer: str, write: Callable[[bytes], str]
) -> None:
    packed = bytearray(PACKERS[packer](CONTENT))
    packed[len(packed) // 2 : len(packed) // 2 + 40] = bytes(40)
    _, error = read_all(write(bytes(packed)))
    assert error is not None
    assert f"the {packer} stream breaks" in error.message


@given(st.sampled_from([b"\x1f\x8b", b"\x28\xb5\x2f\xfd"]), st.binary(max_size=200))
def test_no_packed_octets_are_too_much(
    tmp_path_factory: pytest.TempPathFactory, magic: bytes, rest: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(magic + rest)
    _, error = read_all(str(path))
    assert error is None or error.exit_code is ExitCode.FAILED


def test_a_small_file_that_unpacks_to_much_takes_little_memory(
    write: Callable[[bytes], str],
) -> None:
    packed = ZSTD(bytes(1 << 29))  # half a GB of zeros in 17 kB
    name = write(packed)
    assert len(packed) < 20_000
    tracemalloc.start()
    try:
        total = 0
        with open_octets(name) as octets:
            while piece := octets.read(1 << 20):
                total += len(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 1 << 29
    assert peak < 150 << 20


def test_a_zstd_stream_that_asks_for_too_much_memory_is_refused(
    write: Callable[[bytes], str],
) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, compression_level=1)
    packer = zstandard.ZstdCompressor(compression_params=parameters)
    packed = packer.compressobj()
    content = packed.compress(bytes(1 << 20)) + packed.flush()
    got, error = read_all(write(content))
    assert got == b""
    assert error is not None
    assert "too much memory" in error.message


def test_without_zstandard_the_remedy_is_told(
    write: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write(ZSTD(b"content"))
    monkeypatch.setitem(sys.modules, "zstandard", None)  # as Python marks what cannot be imported
    _, error = read_all(name)
    assert error is not None
    assert "pip install 'tcpwatch[capture]'" in error.remedy


@pytest.mark.parametrize(
    "name, why",
    [
        ("nowhere/x.pcap", "No such file or directory"),
        (".", "Is a directory"),
        ("a\0b", "null"),
    ],
)
def test_what_cannot_be_opened_is_told(name: str, why: str) -> None:
    _, error = read_all(name)
    assert error is not None
    assert error.exit_code is ExitCode.USAGE
    assert why in error.message


def test_standard_input_is_read_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = os.pipe()
    packed = gzip.compress(CONTENT)

    def feed() -> None:
        with os.fdopen(there, "wb") as out:
            out.write(packed)

    with os.fdopen(here, "rb") as stdin:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stdin))
        feeder = threading.Thread(target=feed)
        feeder.start()
        assert read_all("-") == (CONTENT, None)
        feeder.join()


def test_what_is_peeked_at_stays_to_be_read(write: Callable[[bytes], str]) -> None:
    with open_octets(write(b"abcdef")) as octets:
        assert octets.peek(4) == b"abcd"
        assert octets.peek(2) == b"ab"
        assert octets.peek(99) == b"abcdef"
        assert octets.position == 0
        assert octets.read(5) == b"abcde"
        assert octets.read(5) == b"f"
        assert octets.read(5) == b""
