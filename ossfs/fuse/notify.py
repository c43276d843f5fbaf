"""Hints to the kernel's caches, sent from a thread of their own.

A notification may block until the kernel has finished with the inode or directory it
names, which can be until one of our own handlers has answered. So no handler waits for
one, nor does anything a handler waits for: hints are queued, and dropped when LIMIT wait
already. A dropped hint costs freshness up to the time-outs, never correctness.
"""

from __future__ import annotations

import errno
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

import pyfuse3
import trio

from ossfs.runtime.metrics import Metrics

log = logging.getLogger(__name__)

LIMIT = 1024
"""Hints that may wait."""
PUSHES = 16
"""Batches of page pushes that may wait: each holds a group of blocks."""


class Notifier:
    """The queue and its thread; implements vfs.kernel.KernelCaches and reading.pushing.Push.

    Every method but _run belongs to the trio loop.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._pushing = 0
        self._closed = False
        self._over = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._run, name="ossfs-notify", daemon=True)
        self._thread.start()

    def drop_name(self, parent: int, name: bytes) -> None:
        """Queue: make the kernel look `name` in directory `parent` up again."""
        self._put(lambda: pyfuse3.invalidate_entry(parent, name))

    def drop_names(self, names: Sequence[tuple[int, bytes]]) -> None:
        """Queue: make the kernel forget many names, each with the number of its directory."""

        def drop() -> None:
            for parent, name in names:
                if self._closed:
                    return
                # ENOENT: the kernel has forgotten it already. Others' are dropped all the same.
                with suppress(OSError):
                    pyfuse3.invalidate_entry(parent, name)

        self._put(drop)

    def drop_attributes(self, inode: int) -> None:
        """Queue: make the kernel ask for the attributes of `inode` again; its pages stay."""
        self._put(lambda: pyfuse3.invalidate_inode(inode, attr_only=True))

    def push(
        self,
        inode: int,
        pieces: list[tuple[int, memoryview]],
        wanted: Callable[[int], bool],
        done: Callable[[list[bool]], None],
    ) -> bool:
        """Queue: put (offset, bytes) into the page cache; `done(stored)` runs on the loop."""
        if self._closed or self._pushing >= PUSHES:
            return False
        self._pushing += 1
        stored = [False] * len(pieces)

        def finish() -> None:
            self._pushing -= 1
            size = sum(len(view) for (_, view), flag in zip(pieces, stored, strict=True) if flag)
            self._metrics.count("pushed_bytes", size)
            done(stored)

        def store() -> None:
            try:
                for index, (offset, view) in enumerate(pieces):
                    if not self._closed and wanted(offset):
                        pyfuse3.notify_store(inode, offset, cast(bytes, view))
                        stored[index] = True
            finally:
                try:
                    self._token.run_sync_soon(finish)
                except trio.RunFinishedError:
                    log.debug("the mount ended before a page push did")

        self._queue.put(store)
        return True

    def close(self) -> None:
        """Drop what is queued, and end the thread once it is through with what it is doing."""
        self._closed = True
        self._queue.put(None)

    async def closed(self) -> None:
        """Wait, after close(), until nothing is being handed to the kernel any more.

        To be over while requests are still answered: what waits here for a locked page or directory
        holds /dev/fuse open, so that closing it no longer ends those who wait for the same.
        """
        await self._over.wait()

    def _put(self, hint: Callable[[], None]) -> None:
        if self._queue.qsize() >= LIMIT:
            self._metrics.count("hints_dropped")
            return
        self._queue.put(hint)

    def _run(self) -> None:
        while (hint := self._queue.get()) is not None:
            try:
                hint()
            except OSError as error:
                # ENOENT: the kernel holds nothing of that name or inode, which is what we want.
                if error.errno != errno.ENOENT:
                    log.debug("a notification failed: %s", error)
            except Exception:
                log.exception("unexpected failure of a notification")
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._over.set)
