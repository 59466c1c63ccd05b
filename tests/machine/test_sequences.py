"""One end's place in the sequence space, whatever comes in whichever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tcpwatch.machine.rows import missing
from tcpwatch.machine.sequences import Sequences
from tcpwatch.tcp.segment import Flags, Segment
from tcpwatch.tcp.seq import SeqNumber

BEGUN = Sequences(irs=SeqNumber(2**32 - 1), rcv_nxt=SeqNumber(0))


def data(start: int, length: int) -> Segment:
    return Segment(SeqNumber(start), SeqNumber(1), Flags.ACK, payload_len=length)


@given(st.permutations(range(12)))
def test_pieces_that_adjoin_are_one(order: list[int]) -> None:
    book = BEGUN
    for place in order:
        if place:
            book, _ = book.take(data(place * 10, 10))
    assert book.received == ((SeqNumber(10), SeqNumber(120)),)
    book, _ = book.take(data(0, 10))
    assert (book.rcv_nxt, book.received) == (SeqNumber(120), ())


def test_holes_without_end_take_no_memory_without_end() -> None:
    book = BEGUN
    for place in range(1, 1000):
        book, _ = book.take(data(place * 20, 10))
    assert len(book.received) == 256


def test_a_fin_that_came_early_counts_once_all_before_it_is_there() -> None:
    fin = Segment(SeqNumber(20), SeqNumber(1), Flags.ACK | Flags.FIN)
    book, counts = BEGUN.take(fin)
    assert not counts
    book, counts = book.take(data(10, 10))
    assert not counts
    book, counts = book.take(data(0, 10))
    assert (book.rcv_nxt, counts) == (SeqNumber(21), True)


def repeated(*pieces: tuple[int, int]) -> list[bool]:
    """Of one end's pieces, as (start, end): which of them it had sent before."""
    book, found = Sequences(), []
    for start, end in pieces:
        segment = data(start, end - start)
        found.append(book.is_repeated(segment))
        book = book.sent(segment)
    return found


def test_what_is_seen_late_is_not_sent_again() -> None:
    assert repeated((1, 5), (9, 12), (5, 9), (5, 9)) == [False, False, False, True]
    assert repeated((1, 5), (20, 30), (10, 15), (5, 10), (15, 20)) == [False] * 5
    assert repeated((1, 5), (9, 12), (1, 5), (3, 9)) == [False, False, True, True]


def test_holes_are_remembered_while_they_are_few() -> None:
    holes = [(n * 10, n * 10 + 5) for n in range(20)]
    late = repeated(*holes, (5, 10), (185, 190))
    assert late[-2:] == [True, False]


NUMBERS = st.integers(0, 2**32 - 1).map(SeqNumber)
ANYTHING = st.tuples(
    st.integers(0, 1),
    st.builds(
        Segment, NUMBERS, st.none() | NUMBERS, st.just(Flags.ACK), payload_len=st.integers(0, 65535)
    ),
)


@given(st.lists(ANYTHING, max_size=8))
def test_nothing_is_missing_less_than_once(seen: list[tuple[int, Segment]]) -> None:
    """Found by the fuzzer: numbers half the space apart came before what they follow."""
    assert min(missing(seen)) >= 0
