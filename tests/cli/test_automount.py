"""An automount, as systemd makes it of x-systemd.automount: the kernel holds who looks."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator

import pytest

from tests.cli.command import Ossfs

_READY, _FAIL = 0x9360, 0x9361
"""AUTOFS_IOC_READY and AUTOFS_IOC_FAIL of linux/auto_fs.h."""


@pytest.fixture
def asked(ossfs: Ossfs) -> Iterator[tuple[int, int]]:
    """Wait for lookers on `ossfs.point`; the pipe that tells of them, and the place to answer.

    Who mounts is known by the process group of this test, as systemd's helpers are by systemd's.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    reading, writing = os.pipe()
    words = f"fd={writing},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
    if libc.mount(b"test", os.fsencode(ossfs.point), b"autofs", 0, words.encode()) != 0:
        os.close(reading)
        os.close(writing)
        pytest.skip(f"no autofs here: {os.strerror(ctypes.get_errno())}")
    place = os.open(ossfs.point, os.O_RDONLY | os.O_DIRECTORY)
    yield reading, place
    os.close(place)
    for _ in range(2):  # the bucket's, and what waited for it
        subprocess.run(["umount", "-l", ossfs.point], capture_output=True, check=False)
    os.close(writing)
    os.close(reading)


def test_who_looks_gets_the_mount(ossfs: Ossfs, asked: tuple[int, int]) -> None:
    reading, place = asked
    with subprocess.Popen(
        ["cat", str(ossfs.point / "dir" / "file.txt")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as looker:
        _, _, token = struct.unpack_from("iiI", os.read(reading, 1000))
        reply = ossfs.mount()
        fcntl.ioctl(place, _READY if reply.status == 0 else _FAIL, token)
        said, _ = looker.communicate(timeout=10)
    assert reply.status == 0, reply
    assert said == "hello\n"
