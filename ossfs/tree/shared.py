"""Listings that several handles read: a directory that many list at once is fetched once.

A `Walk` is one way through a directory's pages, from the first on. Who begins to list joins a walk
that began no longer ago than a listing may be old, and gets its pages: those that are here, those
on their way, and the next ones, which the first to want one fetches for all. How old that is says
kernel_readdir_cache_timeout; without it only walks that others are on can be joined, and those of
the last JOIN seconds. Those on an older one share it to its end. A change made here ends the walks
of its directory: nobody joins them any more, and those on them fetch the rest by themselves.

Pages here are the bucket's own; what is still being written each handle adds for itself. They are
charged to the budget, and beyond `room` the longest held go, to be fetched again by whoever still
comes along. On the trio loop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

from ossfs.runtime.single_flight import SingleFlight
from ossfs.store.api import ListPage
from ossfs.tree.changes import Asked

JOIN = 1.0
"""Seconds for which a walk that others are on may be joined, if attributes are believed as long."""
PAGE_ENTRY = 500
"""Bytes an entry of a page costs with its attributes (by tracemalloc, with a key of 50 bytes)."""

Fetch = Callable[[], Awaitable[ListPage]]


class Walk:
    """One way through the pages of a directory."""

    __slots__ = ("_shared", "asked", "over", "pages", "prefix", "users")

    def __init__(self, shared: SharedListings, prefix: bytes, asked: Asked) -> None:
        self._shared = shared
        self.prefix = prefix
        self.asked = asked
        """When it began."""
        self.users = 0
        self.over = False
        """Something was changed here since: its pages are for nobody else."""
        self.pages: dict[str | None, tuple[ListPage, Asked]] = {}
        """By token; None is the first."""

    async def page(self, token: str | None, fetch: Fetch) -> tuple[ListPage, Asked]:
        """Return the page that a token leads to and when it was asked for."""
        return await self._shared.page(self, token, fetch)

    def leave(self) -> None:
        """Note that one of its handles is through."""
        self._shared.leave(self)


class SharedListings:
    """The walks of a mount, by the directory's prefix."""

    def __init__(self, now: Callable[[], Asked], charge: Callable[[int], None], room: int) -> None:
        """`charge(±bytes)` counts the memory held, `room` bytes at most."""
        self._now = now
        self._charge = charge
        self._room = room
        self._walks: dict[bytes, list[Walk]] = {}
        """The last one of a directory may be joined; on those before it somebody is still."""
        self._held: OrderedDict[tuple[Walk, str | None], int] = OrderedDict()
        self._total = 0
        self._flights: SingleFlight[tuple[Walk, str | None], tuple[ListPage, Asked]] = (
            SingleFlight()
        )
        self.life = 0.0
        """kernel_readdir_cache_timeout: seconds for which walks are kept."""

    def begin(self, prefix: bytes, patience: float, left: Walk | None) -> Walk:
        """Return the walk to list a directory by; `left` is the one a handle has been on before.

        `patience` is how long, in seconds, other names and attributes are believed.
        """
        if left is not None:
            self.leave(left)
        asked = self._now()
        walks = self._walks.get(prefix)
        walk = walks[-1] if walks else None
        if walk is not None:
            age = asked.at - walk.asked.at
            # Who lists anew what he has listed himself wants it fresh.
            joins = walk is not left and walk.users and age < min(JOIN, patience)
            if not (joins or age < self.life):
                if not walk.users:
                    self._end(walk)
                walk = None
        if walk is None:
            walk = Walk(self, prefix, asked)
            self._walks.setdefault(prefix, []).append(walk)
        walk.users += 1
        return walk

    def leave(self, walk: Walk) -> None:
        walk.users -= 1
        if not walk.users and not walk.over:
            last = self._walks[walk.prefix][-1] is walk
            if not (last and self.life):
                self._end(walk)

    def changed(self, prefix: bytes, name: bytes) -> None:
        """Note that `name` in a directory was changed by this mount."""
        for one in (prefix, prefix + name + b"/"):
            for walk in list(self._walks.get(one, ())):
                self._end(walk)

    def clear(self) -> None:
        """End all walks: a directory was renamed, and with it everything below."""
        for walk in self._all():
            self._end(walk)

    def __bool__(self) -> bool:
        return bool(self._walks)

    def sweep(self) -> None:
        """Drop walks that are too old for anybody; every few seconds."""
        now = self._now().at
        for walk in self._all():
            age = now - walk.asked.at
            if not walk.users and age >= self.life:
                self._end(walk)
            elif walk.users == 1 and age >= max(JOIN, self.life):
                self._drop(walk)  # its one user has them already

    def _all(self) -> list[Walk]:
        return [walk for walks in self._walks.values() for walk in walks]

    async def page(self, walk: Walk, token: str | None, fetch: Fetch) -> tuple[ListPage, Asked]:
        async def fetched() -> tuple[ListPage, Asked]:
            asked = self._now()
            page = await fetch(), asked
            self._hold(walk, token, page)
            return page

        if walk.over:
            asked = self._now()
            return await fetch(), asked
        held = walk.pages.get(token)
        return held if held is not None else await self._flights.run((walk, token), fetched)

    def _hold(self, walk: Walk, token: str | None, page: tuple[ListPage, Asked]) -> None:
        alone = walk.users <= 1 and not self.life
        if walk.over or (alone and self._now().at - walk.asked.at >= JOIN):
            self._drop(walk)  # nobody can come along any more
            return
        size = PAGE_ENTRY * (len(page[0].entries) + len(page[0].prefixes))
        walk.pages[token] = page
        self._held[walk, token] = size
        self._count(size)
        while self._total > self._room:
            (other, its), size = self._held.popitem(last=False)
            del other.pages[its]
            self._count(-size)

    def _end(self, walk: Walk) -> None:
        walk.over = True
        walks = self._walks.get(walk.prefix, [])
        if walk in walks:
            walks.remove(walk)
            if not walks:
                del self._walks[walk.prefix]
        self._drop(walk)

    def _drop(self, walk: Walk) -> None:
        for token in walk.pages:
            self._count(-self._held.pop((walk, token)))
        walk.pages.clear()

    def _count(self, size: int) -> None:
        self._total += size
        self._charge(size)
