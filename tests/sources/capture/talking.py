"""Connections as captures show them: well-behaved, and then lossy, torn, reused or strange.

Owns: how such a one is made of random choices. Its segments need not make sense; both ways of
reading must make the same of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
_LENGTHS = (1, 2, 3, 100, 300, 400, 535, 536, 700, 1448, 9000)
_WRAP = 1 << 32


class Said(NamedTuple):
    """A segment; ``out``: the client sent it. ``pause_ns`` is how long after the one before.

    ``cut``: the capture has not all of it.
    """

    pause_ns: int
    out: bool
    flags: int
    seq: int
    ack: int
    window: int
    shift: int
    payload: int
    cut: bool = False


class _Talk:
    def __init__(self, random: Random, windows: tuple[int, ...], shift: int) -> None:
        self.random, self.windows, self.shift = random, windows, shift
        self.next = [random.choice((5, _WRAP - 400, random.randrange(_WRAP))) for _ in range(2)]
        self.has = [0, 0]  # of the other's octets, as far as it says so
        self.said: list[Said] = []

    def say(self, end: int, flags: int, payload: int = 0, *, late: int = 0) -> None:
        """``late``: how much less than it has it acknowledges."""
        random = self.random
        pauses = (0, 1000, 1000, 50_000, 2_000_000)
        pause = (
            random.choice(pauses) if random.random() < 0.99 else random.choice((4, 6, 70)) * 10**9
        )
        ack = (self.has[end] - late) % _WRAP if flags & ACK else 0
        window = random.choice(self.windows)
        shift = self.shift if flags & SYN else -1
        seq = self.next[end] % _WRAP
        self.said.append(Said(pause, end == 0, flags, seq, ack, window, shift, payload))
        self.next[end] += payload + bool(flags & SYN) + bool(flags & FIN)

    def hear(self, end: int) -> None:
        self.has[end] = self.next[1 - end]


def talk(random: Random, most: int = 12, *, begins: int | None = None) -> list[Said]:
    """One connection, all of it as it should be. ``begins``: the number of the client's SYN."""
    windows = random.choice(((65_535,), (501, 502), (64_240, 29_200), (2000,)))
    it = _Talk(random, windows, random.choice((-1, 7, 7)))
    if begins is not None:
        it.next[0] = begins
    _open(it)
    for _ in range(random.randrange(most)):
        _exchange(it)
    _close(it)
    return it.said


def _open(it: _Talk) -> None:
    if it.random.random() < 0.15:  # it had begun before
        it.has = list(reversed(it.next))
        return
    it.say(0, SYN)
    if it.random.random() < 0.1:
        return
    it.hear(1)
    it.say(1, SYN | ACK)
    it.hear(0)
    if it.random.random() < 0.9:
        it.say(0, ACK)


def _exchange(it: _Talk) -> None:
    random = it.random
    end = random.randrange(2)
    for _ in range(random.choice((1, 1, 2, 5))):
        it.say(end, ACK | PSH, random.choice(_LENGTHS))
        if random.random() < 0.4:
            it.hear(1 - end)
            it.say(1 - end, ACK)
    if random.random() < 0.8:
        it.hear(1 - end)
        if random.random() < 0.5:
            it.say(1 - end, ACK)


def _close(it: _Talk) -> None:
    random = it.random
    how, end = random.random(), random.randrange(2)
    if how < 0.2:
        return
    if how < 0.35:
        it.say(end, random.choice((RST, RST | ACK)))
        return
    it.say(end, FIN | ACK, random.choice((0, 0, 200)))
    if how < 0.45:
        return
    if how < 0.8:
        it.hear(1 - end)
        if random.random() < 0.5:
            it.say(1 - end, ACK)
    it.say(1 - end, FIN | ACK)
    it.hear(1 - end)
    it.hear(end)
    for each in (end, 1 - end):
        if random.random() < 0.8:
            it.say(each, ACK)


def mutated(said: list[Said], random: Random) -> list[Said]:
    """The same as a bad wire or a bad capture shows it."""
    said = list(said)
    for _ in range(random.choice((0, 0, 1, 1, 2, 4))):
        if not said:
            break
        at = random.randrange(len(said))
        one = said[at]
        match random.randrange(11):
            case 0:
                del said[at]
            case 1:
                said.insert(random.randrange(at, min(at + 5, len(said)) + 1), one)
            case 2 if at + 1 < len(said):
                said[at], said[at + 1] = said[at + 1], said[at]
            case 3:
                said[at] = one._replace(window=0)
            case 4:
                probe = one._replace(
                    seq=(one.seq - 1) % _WRAP, payload=random.randrange(2), flags=ACK
                )
                said.insert(at + 1, probe)
            case 5:
                said[at] = one._replace(ack=(one.ack + random.choice((-1, 1, 5000))) % _WRAP)
            case 6:
                reset = random.choice((RST, RST | ACK))
                said.insert(at + 1, one._replace(flags=reset, payload=0, shift=-1))
            case 7:
                said = said[at:]
            case 8:
                said[at] = one._replace(payload=one.payload + random.choice((1, 1448)))
            case 9:
                said[at + 1 :] = _half_open(one, random, said[at + 1 :])
            case _:
                anew = one._replace(flags=SYN, seq=random.randrange(_WRAP), ack=0, payload=0)
                said.insert(at + 1, anew)
    return said


