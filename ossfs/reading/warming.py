"""A content's chunks brought to the disk cache without a reader, counted there, or removed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import trio

from ossfs.reading.content import Content, Source
from ossfs.reading.disk import Shelf
from ossfs.runtime.blocks import BLOCK, Block

_AGAIN_S = 0.05
_AT_ONCE = 4096
RUN = 8
"""Units fetched by one GET: a chunk of the default size."""


class NotKept(Exception):
    """The disk cache does not take the bytes; its own warning says why."""


def size_of(content: Content, unit: int) -> int:
    """Return the bytes of a unit."""
    return min(BLOCK, content.size - unit * BLOCK)


async def held(content: Content) -> int:
    """Return how many of the content's bytes are on disk."""
    shelf, found = content.shelf, 0
    if shelf is None:
        return 0
    for units in _pieces(content.units):
        found += sum(size_of(content, unit) for unit in units if shelf.holds(unit))
        await trio.lowlevel.checkpoint()
    return found


async def forget(content: Content) -> None:
    """Remove what is on disk of a content."""
    if content.shelf is None:
        return
    for units in _pieces(content.units):
        await content.shelf.forget(units)
        await trio.lowlevel.checkpoint()


def _pieces(units: int) -> Iterator[range]:
    """Yield the units in so many at once that nobody waits for their names to be worked out."""
    for first in range(0, units, _AT_ONCE):
        yield range(first, min(first + _AT_ONCE, units))


async def fill(
    source: Source,
    content: Content,
    at_once: trio.Semaphore,
    told: Callable[[int], Awaitable[None]],
) -> None:
    """Fetch what is not on disk yet, as many GETs `at_once` as that lets through.

    `told(bytes)` hears of each. Raises StoreError, NotKept, or what `told` raises.
    """
    shelf = content.shelf
    if shelf is None:
        raise NotKept
    failures: list[Exception] = []

    async def fetch(first: int, count: int) -> None:
        try:
            if not failures:
                await _bring(source, content, shelf, first, count, told)
        except Exception as error:  # noqa: BLE001  raised below, when the others are through
            failures.append(error)
        finally:
            at_once.release()

    async with trio.open_nursery() as nursery:
        for units in _pieces(content.units):
            for first, count in _absent(shelf, units):
                await at_once.acquire()
                nursery.start_soon(fetch, first, count)
            await trio.lowlevel.checkpoint()
    if failures:
        raise failures[0]


def _absent(shelf: Shelf, units: range) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of each run of units that are not on disk, RUN at most."""
    first = count = 0
    for unit in units:
        if shelf.holds(unit):
            continue
        if count and unit == first + count and count < RUN:
            count += 1
            continue
        if count:
            yield first, count
        first, count = unit, 1
    if count:
        yield first, count


async def _bring(
    source: Source,
    content: Content,
    shelf: Shelf,
    first: int,
    count: int,
    told: Callable[[int], Awaitable[None]],
) -> None:
    """Fetch units and write them to the disk, with the memory that can be had."""
    pool, stop = source.pool, first + count
    while first < stop:
        blocks: list[Block] = [await pool.take(size_of(content, first))]
        try:
            # Waiting for one more while others are held could wait for ever.
            while first + len(blocks) < stop:
                block = pool.try_take(size_of(content, first + len(blocks)))
                if block is None:
                    break
                blocks.append(block)
            views = [
                block.view[: size_of(content, first + index)] for index, block in enumerate(blocks)
            ]
            await content.fetch_into(first * BLOCK, views, None, prefetch=True)
            while not await shelf.write(first, views):
                if not shelf.busy(first, len(views)):
                    raise NotKept
                await trio.sleep(_AGAIN_S)  # another brings the same, which may also fail
        finally:
            for block in blocks:
                pool.give(block)
        first += len(blocks)
        await told(sum(map(len, views)))
