"""The local file: it takes all of what it is given or nothing, and what it has not is zeros."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossfs.runtime.failure import FileSystemError
from ossfs.writing.stage import Stage
from tests.unit.writing.support import noise, raises_errno

SIZE = 60


class Disk:
    """How many bytes more the file system takes; those it has it takes again."""

    def __init__(self) -> None:
        self.room = 1 << 40
        self.has: set[int] = set()
        self.broken = False
        self.write: Callable[[int, memoryview, int], int] = os.pwrite

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> int:
        if self.broken:
            raise OSError(errno.EIO, "by plan")
        size = 0
        for place in range(offset, offset + len(data)):
            if place not in self.has:
                if not self.room:
                    break
                self.room -= 1
                self.has.add(place)
            size += 1
        if not size:
            raise OSError(errno.ENOSPC, "by plan")
        return self.write(descriptor, data[:size], offset)


@contextmanager
def stage(admit: Callable[[int], None] = lambda size: None) -> Iterator[tuple[Stage, Disk]]:
    disk = Disk()
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", disk.pwrite)
        path = str(Path(directory, "file"))
        made = Stage(os.open(path, os.O_RDWR | os.O_CREAT), path, admit)
        try:
            yield made, disk
        finally:
            made.close()


PLACE = st.integers(0, SIZE)
STEP = st.tuples(st.sampled_from(["put", "cut"]), PLACE, st.integers(0, 20), st.integers(0, 30))


@settings(deadline=None)
@given(st.lists(STEP, max_size=12))
def test_on_a_disk_that_fills_up_it_is_what_was_taken_and_zeros(
    steps: list[tuple[str, int, int, int]],
) -> None:
    with stage() as (made, disk):
        model: dict[int, int] = {}
        refused: set[int] = set()
        for serial, (what, place, size, free) in enumerate(steps):
            disk.room = free
            if what == "cut":
                made.cut(place)
                disk.has = {one for one in disk.has if one < place}
                model = {one: byte for one, byte in model.items() if one < place}
            else:
                data = noise(size, serial)
                try:
                    made.put(place, data)
                except FileSystemError as error:
                    refused.add(error.errno)
                else:
                    model.update(enumerate(data, place))
            end = SIZE + 20
            assert made.read(0, end) == bytes(model.get(one, 0) for one in range(end))
            absent = [one for low, high in made.missing(0, end) for one in range(low, high)]
            assert absent == [one for one in range(end) if one not in model]
        assert refused <= {errno.ENOSPC}


def test_bytes_that_are_here_already_need_no_room() -> None:
    asked: list[int] = []
    with stage(asked.append) as (made, _):
        made.put(0, b"x" * 10)
        made.put(2, b"y" * 5)
        made.put(5, b"z" * 10)
        assert asked == [10, 5]
        assert made.read(0, 20) == b"xxyyyzzzzzzzzzz" + bytes(5)


def test_a_disk_that_is_broken_says_so_before_bytes_are_taken_and_after() -> None:
    with stage() as (made, disk):
        made.put(0, b"kept")
        disk.broken = True
        with raises_errno(errno.EIO):
            made.put(4, b"new")
        with pytest.raises(OSError, match="by plan"):
            made.put(0, b"over")
