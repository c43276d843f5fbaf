"""A directory being listed: pages arrive one ahead of the reader, every cookie stays valid.

A cookie is the number of a name: the place right after it. A name gets its number when
it is first handed out and keeps it until the listing is rewound; no number is used
twice. So a seek lands exactly after the name it was told, forwards and backwards,
whatever was created or removed meanwhile: the bucket is listed again from that name on.
Names are kept as one bytes object a page (about the length of the names); a dictionary
of them is made only for a listing that seeks out of its page. Two pages with attributes
are held: the one being read and the next.

Invariant: between two seeks names come in key order, each at most once, and a name that
exists all the time is handed out exactly once. One reader at a time: the kernel
serialises readdir on an open directory.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Container, Sequence
from typing import NamedTuple

import trio

from ossfs.store.api import ListEntry, ListPage
from ossfs.store.errors import StoreError
from ossfs.tree.changes import Asked
from ossfs.tree.names import PageNames
from ossfs.tree.shared import PAGE_ENTRY

log = logging.getLogger(__name__)

START = 0
"""The cookie of the place before the first name."""
_INDEXED = 180
"""Bytes a name costs in the dictionary beside its own length: entry, bytes object, int."""

PageSource = Callable[[bytes, bytes, str | None], Awaitable[tuple[ListPage, Asked]]]
"""(prefix, start_after, token) -> page, and when it was asked for; start_after and token exclude
each other."""


class Named(NamedTuple):
    """One name of a directory; `entry` is None for a subdirectory."""

    name: bytes
    entry: ListEntry | None


class Page(NamedTuple):
    """Some neighbouring names of a listing, and when they were asked for."""

    names: list[Named]
    numbers: Sequence[int]
    """The cookie of each name."""
    previous: int
    """The cookie of the name before the first."""
    asked: Asked
    token: str | None

    @property
    def last(self) -> int:
        """The cookie of the last name, at which the next page begins."""
        return self.numbers[-1] if self.numbers else self.previous

    def after(self, cookie: int) -> int | None:
        """Return the index of the name after `cookie`, None when that lies elsewhere."""
        if cookie == self.previous:
            return 0
        try:
            return self.numbers.index(cookie) + 1
        except ValueError:
            return None


class _Told:
    """The names handed out so far and their numbers, from 1 on."""

    __slots__ = ("_first", "_index", "_next", "_packed", "held")

    def __init__(self) -> None:
        self._first: list[int] = []
        self._packed: list[bytes] = []
        """NUL-joined names, each numbered from its place in _first on; directories with a slash."""
        self._index: dict[bytes, int] | None = None
        self._next = 1
        self.held = 0
        """Bytes of memory."""

    def name(self, number: int) -> bytes | None:
        """Return the name with that number, None where nothing was told yet."""
        if not 0 < number < self._next:
            return None
        run = bisect_right(self._first, number) - 1
        return self._packed[run].split(b"\0")[number - self._first[run]]

    def add(self, names: list[bytes]) -> Sequence[int]:
        """Return the number of each name, a new one where it was not told before."""
        index = self._index
        if index is None:
            return self._append(names)
        self._append([name for name in names if name not in index])
        return [index[name] for name in names]

    def indexed(self) -> Container[bytes]:
        """Return all names; from now on a name may come again, and then keeps its number."""
        index = self._index
        if index is None:
            index = self._index = {}
            for first, packed in zip(self._first, self._packed, strict=True):
                index.update({name: first + i for i, name in enumerate(packed.split(b"\0"))})
            self.held += self.held + _INDEXED * len(index)
        return index

    def _append(self, names: list[bytes]) -> range:
        numbers = range(self._next, self._next + len(names))
        if names:
            packed = b"\0".join(names)
            self._first.append(self._next)
            self._packed.append(packed)
            self._next = numbers.stop
            self.held += len(packed)
            if self._index is not None:
                self._index.update(zip(names, numbers, strict=True))
                self.held += len(packed) + _INDEXED * len(names)
        return numbers


class _Ahead:
    """The page being fetched in the background."""

    __slots__ = ("asked", "done", "error", "page", "scope", "token")

    def __init__(self, token: str, asked: Asked) -> None:
        self.token = token
        self.asked = asked
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.page: tuple[ListPage, Asked] | None = None
        self.error: StoreError | None = None


class Listing:
    """One open directory's way through its names."""

    def __init__(
        self,
        prefix: bytes,
        source: PageSource,
        nursery: trio.Nursery,
        now: Callable[[], Asked],
        charge: Callable[[int], None],
        skipped: Callable[[list[bytes]], None],
    ) -> None:
        """`charge(±bytes)` counts the memory held; `skipped` is told keys that no path can hold."""
        self._prefix = prefix
        self._source = source
        self._nursery = nursery
        self._now = now
        self._charge = charge
        self._skipped = skipped
        self._held = 0
        self._ahead: _Ahead | None = None
        self._fetching: Asked | None = None
        self._begin()

    def _begin(self) -> None:
        self._names = PageNames(self._prefix)
        self._told = _Told()
        self._page: Page | None = None
        self._account()

    def rewind(self) -> None:
        """Start again: the next page is listed afresh."""
        self._cancel()
        self._begin()

    def follow(self, prefix: bytes) -> None:
        """Go on from the same place under another prefix, if the directory was renamed."""
        if prefix == self._prefix:
            return
        self._cancel()
        self._prefix = prefix
        if self._page is None:
            self._begin()
        else:  # tokens are of the old prefix: whatever comes next is looked for by its name
            self._page = self._page._replace(names=[], numbers=(), previous=-1, token=None)
            self._account()

    def close(self) -> None:
        """Give back what is held."""
        self._cancel()
        self._begin()

    @property
    def asked(self) -> Asked:
        """When the oldest page that is held, or on its way, was asked for; now if there is none."""
        pages = [page.asked for page in (self._page, self._ahead) if page is not None]
        if self._fetching is not None:
            pages.append(self._fetching)
        return min([self._now(), *pages])

    async def page_at(self, cookie: int) -> tuple[Page, int] | None:
        """Return a page and the index in it of the name after `cookie`, None behind the last name.

        A cookie that was never told lies ahead: it comes from another handle of the directory
        (an NFS server opens it anew for each request), where names had the same numbers.
        """
        page = self._page
        if page is None:
            page = await self._read(START, None)
        while True:
            index = page.after(cookie)
            if index is None:
                name = b"" if cookie == START else self._told.name(cookie)
                if name is not None:
                    page = await self._seek(cookie, name)
                    continue
            elif index < len(page.names):
                return page, index
            if page.token is None:
                return None
            page = await self._read(page.last, page.token)

    async def _read(self, previous: int, token: str | None) -> Page:
        return self._take(previous, *await self._fetch(b"", token))

    def _take(self, previous: int, raw: ListPage, asked: Asked) -> Page:
        """Make a page that has arrived the one being read."""
        names = [Named(name, entry) for name, entry in self._names.names(raw)]
        if self._names.skipped:
            self._skipped(self._names.skipped)
        numbers = self._told.add(list(map(_packed, names)))
        page = self._page = Page(names, numbers, previous, asked, raw.next_token)
        self._account()
        if raw.next_token is not None:
            ahead = self._ahead = _Ahead(raw.next_token, self._now())
            self._nursery.start_soon(self._fetch_ahead, ahead)
        return page

    async def _fetch(self, start_after: bytes, token: str | None) -> tuple[ListPage, Asked]:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            if ahead.token == token:
                self._fetching = ahead.asked
                try:
                    await ahead.done.wait()
                finally:
                    self._fetching = None
                if ahead.page is not None:
                    return ahead.page
                if ahead.error is not None:
                    raise ahead.error
            else:
                ahead.scope.cancel()
        self._fetching = self._now()
        try:
            return await self._source(self._prefix, start_after, token)
        finally:
            self._fetching = None

    async def _fetch_ahead(self, ahead: _Ahead) -> None:
        try:
            with ahead.scope:
                ahead.page = await self._source(self._prefix, b"", ahead.token)
        except StoreError as error:
            ahead.error = error
        except Exception:
            log.exception("unexpected failure while listing %r", self._prefix)
        finally:
            ahead.done.set()
            self._account()

    async def _seek(self, cookie: int, previous: bytes) -> Page:
        """List again from the name `previous` on; nothing changes unless that succeeds."""
        self._cancel()
        raw, asked = await self._fetch(self._prefix + previous if previous else b"", None)
        names = PageNames(self._prefix)
        names.resume(previous.rstrip(b"/"), self._told.indexed())
        self._names = names
        return self._take(cookie, raw, asked)

    def _cancel(self) -> None:
        if self._ahead is not None:
            self._ahead.scope.cancel()
            self._ahead = None

    def _account(self) -> None:
        held = self._told.held
        if self._page is not None:
            held += PAGE_ENTRY * len(self._page.names)
        if self._ahead is not None and self._ahead.page is not None:
            raw, _ = self._ahead.page
            held += PAGE_ENTRY * (len(raw.entries) + len(raw.prefixes))
        self._charge(held - self._held)
        self._held = held


def _packed(named: Named) -> bytes:
    return named.name if named.entry is not None else named.name + b"/"
