"""A directory being listed: pages arrive one ahead of the reader, every cookie stays valid.

A cookie is the number of names handed out before it. Names of finished pages are kept
as one bytes object a page (about the length of the names), so that a seek back lands
exactly after the name it was told, by listing again from that name on. Two pages with
attributes are held: the one being read and the next.

Invariant: names come in key order, each at most once, and a name that exists through
the whole listing is handed out exactly once, whatever is created or removed meanwhile.
One reader at a time: the kernel serialises readdir on an open directory.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

from ossfs.store.api import ListEntry, ListPage
from ossfs.store.errors import StoreError
from ossfs.tree.names import PageNames

log = logging.getLogger(__name__)

PageSource = Callable[[bytes, bytes, str | None], Awaitable[ListPage]]
"""(prefix, start_after, token) -> page; start_after and token exclude each other."""


class Named(NamedTuple):
    """One name of a directory; `entry` is None for a subdirectory."""

    name: bytes
    entry: ListEntry | None


class Page(NamedTuple):
    """Names [first, first + len(names)) of a listing, and when they were asked for."""

    first: int
    names: list[Named]
    asked: float
    token: str | None


class _Ahead:
    """The page being fetched in the background."""

    __slots__ = ("done", "error", "page", "scope", "token")

    def __init__(self, token: str) -> None:
        self.token = token
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.page: tuple[ListPage, float] | None = None
        self.error: StoreError | None = None


class Listing:
    """One open directory's way through its names."""

    def __init__(
        self,
        prefix: bytes,
        source: PageSource,
        nursery: trio.Nursery,
        now: Callable[[], float],
        charge: Callable[[int], None],
        skipped: Callable[[list[bytes]], None],
    ) -> None:
        """`charge(±bytes)` accounts for memory; `skipped` is told keys that no path can hold."""
        self._prefix = prefix
        self._source = source
        self._nursery = nursery
        self._now = now
        self._charge = charge
        self._skipped = skipped
        self._held = 0
        self._ahead: _Ahead | None = None
        self._begin()

    def _begin(self) -> None:
        self._names = PageNames(self._prefix)
        self._past: list[tuple[int, bytes]] = []
        """(first, NUL-joined names) of every page read so far; a directory's ends in a slash."""
        self._page: Page | None = None
        self._hold(-self._held)

    def rewind(self) -> None:
        """Start again: the next page is listed afresh."""
        self._cancel()
        self._begin()

    def close(self) -> None:
        """Give back what is held."""
        self._cancel()
        self._hold(-self._held)

    async def page_at(self, position: int) -> Page | None:
        """Return a page that holds the name at `position`, None behind the last name."""
        page = self._page
        if page is None:
            page = await self._read(0, None)
        elif position < page.first:
            page = await self._seek(position)
        while position >= page.first + len(page.names):
            if page.token is None:
                return None
            page = await self._read(page.first + len(page.names), page.token)
        return page

    async def _read(self, first: int, token: str | None) -> Page:
        return self._take(first, *await self._fetch(b"", token))

    def _take(self, first: int, raw: ListPage, asked: float) -> Page:
        """Make a page that has arrived the one being read."""
        names = [Named(name, entry) for name, entry in self._names.names(raw)]
        if self._names.skipped:
            self._skipped(self._names.skipped)
        page = self._page = Page(first, names, asked, raw.next_token)
        if names:
            self._remember(first, b"\0".join(map(_packed, names)))
        if raw.next_token is not None:
            ahead = self._ahead = _Ahead(raw.next_token)
            self._nursery.start_soon(self._fetch_ahead, ahead)
        return page

    async def _fetch(self, start_after: bytes, token: str | None) -> tuple[ListPage, float]:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            if ahead.token == token:
                await ahead.done.wait()
                if ahead.page is not None:
                    return ahead.page
                if ahead.error is not None:
                    raise ahead.error
            else:
                ahead.scope.cancel()
        asked = self._now()
        return await self._source(self._prefix, start_after, token), asked

    async def _fetch_ahead(self, ahead: _Ahead) -> None:
        try:
            with ahead.scope:
                asked = self._now()
                ahead.page = (await self._source(self._prefix, b"", ahead.token), asked)
        except StoreError as error:
            ahead.error = error
        except Exception:
            log.exception("unexpected failure while listing %r", self._prefix)
        finally:
            ahead.done.set()

    async def _seek(self, position: int) -> Page:
        """List again from the name before `position`; nothing changes unless that succeeds."""
        past = [page for page in self._past if page[0] < position]
        if past:
            first, packed = past[-1]
            past[-1] = first, b"\0".join(packed.split(b"\0")[: position - first])

        def handed_out(name: bytes) -> bool:
            wanted = b"\0" + name + b"\0"
            return any(wanted in b"\0" + packed + b"\0" for _, packed in past)

        previous = past[-1][1].rsplit(b"\0", 1)[-1] if past else b""
        names = PageNames(self._prefix)
        names.resume(previous.rstrip(b"/"), handed_out)
        self._cancel()
        raw, asked = await self._fetch(self._prefix + previous if previous else b"", None)
        self._past, self._names = past, names
        self._hold(sum(len(packed) for _, packed in past) - self._held)
        return self._take(position, raw, asked)

    def _remember(self, first: int, packed: bytes) -> None:
        self._past.append((first, packed))
        self._hold(len(packed))

    def _cancel(self) -> None:
        if self._ahead is not None:
            self._ahead.scope.cancel()
            self._ahead = None

    def _hold(self, size: int) -> None:
        self._held += size
        self._charge(size)


def _packed(named: Named) -> bytes:
    return named.name if named.entry is not None else named.name + b"/"
