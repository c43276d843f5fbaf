"""Each preset does what it says and gives up what it says: by a second mount, and by requests."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import oss2
import pytest

from tests.mount.conftest import MountMaker
from tests.support.emulator import EmulatorProcess
from tests.support.mount import Mount, drop_caches, run, wait_until


def counts(emulator: EmulatorProcess) -> Counter[str]:
    """Return how many requests of each kind there were since the last call."""
    found = Counter(
        "list" if "list-type" in request["query"] else request["method"].lower()
        for request in emulator.requests()
    )
    emulator.clear_requests()
    return found


def missing(path: Path) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    return False


def test_read_only_asks_once_and_keeps_pages(
    emulator: EmulatorProcess, data: oss2.Bucket, mount: MountMaker
) -> None:
    mounted = mount("preset=read-only")
    file = mounted.path / "data" / "file-0"
    assert file.read_bytes() == b"old 0"
    assert missing(mounted.path / "data" / "none")
    counts(emulator)
    data.put_object("data/file-0", b"new 0")
    data.put_object("data/none", b"")
    counts(emulator)
    for _ in range(3):
        assert file.read_bytes() == b"old 0"
        assert missing(mounted.path / "data" / "none")
    assert not counts(emulator)
    with pytest.raises(OSError, match="Read-only"):
        (mounted.path / "data" / "x").touch()


def test_quick_sees_changes_within_three_seconds(
    emulator: EmulatorProcess, data: oss2.Bucket, mount: MountMaker
) -> None:
    mounted = mount("preset=quick")
    file = mounted.path / "data" / "file-0"
    begun = time.monotonic()
    assert os.stat(file).st_size == 5
    counts(emulator)
    for _ in range(10):
        os.stat(file)
    if time.monotonic() - begun < 3:
        assert not counts(emulator)
    data.put_object("data/file-0", b"newer and longer")
    wait_until(lambda: os.stat(file).st_size == 16, 15)
    assert missing(mounted.path / "data" / "late")
    data.put_object("data/late", b"1")
    assert not missing(mounted.path / "data" / "late")


def test_incremental_sees_new_files_at_once_and_keeps_the_known(
    emulator: EmulatorProcess, data: oss2.Bucket, mount: MountMaker
) -> None:
    mounted = mount("preset=incremental")
    assert len(os.listdir(mounted.path / "data")) == 4
    assert missing(mounted.path / "data" / "late")
    data.put_object("data/late", b"1")
    assert (mounted.path / "data" / "late").read_bytes() == b"1"
    assert len(os.listdir(mounted.path / "data")) == 5
    counts(emulator)
    data.put_object("data/file-1", b"longer than before")
    counts(emulator)
    assert os.stat(mounted.path / "data" / "file-1").st_size == 5
    assert not counts(emulator)


def test_consistent_hands_files_from_mount_to_mount(data: oss2.Bucket, mount: MountMaker) -> None:
    here, there = mount("preset=consistent"), mount("preset=consistent")
    for turn in range(20):
        text = f"turn {turn:02d}"  # of one size, and often within one second
        (here.path / "data" / "baton").write_text(text)
        assert (there.path / "data" / "baton").read_text() == text
        assert os.stat(there.path / "data" / "baton").st_size == 7
    (here.path / "data" / "baton").unlink()
    assert missing(there.path / "data" / "baton")
    (here.path / "data" / "dir").mkdir()
    assert (there.path / "data" / "dir").is_dir()


def test_consistent_costs_a_request_an_open(
    emulator: EmulatorProcess, data: oss2.Bucket, mount: MountMaker
) -> None:
    mounted = mount("preset=consistent")
    file = mounted.path / "data" / "file-0"
    file.read_bytes()
    with open(file, "rb"):
        counts(emulator)
        for _ in range(5):
            assert file.read_bytes() == b"old 0"
        assert counts(emulator)["head"] >= 5


def test_static_data_remembers_what_is_not_there(
    emulator: EmulatorProcess, data: oss2.Bucket, mount: MountMaker
) -> None:
    mounted = mount("preset=static-data")
    names = [mounted.path / "data" / f"none-{number}" for number in range(10)]
    assert all(missing(name) for name in names)
    assert (mounted.path / "data" / "file-1").read_bytes() == b"old 1"
    counts(emulator)
    # Dropped by the kernel, the absences are still known here.
    drop_caches()
    assert all(missing(name) for name in names)
    found = counts(emulator)
    assert found["head"] <= 1  # of the directory, which the kernel has forgotten as well
    (mounted.path / "data" / "none-3").write_bytes(b"made here")
    assert not missing(mounted.path / "data" / "none-3")


def test_fast_rw_closes_before_the_upload_is_over(
    emulator: EmulatorProcess, data: oss2.Bucket, mount: MountMaker
) -> None:
    mounted = mount("preset=fast-rw")
    file = os.open(mounted.path / "results", os.O_WRONLY | os.O_CREAT)
    emulator.pause()
    try:
        os.write(file, bytes(1000))
        os.fsync(file)
        os.close(file)
    finally:
        emulator.resume()
    mounted.unmount()
    assert data.get_object("results").read() == bytes(1000)


def test_distributed_sees_all_at_once_and_keeps_no_pages(
    emulator: EmulatorProcess, data: oss2.Bucket, mount: MountMaker
) -> None:
    here, there = mount("preset=distributed"), mount("preset=distributed")
    assert missing(there.path / "job" / "rank-0")
    os.makedirs(here.path / "job", exist_ok=True)
    os.makedirs(there.path / "job", exist_ok=True)
    (here.path / "job" / "rank-0").write_text("ready")
    assert (there.path / "job" / "rank-0").read_text() == "ready"
    with open(there.path / "job" / "rank-0", "rb") as file:
        assert file.read() == b"ready"
        resident = run("fincore", "-nbo", "RES", there.path / "job" / "rank-0").stdout.split()
        assert resident == [b"0"]
    with pytest.raises(OSError, match="not supported"):
        (here.path / "job" / "link").symlink_to("rank-0")


def inodes(mounted: Mount) -> int:
    return int(mounted.statistics()["inodes"])


def test_many_files_lists_without_keeping(data: oss2.Bucket, mount: MountMaker) -> None:
    for number in range(300):
        data.put_object(f"many/file-{number:03d}", b"x")
    mounted = mount("preset=many-files")
    listed = os.listdir(mounted.path / "many")
    assert len(listed) == 300
    assert inodes(mounted) < 10
    with os.scandir(mounted.path / "many") as entries:
        entry = next(entries)
        assert entry.inode() != 0
        assert entry.is_file()
    assert os.stat(mounted.path / "many" / "file-007").st_size == 1
    assert (mounted.path / "many" / "file-008").read_bytes() == b"x"
    assert run("find", mounted.path / "many", "-type", "f").stdout.count(b"\n") == 300
    # The other half of the preset, with fewer than its 300,000.
    full = mount("inode_cache_eviction_threshold=100,inode_cache_eviction_interval_ms=200")
    with open(full.path / "many" / "file-001", "rb") as held:
        assert len(list(os.scandir(full.path / "many"))) == 300
        wait_until(lambda: inodes(full) <= 100)
        assert held.read() == b"x"
        assert os.stat(full.path / "many" / "file-299").st_size == 1


def test_append_log_is_seen_while_it_grows(data: oss2.Bucket, mount: MountMaker) -> None:
    here, there = mount("preset=append-log"), mount("preset=append-log")
    data.put_object("old.log", b"normal\n")
    with open(here.path / "new.log", "ab", buffering=0) as new:
        new.write(b"first\n")
        wait_until(lambda: not missing(there.path / "new.log"), 5)
        assert (there.path / "new.log").read_bytes() == b"first\n"
        new.write(b"second\n")
        wait_until(lambda: (there.path / "new.log").read_bytes() == b"first\nsecond\n", 5)
    assert data.head_object("new.log").object_type == "Appendable"
    with open(here.path / "old.log", "ab", buffering=0) as old:
        old.write(b"appended\n")
    assert data.head_object("old.log").object_type == "Appendable"
    assert data.get_object("old.log").read() == b"normal\nappended\n"


def test_checkpoint_makes_large_parts_and_close_means_saved(
    emulator: EmulatorProcess, data: oss2.Bucket, mount: MountMaker
) -> None:
    mounted = mount("preset=checkpoint")
    body = os.urandom(1 << 20) * 80
    counts(emulator)
    with open(mounted.path / "model.pt", "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    parts = [request for request in emulator.requests() if "partNumber" in request["query"]]
    assert len(parts) == 3  # 32, 32 and 16 MiB
    assert data.get_object("model.pt").read() == body
