"""Who has to do with a host's sockets: holders, openers, listeners, users.

Owns: when the dear search for holders is made and what it may cost, and what is told of sockets
whose holders nobody can find. Must not know how sockets move.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import lru_cache

from tcpwatch.machine.population import HostSocket
from tcpwatch.model.host import Holder, Holding
from tcpwatch.sources.holders import Holders
from tcpwatch.sources.sockdiag import Row

_SHARE = 0.01  # of a core that the search may take in the long run
_SEARCH_S = 2.0  # between two searches, while some holders are missing
_SEARCH_AGAIN_S = 30.0  # and while none are: a socket may be passed on
_SLICE_S = 0.004  # of a search, in each tick
_OPENERS = 4_096


class Owners:
    """The processes behind sockets; ``listening`` are our ports with their listeners' inodes."""

    def __init__(self, holders: Holders | None = None) -> None:
        self.listening: Mapping[int, int] = {}
        self._holders = holders or Holders()
        self._openers: OrderedDict[int, Holder] = OrderedDict()
        self._nameless: set[int] = set()
        self._wanted: frozenset[int] = frozenset()
        self._sought: frozenset[int] = frozenset()
        self._spent_s = self._cost_s = 0.0

    @property
    def refused(self) -> int:
        """How many processes do not show us their descriptors."""
        return self._holders.refused

    @property
    def searched(self) -> bool:
        """Whether all processes have been looked through once."""
        return self._holders.searched > 0

    def want(self, inodes: Iterable[int]) -> None:
        """Whose holders are to be known: those of what is visible."""
        self._wanted = frozenset(inode for inode in inodes if inode)

    def opened(self, pid: int) -> None:
        """That process called connect(): its name is asked for while it is there."""
        if pid in self._openers:
            self._openers.move_to_end(pid)
            return
        who = self._holders.process(pid)
        if who is None:
            self._nameless.add(pid)
            return
        self._remember(who)

    def _remember(self, who: Holder) -> None:
        self._openers[who.pid] = who
        if len(self._openers) > _OPENERS:
            self._openers.popitem(last=False)

    @property
    def nameless(self) -> bool:
        """Whether processes opened sockets and were gone before they could be asked."""
        return bool(self._nameless)

    def named(self, names: Mapping[int, str]) -> None:
        """What somebody else remembers of processes that are gone."""
        for pid in self._nameless:
            self._remember(Holder(pid, names.get(pid, "")))
        self._nameless = set()

    def search(self) -> None:
        """Goes on searching where somebody is missing, within what it may cost."""
        if not self._holders.searching:
            missing = [one for one in self._wanted - self._sought if not self._holders.knows(one)]
            pause_s = _SEARCH_S if missing else _SEARCH_AGAIN_S
            pause_s = max(pause_s, self._cost_s / _SHARE)
            if time.monotonic() - self._holders.began_s < pause_s:
                return
            # Whom this search does not find, nobody finds: a process that shows us nothing.
            self._sought = self._wanted
        began_s = time.thread_time()
        ended = self._holders.search(_SLICE_S)
        self._spent_s += time.thread_time() - began_s
        if ended:
            self._cost_s, self._spent_s = self._spent_s, 0.0

    def search_all(self) -> None:
        """Searches all processes at once, whatever it costs."""
        while not self._holders.search(1.0):
            pass

    def of(self, sock: HostSocket, row: Row | None) -> tuple[tuple[Holder, ...], Holding]:
        """The processes that have to do with a socket, and what. ``row``: as the table has it."""
        inode = row.inode if row is not None else sock.inode
        found = self._holders.of(inode) if inode else ()
        if found:
            return found, Holding.HOLDS
        opener = self._openers.get(sock.opener) if sock.opener else None
        if opener is not None:
            return (opener,), Holding.OPENED
        listener = self.listening.get(sock.local.port, 0)
        if listener and not inode and not sock.is_listener:
            found = self._holders.of(listener)
            if found:
                return found, Holding.LISTENS
        nobody = row is not None and not inode
        return (), Holding.NOBODY if nobody else Holding.UNKNOWN


@lru_cache(maxsize=1024)
def user_name(uid: int) -> str:
    """The name of a user, or the number where it has none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
