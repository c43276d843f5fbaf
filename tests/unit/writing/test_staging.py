"""The directory for random writes: whose it is, how full it gets, what is touched in it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ossfs.runtime.failure import UserError
from ossfs.writing.staging import CONFLICTS, LOCK, LOOK_BYTES, PREFIX, Staging
from tests.unit.writing.support import overheard, raises_errno


class Disk:
    """A disk of 1,000 blocks of 100,000 bytes."""

    def __init__(self) -> None:
        self.free = 1_000
        self.looks = 0

    def __call__(self, _directory: str) -> os.statvfs_result:
        self.looks += 1
        return os.statvfs_result(
            (100_000, 100_000, 1_000, self.free, self.free, 0, 0, 0, 0, 255, 0)
        )


def staging(
    directory: Path, *, free_bytes: int = 0, free_percent: int = 0, disk: Disk | None = None
) -> Staging:
    return Staging(
        str(directory),
        largest=1 << 40,
        free_bytes=free_bytes,
        free_percent=free_percent,
        statvfs=disk or os.statvfs,
    )


class Cache:
    """A stage that holds only what is in the bucket, or not even that."""

    def __init__(self, disk: Disk, last_write: float, blocks: int) -> None:
        self._disk = disk
        self.last_write = last_write
        self.blocks = blocks

    def drop_clean(self) -> bool:
        self._disk.free += self.blocks
        given, self.blocks = bool(self.blocks), 0
        return given


@pytest.mark.parametrize(
    ("free_bytes", "free_percent"), [(20_000_000, 10), (1_000, 20)], ids=["bytes", "percent"]
)
def test_the_larger_of_the_two_floors_is_left_free(
    tmp_path: Path, free_bytes: int, free_percent: int
) -> None:
    disk = Disk()
    made = staging(tmp_path, free_bytes=free_bytes, free_percent=free_percent, disk=disk)
    made.admit(80_000_000)
    with raises_errno(errno.ENOSPC):
        made.admit(80_000_001)
    made.close()


def test_the_disk_is_looked_at_again_after_a_few_bytes_not_after_each(tmp_path: Path) -> None:
    disk = Disk()
    made = staging(tmp_path, disk=disk)
    for _ in range(LOOK_BYTES // 1024):
        made.admit(1024)
    assert disk.looks == 1
    disk.free = 0
    with raises_errno(errno.ENOSPC):
        made.admit(LOOK_BYTES + 1)
    assert disk.looks == 2
    made.close()


def test_what_is_only_a_cache_gives_way_the_longest_idle_first(tmp_path: Path) -> None:
    disk = Disk()
    disk.free = 10
    made = staging(tmp_path, disk=disk)
    idle, busy, needed = Cache(disk, 1.0, 5), Cache(disk, 2.0, 5), Cache(disk, 0.0, 0)
    made.holders |= {busy, idle, needed}
    made.admit(1_500_000)
    assert (idle.blocks, busy.blocks) == (0, 5)
    with raises_errno(errno.ENOSPC):
        made.admit(2_000_001)
    assert busy.blocks == 0
    made.close()


def test_stages_are_nobody_elses_to_read(tmp_path: Path) -> None:
    made = staging(tmp_path)
    descriptor, path = made.open()
    made.keep(path, {})
    for name in (path, f"{path}.json"):
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
    os.close(descriptor)
    made.close()


def test_what_is_not_ours_stays_whatever_its_name(tmp_path: Path) -> None:
    names = ["stage-1", "stage-final", "stage-x.json", f"{PREFIX}x", f"{PREFIX}1.txt", "conflict"]
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / f"{PREFIX}7").mkdir()
    made = staging(tmp_path)
    assert list(made.records()) == []
    assert sorted(os.listdir(tmp_path)) == sorted([LOCK, *names, f"{PREFIX}7"])
    made.close()


def test_the_latest_record_comes_first(tmp_path: Path) -> None:
    made = staging(tmp_path)
    for number in range(1, 12):
        descriptor, path = made.open()
        os.close(descriptor)
        made.keep(path, {"number": number})
    found = [record.content["number"] for record in made.records()]
    assert found == list(range(11, 0, -1))
    made.close()


def test_a_record_says_nothing_but_its_file(tmp_path: Path) -> None:
    made = staging(tmp_path)
    descriptor, path = made.open()
    os.close(descriptor)
    assert not made.is_recorded(path)
    made.keep(path, {"key": "6b"})
    assert made.is_recorded(path)
    (record,) = made.records()
    assert record.stage == path
    assert dict(record.content) == {"key": "6b", "bucket": ""}
    made.forget(path)
    made.forget(path)
    assert not made.is_recorded(path)
    made.close()


@pytest.mark.parametrize(
    "key", [("数" * 340).encode(), b"a/" * 500 + b"b", b"\xff" * 300], ids=["wide", "deep", "bytes"]
)
def test_any_key_names_a_file_that_is_kept_and_no_two_the_same(tmp_path: Path, key: bytes) -> None:
    made = staging(tmp_path)
    kept = []
    for _ in range(2):
        descriptor, path = made.open()
        os.close(descriptor)
        os.utime(path, (0, 0))
        made.keep(path, {})
        kept.append(Path(made.aside(path, key)))
    assert [path.name[-19:] for path in kept] == [".19700101T000000Z.1", ".19700101T000000Z.2"]
    assert {path.parent for path in kept} == {tmp_path / CONFLICTS}
    assert list(made.records()) == []
    made.close()


def test_a_record_without_its_stage_goes_aside(tmp_path: Path) -> None:
    made = staging(tmp_path)
    made.keep(str(tmp_path / f"{PREFIX}3"), {})
    (tmp_path / f"{PREFIX}4.json").write_text("[]")
    with overheard() as said:
        assert list(made.records()) == []
    assert len(said) == len(os.listdir(tmp_path / CONFLICTS)) == 2
    made.close()


def test_a_directory_that_cannot_be_locked_is_not_said_to_be_in_use(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with pytest.raises(UserError, match=r"cannot be used \(Is a directory\)"):
        staging(tmp_path)
