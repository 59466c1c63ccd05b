"""The wire as a play sees it: hold, drop, duplicate, delay, reorder, inject, wait.

Owns: the verbs and the handles that they give; each returns once the wire has acted. Must not
know processes or namespaces, nor touch a packet on its way: that is `Relay`'s, in its own thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, SupportsBytes

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.failures import LabClosed
from tcpwatch.lab.filters import Filter, Pick
from tcpwatch.lab.gate import Gate
from tcpwatch.lab.inject import Numbers, craft, numbers_of
from tcpwatch.lab.ports import Port
from tcpwatch.lab.relay import Relay, Rule
from tcpwatch.model.events import Fate, Point, SegmentSeen
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.witness import Observation
from tcpwatch.tcp.segment import Flags


class WireTimeout(TimeoutError):  # noqa: N818 - as the class it refines
    """What a verb waited for did not happen in time; the message says what did."""


class ActiveRule:
    """What the wire does to the segments that match, until `end` or the end of the ``with``."""

    def __init__(self, wire: Wire, rule: Rule) -> None:
        self._wire = wire
        self._rule = rule

    @property
    def acted(self) -> list[int]:
        """The numbers of the segments it was applied to, in order of sending."""
        return list(self._rule.acted)

    @property
    def dropped(self) -> list[int]:
        """The numbers of the segments it dropped."""
        return self.acted if self._rule.fate is Fate.DROPPED else []

    def wait(self, count: int = 1, timeout_s: float | None = None) -> None:
        """Until it was applied to ``count`` segments. Raises WireTimeout, LabClosed."""
        self._wire.await_(
            lambda: len(self._rule.acted) >= count,
            lambda: f"{len(self._rule.acted)} of {count} segments were {self}",
            timeout_s,
        )

    def end(self) -> None:
        """No longer apply it, and deliver in order what it still keeps. Raises LabClosed."""
        self._wire.relay.call(lambda: self._wire.relay.end(self._rule))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.end()
        except LabClosed:
            if error is None:  # else what ended the block is the better story
                raise

    def __repr__(self) -> str:
        return f"{self._rule.fate.value} by {self._rule.pick}"


class Hold(ActiveRule):
    """Segments that wait at their receiver's door, having travelled, until they are released."""

    @property
    def segments(self) -> list[SegmentSeen]:
        """Those that wait now, in order of sending."""
        with self._wire.relay.changed:
            kept = self._wire.relay.kept_by(self._rule)
        return [flight.seen for flight in kept if flight.seen]

    def wait(self, count: int = 1, timeout_s: float | None = None) -> None:
        """Until ``count`` segments wait at the door. Raises WireTimeout, LabClosed."""
        self._wire.await_(
            lambda: len(self._wire.relay.kept_by(self._rule)) >= count,
            lambda: f"{len(self.segments)} of {count} segments were {self}",
            timeout_s,
        )

    def release(self) -> None:
        """End the hold: all that was sent before now and matches is delivered in order of sending.

        They are delivered once the last of them has travelled, back to back, before anything that
        they provoke. Raises LabClosed.
        """
        self.end()

    def release_one(self, n: int | None = None, timeout_s: float | None = None) -> int:
        """Deliver segment ``n`` (None: the first sent), waiting for one to come; the hold goes on.

        Returns its number. Raises WireTimeout, LabClosed.
        """
        self._wire.await_(
            lambda: any(n in (None, seen.n) for seen in self.segments),
            lambda: f"segment {n or ''} was not {self}",
            timeout_s,
        )
        return self._wire.relay.call(lambda: self._wire.relay.release_one(self._rule, n))

    def drop(self) -> list[int]:
        """Drop all it holds, also what still travels; their numbers. The hold goes on."""
        return self._wire.relay.call(lambda: self._wire.relay.drop_kept(self._rule))


