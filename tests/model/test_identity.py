"""One spelling of an address, wherever it was read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwatch.model.identity import FourTuple, SocketAddress

ADDRESSES = st.builds(
    SocketAddress, st.ip_addresses().map(str), st.integers(min_value=0, max_value=0xFFFF)
)


@given(ADDRESSES)
def test_an_address_is_read_as_it_is_written(address: SocketAddress) -> None:
    assert SocketAddress.parse(str(address)) == address


@given(st.ip_addresses(v=4))
def test_a_v4_mapped_address_is_the_ipv4_address(ip: object) -> None:
    assert SocketAddress(f"::ffff:{ip}", 80) == SocketAddress(str(ip), 80)


def test_a_long_spelling_is_the_same_address() -> None:
    assert SocketAddress("2001:0DB8:0:0::1", 80) == SocketAddress("2001:db8::1", 80)


@pytest.mark.parametrize("text", ["", "10.0.0.1", "10.0.0.1:", "10.0.0.300:80", "host:80"])
def test_what_is_no_address_and_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        SocketAddress.parse(text)


@given(ADDRESSES, ADDRESSES)
def test_the_other_end_sees_the_same_connection_flipped(
    here: SocketAddress, there: SocketAddress
) -> None:
    seen = FourTuple(here, there)

    assert seen.flipped == FourTuple(there, here)
    assert seen.flipped.flipped == seen
