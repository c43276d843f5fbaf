"""Files of 128 KiB, no two alike, read by many readers that check every byte."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from bench.support.rig import Sample, daemon_cpu, mounted, quietly, timed
from bench.support.servers import Server

SIZE = 128 * 1024
PROCESSES = 4
"""Readers are threads of so many programs."""

_READER = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from fastcrc import crc64
folder, part, step, count, threads, wanted = sys.argv[1], *map(int, sys.argv[2:])
def read(number):
    fd = os.open(f"{folder}/{number:05d}", os.O_RDONLY)
    data = os.read(fd, 1 << 18)
    os.close(fd)
    assert int.from_bytes(data[:8], "big") == number and crc64.xz(data[8:]) == wanted, number
with ThreadPoolExecutor(threads) as pool:
    list(pool.map(read, range(part, count, step)))
"""


def small_files(count: int, rest: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the key and bytes of each file: its number in 8 bytes, then `rest`."""
    for number in range(count):
        yield b"files/%05d" % number, number.to_bytes(8, "big") + rest


def read_mounted(server: Server, count: int, readers: int, wanted: int) -> Sample:
    """Read all files on a fresh mount, listed before; each must cost one GET.

    `wanted` is the CRC-64 of the bytes behind the number.
    """
    with mounted(server) as mount:
        folder = mount.path / "files"

        def work() -> None:
            processes = min(PROCESSES, readers)
            words = [str(processes), str(count), str(readers // processes), str(wanted)]
            started = [
                subprocess.Popen([sys.executable, "-c", _READER, folder, str(part), *words])
                for part in range(processes)
            ]
            if any(process.wait() for process in started):
                raise SystemExit("a reader failed")

        sample = timed(
            server,
            lambda: daemon_cpu(mount.pid),
            work,
            prepare=lambda: quietly("ls", "-l", str(folder)),
        )
        if sample.traffic.gets != count:
            raise SystemExit(f"{readers} readers: {sample.traffic.gets} GETs for {count} files")
        return sample
