"""The file that takes what writers may not hold in memory.

One unlinked, sparse file for the mount: nothing is left of it when the process ends, however it
ends. It is cut into slots of one block; a slot takes no more of the disk than was written to it.
What is spilled is always about to be uploaded or thrown away, never a cache.

All on the trio loop. Reading and writing block it for the time of a copy into the page cache
(0.3 ms a MiB, measured), which is what lets memory be given back at once.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO

from ossfs.runtime.blocks import BLOCK
from ossfs.store.api import Buffer

log = logging.getLogger(__name__)

SPILL_DIRECTORY = "/var/tmp"
"""On disk where /tmp is often memory (file-hierarchy(7)): only that makes room."""
REST = 60.0
"""Seconds until a disk that refused is asked again where none of its room is ours to wait for."""


class Spilled:
    """Up to a block of bytes in the file."""

    __slots__ = ("_spill", "size", "slot")

    def __init__(self, spill: Spill, slot: int, size: int) -> None:
        self._spill = spill
        self.slot = slot
        self.size = size

    def read(self) -> bytes:
        """Return the bytes; OSError(EIO) where the file does not hold them any more."""
        data = os.pread(self._spill.descriptor, self.size, self.slot * BLOCK)
        if len(data) != self.size:
            raise OSError(errno.EIO, "the spill file is shorter than what was written to it")
        return data

    def free(self) -> None:
        """Give the slot back."""
        self._spill.take_back(self)


class Spill:
    """Slots of the file; made when the first one is needed."""

    def __init__(
        self, directory: str, capacity: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        """`capacity` bytes may lie here at once; nothing is written before put()."""
        self._now = now
        self._directory = directory
        self._capacity = capacity
        self._file: BinaryIO | None = None
        self._refused = False
        self._asked_again_at = 0.0
        """When a disk that refused while nothing lay here may have room again."""
        self._free: list[int] = []
        self._slots = 0
        self.used = 0
        """Bytes."""

    @property
    def descriptor(self) -> int:
        """Of the file, which is there."""
        assert self._file is not None
        return self._file.fileno()

    @property
    def has_room(self) -> bool:
        """Whether another block may be spilled."""
        if self._refused and not self.used and self._now() >= self._asked_again_at:
            self._refused = False
        return not self._refused and self.used + BLOCK <= self._capacity

    def put(self, pieces: Sequence[Buffer]) -> Spilled | None:
        """Take bytes, a block at most; None where the disk has no room for them."""
        size = sum(len(piece) for piece in pieces)
        if not self.has_room:
            return None
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - kept open
            slot = self._free[-1] if self._free else self._slots
            written = os.pwritev(self.descriptor, pieces, slot * BLOCK)
            if written != size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._refused = True
            self._asked_again_at = self._now() + REST
            log.warning(
                "cannot set bytes aside in %s (%s): writers wait for memory instead",
                self._directory,
                error.strerror,
            )
            return None
        if self._free:
            self._free.pop()
        self._slots = max(self._slots, slot + 1)
        self.used += size
        return Spilled(self, slot, size)

    def take_back(self, spilled: Spilled) -> None:
        """Free a slot; the disk gets its space back when all are free."""
        self.used -= spilled.size
        self._free.append(spilled.slot)
        if not self.used:
            os.truncate(self.descriptor, 0)
            self._free.clear()
            self._slots = 0
            self._refused = False

    def close(self) -> None:
        """Drop the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
