"""What `ossfs warm` asks of a mount: files brought to the disk cache, looked for, or removed.

Paths are relative to the mount; each is one file. What is being written here, or lies in no
directory, is an error of that path alone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import trio

from ossfs.reading.content import Content, Source
from ossfs.reading.disk import DiskCache
from ossfs.reading.warming import RUN, NotKept, fill, forget, held
from ossfs.runtime.blocks import BLOCK
from ossfs.runtime.failure import FileSystemError
from ossfs.store.errors import StoreError, errno_of
from ossfs.tree.inodes import ROOT
from ossfs.vfs.filesystem import FileSystem

FILES = 32
"""Files looked at at once."""
FETCHES = 16
"""GETs at once, for one who asks."""

FILL = "fill"
CHECK = "check"
EVICT = "evict"

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


async def warm(
    filesystem: FileSystem, source: Source, do: str, paths: Iterable[str], send: Send
) -> None:
    """Do FILL, CHECK or EVICT for each path, side by side.

    `send` gets {"more": bytes} as they are fetched, and for each path, by its place in `paths`,
    either {"path": number, "size", "held" on disk at the end, "fetched", all in bytes} or
    {"path": number, "error": why}. What it raises ends everything.
    """
    files, fetches = trio.Semaphore(FILES), trio.Semaphore(_fetches(source.disk))
    writing = trio.Lock()
    trouble: list[OSError] = []

    async def tell(message: Mapping[str, Any]) -> None:
        async with writing:
            await send(message)

    async def one(number: int, path: str) -> None:
        try:
            if trouble:
                return
            try:
                done = await _of_file(filesystem, path, work)
            except (StoreError, FileSystemError, NotKept) as error:
                await tell({"path": number, "error": _why(error)})
            else:
                await tell({"path": number, **done})
        except OSError as error:  # whoever asked has gone
            trouble.append(error)
        finally:
            files.release()

    async def work(content: Content) -> Mapping[str, int]:
        fetched = 0

        async def more(size: int) -> None:
            nonlocal fetched
            fetched += size
            await tell({"more": size})

        if do == FILL:
            await fill(source, content, fetches, more)
        elif do == EVICT:
            await forget(content)
        return {"size": content.size, "held": await held(content), "fetched": fetched}

    if source.disk is not None:
        await source.disk.scanned.wait()
    async with trio.open_nursery() as nursery:
        for number, path in enumerate(paths):
            await files.acquire()
            nursery.start_soon(one, number, path)
    if trouble:
        raise trouble[0]


def _fetches(disk: DiskCache | None) -> int:
    """Return how many GETs may be under way: what they bring must fit in at once."""
    size = disk.statistics()["size"] if disk is not None else 0
    return max(1, min(FETCHES, size // (2 * RUN * BLOCK)))


async def _of_file(
    filesystem: FileSystem,
    path: str,
    work: Callable[[Content], Awaitable[Mapping[str, int]]],
) -> Mapping[str, int]:
    """Look a path up as the kernel would, and work on the content of its file."""
    passed = [ROOT]
    try:
        for name in filter(None, os.fsencode(path).split(b"/")):
            inode = await filesystem.lookup(passed[-1], name)
            passed.append(inode.number)
        handle, content = await filesystem.hold(passed[-1])
        try:
            return await work(content)
        except StoreError as error:
            # The next who asks, or reads, finds what is there now.
            filesystem.found_gone(passed[-1], error)
            raise
        finally:
            filesystem.close(handle)
    finally:
        filesystem.forget((number, 1) for number in passed[1:])


def _why(error: StoreError | FileSystemError | NotKept) -> str:
    if isinstance(error, NotKept):
        return "the disk cache does not take it; the mount's log says why"
    if isinstance(error, FileSystemError):
        return os.strerror(error.errno) if error.errno != errno.EBUSY else "it is being written"
    return f"{os.strerror(errno_of(error))} ({error})"