class Wire:
    """The wire between two hosts; relays from its construction until `close`.

    ``ports`` maps the two hosts' names to their ports, which the caller closes after the wire.
    ``emit`` is called in the wire's thread, in order of time. ``latency_ms`` is one way;
    ``patience_s`` is how long a verb waits for something to happen where it is not told.
    """

    def __init__(
        self,
        ports: Mapping[str, Port],
        emit: Callable[[Observation], None],
        *,
        latency_ms: float = 20,
        patience_s: float = 10,
    ) -> None:
        self._patience_s = patience_s
        self._hosts = tuple(ports)
        self.relay = Relay(ports, emit, round(latency_ms * 1e6))

    @property
    def gate(self) -> Gate:
        """What a person steps through the wire with: open unless somebody shuts it."""
        return self.relay.gate

    def watermark(self) -> int:
        """CLOCK_MONOTONIC nanoseconds before which the wire emits nothing more. Any thread."""
        return self.relay.watermark()

    def close(self) -> None:
        """End the wire: what is on it is LOST, and verbs in progress raise LabClosed. Idempotent.

        Raises what had stopped the wire's thread, if something had.
        """
        self.relay.close()

    # ---- rules

    def hold(
        self,
        match: Filter,
        *,
        by: str | None = None,
        nth: int | None = None,
        count: int | None = None,
    ) -> Hold:
        """Stop matching segments at their receiver's door until the hold ends."""
        return Hold(self, self._begin(Rule(Fate.HELD, self._pick(match, by, nth, count))))

    def drop(
        self,
        match: Filter,
        *,
        by: str | None = None,
        nth: int | None = None,
        count: int | None = None,
    ) -> ActiveRule:
        """Drop the ``nth`` match, the first ``count``, or all until the rule ends."""
        rule = Rule(Fate.DROPPED, self._pick(match, by, nth, count))
        return ActiveRule(self, self._begin(rule))

    def duplicate(
        self,
        match: Filter,
        *,
        copies: int = 1,
        by: str | None = None,
        nth: int | None = None,
        count: int | None = None,
    ) -> ActiveRule:
        """Let each match be followed by ``copies`` of itself.

        A copy has a number of its own and no SENT: DUPLICATED says of which segment it is one.
        """
        rule = Rule(Fate.DUPLICATED, self._pick(match, by, nth, count), copies=copies)
        return ActiveRule(self, self._begin(rule))

    def delay(
        self,
        match: Filter,
        ms: float,
        *,
        by: str | None = None,
        nth: int | None = None,
        count: int | None = None,
    ) -> ActiveRule:
        """Let each match travel ``ms`` milliseconds longer; later ones may overtake it."""
        rule = Rule(Fate.DELAYED, self._pick(match, by, nth, count), delay_ns=round(ms * 1e6))
        return ActiveRule(self, self._begin(rule))

    def reorder(
        self,
        match: Filter,
        *,
        behind: int = 1,
        by: str | None = None,
        nth: int | None = None,
        count: int | None = None,
    ) -> ActiveRule:
        """Let each match wait until ``behind`` later segments of its direction have passed it.

        Where they do not come, it waits until the rule ends.
        """
        rule = Rule(Fate.REORDERED, self._pick(match, by, nth, count), behind=behind)
        return ActiveRule(self, self._begin(rule))

    # ---- injection

    def inject(
        self,
        to: str,
        packet: SupportsBytes | None = None,
        *,
        flags: str | Flags = "A",
        seq: int | None = None,
        ack: int | None = None,
        src: SocketAddress | None = None,
        dst: SocketAddress | None = None,
        window: int = 65535,
        payload: bytes = b"",
        options: Sequence[tuple[str, object]] = (),
    ) -> int:
        """Deliver a segment to a host at once, as if the other host had sent it; its number.

        ``packet`` is a whole IP packet (scapy's, or bytes). Without it one is crafted: addresses
        are those of the connection seen last, ``seq`` and ``ack`` exactly what the host expects
        next. Rules do not apply to it. Raises LabClosed; ValueError where it is no IP packet;
        TcpwatchError where there is no connection to take numbers from.
        """
        self._known(to)
        if packet is None:
            bits = Flags.from_letters(flags) if isinstance(flags, str) else flags
            acks = bool(bits & Flags.ACK)
            if src is None or dst is None or seq is None or (acks and ack is None):
                expects = self.numbers(to, dst, src)
                src, dst = expects.remote, expects.local
                seq = int(expects.rcv_nxt or 0) if seq is None else seq
                ack = int(expects.snd_nxt or 0) if acks and ack is None else ack
            packet = craft(src, dst, bits, seq, ack, window, payload, options)
        raw = bytes(packet)
        if raw[:1] == b"" or raw[0] >> 4 not in (4, 6):
            raise ValueError("what is injected must begin with its IP header")
        return self.relay.call(lambda: self.relay.inject(to, raw))

    def inject_rst(
        self,
        to: str,
        *,
        offset: int = 0,
        src: SocketAddress | None = None,
        dst: SocketAddress | None = None,
    ) -> int:
        """Deliver a RST that the host accepts (RFC 9293 3.10.7.4), or is ``offset`` octets beside.

        In SYN-SENT, where nothing was received yet, it is accepted for the SYN that it
        acknowledges; otherwise its sequence number must be RCV.NXT exactly (RFC 5961 3.2).
        """
        self._known(to)
        expects = self.numbers(to, dst, src)
        src, dst = expects.remote, expects.local
        if expects.rcv_nxt is None and expects.snd_nxt is not None:
            ack = int(expects.snd_nxt) + offset
            return self.inject(to, flags="RA", seq=0, ack=ack, src=src, dst=dst)
        seq = int(expects.rcv_nxt or 0) + offset
        return self.inject(to, flags="R", seq=seq, src=src, dst=dst)

    def numbers(
        self, host: str, local: SocketAddress | None = None, remote: SocketAddress | None = None
    ) -> Numbers:
        """What ``host`` expects next on that connection (None: the one seen last).

        Raises TcpwatchError where no segment of such a connection has passed.
        """
        self._known(host)
        with self.relay.changed:
            passed = [(passage.by, passage.seen) for passage in self.relay.passages]
        numbers = numbers_of(passed, host, local, remote)
        if numbers is None:
            raise TcpwatchError(
                f"no connection of {host} has passed the wire to take numbers from",
                "inject after its first segment, or give src, dst, seq and ack",
                ExitCode.USAGE,
            )
        return numbers

    # ---- waiting and looking

    def mark(self) -> int:
        """The present moment, for the ``since`` of `wait_for`."""
        with self.relay.changed:
            return self.relay.passages[-1].order if self.relay.passages else 0

    def wait_for(
        self,
        match: Filter,
        *,
        by: str | None = None,
        point: Point = Point.SENT,
        count: int = 1,
        since: int = 0,
        timeout_s: float | None = None,
    ) -> SegmentSeen:
        """Until the ``count``-th match was sent or delivered; returns it.

        ``since`` is a `mark`; 0 counts from the beginning (as far as the wire remembers: the
        last 10,000 segments). Raises WireTimeout, LabClosed.
        """
        pick = self._pick(match, by, None, None)
        found: list[SegmentSeen] = []
        looked_at = since

        def enough() -> bool:
            nonlocal looked_at
            fresh = []
            for passage in reversed(self.relay.passages):
                if passage.order <= looked_at:
                    break
                fresh.append(passage)
            for passage in reversed(fresh):
                looked_at = passage.order
                if passage.seen.point is point and pick.takes(passage.seen, passage.by):
                    found.append(passage.seen)
            return len(found) >= count

        self.await_(
            enough,
            lambda: f"{len(found)} of {count} segments matching {pick} were {point.value}",
            timeout_s,
        )
        return found[count - 1]

    @property
    def idle(self) -> bool:
        """Whether no segment is in flight or kept, nor sent and not yet read. Raises LabClosed."""
        return self.relay.call(self.relay.is_idle)

    def wait_idle(self, timeout_s: float | None = None) -> None:
        """Until it is `idle`. Raises WireTimeout, LabClosed."""
        patience_s = self._patience_s if timeout_s is None else timeout_s
        try:
            self.relay.call(lambda: self.relay.is_idle() or None, patience_s)
        except TimeoutError:
            kept = len(self.relay.kept)
            raise self._too_late(
                f"the wire was not idle ({kept} segments held on it)", patience_s
            ) from None

    def segments(self, by: str | None = None) -> list[SegmentSeen]:
        """What was sent, in order: the last thousands of segments."""
        with self.relay.changed:
            return [
                passage.seen
                for passage in self.relay.passages
                if passage.seen.point is Point.SENT and by in (None, passage.by)
            ]

    def await_(
        self, true: Callable[[], bool], what: Callable[[], str], timeout_s: float | None
    ) -> None:
        """Until ``true()``, looked at after each change. Raises WireTimeout saying ``what()``."""
        patience_s = self._patience_s if timeout_s is None else timeout_s
        if not self.relay.until(true, patience_s):
            raise self._too_late(what(), patience_s)

    def _too_late(self, what: str, patience_s: float) -> WireTimeout:
        last = ", ".join(
            f"#{seen.n} {seen.segment.flags.letters} from {seen.src}"
            for seen in self.segments()[-5:]
        )
        return WireTimeout(f"{what} within {patience_s:g} s; last sent: {last or 'nothing'}")

    def _begin(self, rule: Rule) -> Rule:
        self.relay.call(lambda: self.relay.begin(rule))
        return rule

    def _pick(self, match: Filter, by: str | None, nth: int | None, count: int | None) -> Pick:
        if by is not None:
            self._known(by)
        return Pick(match, by, nth, count)

    def _known(self, host: str) -> None:
        if host not in self._hosts:
            raise TcpwatchError(
                f"{host!r} is not on this wire",
                f"its hosts are {' and '.join(self._hosts)}",
                ExitCode.USAGE,
            )