def _half_open(one: Said, random: Random, rest: list[Said]) -> list[Said]:
    """An end crashed after ``one`` and calls again, while its peer still has the connection."""
    crashed = random.choice((one.out, not one.out))
    seq, ack = (one.ack, one.seq + one.payload) if one.out == crashed else (one.seq, one.ack)
    syn = one._replace(out=crashed, flags=SYN, seq=random.randrange(_WRAP), ack=0, payload=0)
    challenge = Said(1000, not crashed, ACK, seq, ack % _WRAP, one.window, -1, 0)
    reset = Said(1000, crashed, RST, ack % _WRAP, 0, 0, -1, 0)
    story = [syn, challenge, reset, syn, *(late._replace(pause_ns=10**9) for late in rest[:1])]
    for _ in range(random.choice((0, 0, 1))):
        del story[random.randrange(len(story))]
    anew = [each._replace(out=each.out == crashed) for each in talk(random, begins=syn.seq)]
    return [*story, *anew, *rest[random.choice((0, len(rest))) :]]


def talks(seed: int, most: int = 12, *, mutate: bool = True) -> Iterator[list[Said]]:
    """Several for one tuple, one behind the other: mostly it is one."""
    random = Random(seed)  # noqa: S311 - the same for the same seed
    while True:
        said: list[Said] = []
        for _ in range(random.choice((1, 1, 1, 1, 2, 3))):
            said += talk(random, most)
        yield mutated(said, random) if mutate and random.random() < 0.6 else said


def transfer(seed: int, *, mar: bool) -> list[Said]:
    """A long one: one end sends, the other acknowledges, mostly. ``mar``: and not all goes well."""
    random = Random(seed)  # noqa: S311 - the same for the same seed
    windows = random.choice(((65_535,), (501, 502), (64_240, 29_200), (8000, 4000, 2000)))
    it = _Talk(random, windows, random.choice((-1, 7, 7)))
    _open(it)
    for _ in range(random.choice((1, 1, 2, 3))):
        _stream(it, random.randrange(2), random.randrange(100, 500))
        for _ in range(random.randrange(3)):
            _exchange(it)
    _close(it)
    if not mar:
        return it.said
    cut = random.choice((1 << 30, 1 << 30, 0, 1000))
    said = [one._replace(cut=one.payload > cut) for one in it.said]
    for _ in range(random.choice((0, 0, 1, 1, 2, 5))):
        said = _marred(said, random)
    return mutated(said, random) if random.random() < 0.3 else said


def _stream(it: _Talk, end: int, segments: int) -> None:
    random = it.random
    lengths = random.choice(((1448,), (1448, 1448, 1448, 700), (2, 1448), (65_000,)))
    flight, lags = random.choice((1, 2, 2, 10, 60)), random.random() < 0.5
    heard: list[int] = []  # what the receiver has, as the captures sees it some time after
    for count in range(segments):
        it.say(end, ACK, random.choice(lengths))
        heard.append(it.next[end])
        if count % flight == flight - 1 and (not lags or len(heard) > flight):
            it.has[1 - end] = heard[-flight] if lags else heard[-1]
            it.say(1 - end, ACK)
    if random.random() < 0.9:
        it.hear(1 - end)
        it.say(1 - end, ACK)


def _marred(said: list[Said], random: Random) -> list[Said]:
    """The same with a loss that is mended, an acknowledgement too many, a pause, or a short one."""
    if len(said) < 20:
        return said
    said = list(said)
    at = random.randrange(10, len(said) - 5)
    one = said[at]
    match random.randrange(6):
        case 0:  # lost before the capture, and sent again
            del said[at]
            said.insert(random.randrange(at, min(at + 40, len(said))), one)
        case 1:  # lost behind it
            said.insert(random.randrange(at, min(at + 40, len(said))), one)
        case 2:
            said[at:at] = [one._replace(pause_ns=10)] * random.choice((1, 3)) * (not one.payload)
        case 3:
            said[at] = one._replace(pause_ns=random.choice((7, 61, 400)) * 10**9)
        case 4:
            said[at] = one._replace(cut=not one.cut and one.payload > 0)
        case _:
            said[at] = one._replace(window=random.choice((0, 1, 3000)))
    return said
