"""One large file: what is written, and how a program writes it into a mount."""

from __future__ import annotations

import mmap
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fastcrc import crc64

from bench.support.rig import (
    Crew,
    Sample,
    check_crc,
    check_object,
    claim_memory,
    daemon_cpu,
    mounted,
    quietly,
    random_bytes,
    timed,
)
from bench.support.servers import MEMORY, Server
from ossfs.store.api import Store

WRITE_LARGE = """
import mmap, os
source, target = sys.argv[1:]
with open(source, "rb") as file:
    data = memoryview(mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ))
sum(data[::4096])  # a write from memory that was never touched is cut to pieces by the kernel
ready()
descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
for offset in range(0, len(data), 1 << 20):
    piece = data[offset : offset + (1 << 20)]
    assert os.write(descriptor, piece) == len(piece)
os.close(descriptor)
"""


class Source(NamedTuple):
    """What is written: a file in memory, which all rows read."""

    path: Path
    view: memoryview
    crc64: int


@contextmanager
def source_of(size: int) -> Iterator[Source]:
    """Make a file of bytes that never repeat."""
    with tempfile.NamedTemporaryFile(prefix="ossfs-bench-", dir=MEMORY) as file:
        file.write(random_bytes(size))
        file.flush()
        with (
            mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as mapped,
            memoryview(mapped) as view,
        ):
            yield Source(Path(file.name), view, crc64.xz(view))


def read_by_dd(server: Server, name: str, wanted: int, *, claimed: int = 0) -> Sample:
    """Read a large object by dd from a mount of its own; its CRC-64, `wanted`, is checked before.

    `claimed` bytes of memory are claimed first, see `claim_memory`.
    """
    with mounted(server) as mount:
        path = mount.path / name
        check_crc(path, wanted)  # also what the daemon does once: threads, connections, blocks
        return timed(
            server,
            lambda: daemon_cpu(mount.pid),
            lambda: quietly("dd", f"if={path}", "of=/dev/null", "bs=1M"),
            prepare=(lambda: claim_memory(claimed)) if claimed else (lambda: None),
        )


class Rig(NamedTuple):
    """A bucket to write into and what is written to it."""

    server: Server
    store: Store
    source: Source

    def check_and_drop(self, key: bytes) -> None:
        """Check the large object, and give its memory back."""
        check_object(self.store, key, len(self.source.view), self.source.crc64)
        self.store.delete(key, deadline=time.monotonic() + 60)

    def write_large(self, memory: list[int], *, dd: bool) -> Sample:
        """Write the large file into a mount that has just been made."""
        source = self.source.path
        with mounted(self.server) as mount:
            target = mount.path / "large"
            command = ["dd", f"if={source}", f"of={target}", "bs=1M", "conv=fsync"]
            with Crew(WRITE_LARGE, lambda: [(source, target)]) as crew:
                sample = timed(
                    self.server,
                    lambda: daemon_cpu(mount.pid),
                    (lambda: quietly(*command)) if dd else crew.work,
                    prepare=(lambda: None) if dd else crew.assemble,
                )
            self.check_and_drop(b"large")
            memory.append(mount.memory())
            return sample
