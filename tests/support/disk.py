"""What tests of the disk cache share."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import trio


def run(main: Callable[[], Awaitable[None]]) -> None:
    """On the real clock: the disk's threads are real."""

    async def within_bounds() -> None:
        with trio.fail_after(20):
            await main()

    trio.run(within_bounds)


def with_free(pages: int) -> Callable[[str], os.statvfs_result]:
    """Return the statvfs of a disk with so many free pages of 4 KiB."""
    return lambda _path: os.statvfs_result((4096, 4096, 1 << 30, pages, pages, 0, 0, 0, 0, 255, 0))


roomy = with_free(1 << 30)
full = with_free(0)
