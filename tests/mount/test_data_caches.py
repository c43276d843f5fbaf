"""What was read is kept, on disk over restarts and in memory for all handles, and never wrongly."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import oss2
import pytest

from tests.mount.conftest import MountMaker
from tests.support.emulator import EmulatorProcess
from tests.support.mount import Mount, drop_caches, run, wait_until

MIB = 1 << 20
BODY = random.Random(1).randbytes(24 * MIB + 12_345)

READ = """
import sys, hashlib
with open(sys.argv[1], "rb", buffering=0) as file:
    seen = hashlib.sha256()
    while piece := file.read(1 << 20):
        seen.update(piece)
    print(seen.hexdigest(), flush=True)
    sys.stdin.read()  # the file stays open until all have read it
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 MiB."""
    directory = tmp_path / "tmpfs"
    directory.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", directory)
    yield directory
    run("umount", "-l", directory, check=False)


def on_disk(cache: Path, size: str = "256M", left: str = "0") -> str:
    return f"disk_data_cache_dir={cache},disk_data_cache_size={size},disk_available_space={left}"


def chunks(cache: Path) -> list[Path]:
    return [path for path in cache.glob("ossfs-chunks/*/*") if len(path.name) == 30]


def fetched(emulator: EmulatorProcess) -> int:
    """Bytes of all GETs since the last look."""
    size = sum(
        int(request["bytes"])
        for request in emulator.requests()
        if request["method"] == "GET" and request["key"] and not request["query"]
    )
    emulator.clear_requests()
    return size


def warnings(mounted: Mount) -> list[str]:
    return [line for line in mounted.log.splitlines() if "WARNING" in line]


def written(mounted: Mount, count: int) -> None:
    """Wait until the cache has written that much."""
    wait_until(lambda: mounted.statistics().get("disk_cache_written_bytes", 0) >= count)


def filled(mount: MountMaker, cache: Path, *options: str) -> None:
    """Have a first mount read BODY, and go."""
    mounted = mount(on_disk(cache), *options)
    assert (mounted.path / "model").read_bytes() == BODY
    written(mounted, len(BODY))
    mounted.unmount()


@pytest.fixture
def model(emulator: EmulatorProcess, bucket: oss2.Bucket) -> oss2.Bucket:
    bucket.put_object("model", BODY)
    emulator.clear_requests()
    return bucket


@pytest.mark.parametrize("options", [(), ("direct_io",), ("read_ahead_kb=0",)], ids=str)
def test_after_a_restart_nothing_is_fetched_again(
    emulator: EmulatorProcess,
    model: oss2.Bucket,
    mount: MountMaker,
    cache: Path,
    options: tuple[str, ...],
) -> None:
    filled(mount, cache, *options)
    assert fetched(emulator) == len(BODY)
    assert len(chunks(cache)) == 25
    for path in (*chunks(cache), *cache.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)
    mounted = mount(on_disk(cache), *options)
    for _ in range(2):
        assert (mounted.path / "model").read_bytes() == BODY
        drop_caches()
    with open(mounted.path / "model", "rb", buffering=0) as file:
        for offset in (5 * MIB + 77, 20 * MIB, 3):
            assert os.pread(file.fileno(), 5000, offset) == BODY[offset : offset + 5000]
    assert fetched(emulator) == 0
    told = mounted.statistics()
    assert told["disk_cache"]["chunks"] == 25
    assert not told["disk_cache"]["off"]
    assert not warnings(mounted)


def test_a_byte_flipped_on_disk_is_fetched_again(
    emulator: EmulatorProcess, model: oss2.Bucket, mount: MountMaker, cache: Path
) -> None:
    filled(mount, cache)
    fetched(emulator)
    paths = sorted(path for path in chunks(cache) if path.stat().st_size > MIB)
    for path, place in zip(paths[:2], (MIB // 3, MIB + 30), strict=True):
        raw = bytearray(path.read_bytes())
        raw[place] ^= 1
        path.write_bytes(raw)
    os.truncate(paths[2], MIB)
    mounted = mount(on_disk(cache))
    assert (mounted.path / "model").read_bytes() == BODY
    assert fetched(emulator) == 3 * MIB
    assert mounted.statistics()["disk_cache_damaged"] == 3
    assert 1 <= len(warnings(mounted)) <= 3
    assert all("was damaged" in line for line in warnings(mounted))
    written(mounted, 3 * MIB)
    drop_caches()
    assert (mounted.path / "model").read_bytes() == BODY
    assert fetched(emulator) == 0


def test_a_daemon_killed_while_it_fills_the_cache_leaves_it_good(
    tmp_path: Path, cache: Path
) -> None:
    with EmulatorProcess(tmp_path / "slow", fast_etags=True, bandwidth_mb=30) as slow:
        slow.oss2_bucket().put_object("model", BODY)
        options = on_disk(cache)
        with (
            Mount(slow, tmp_path / "first", options, "prefetch_chunk_size=2M") as mounted,
            subprocess.Popen(
                ["cat", mounted.path / "model"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            ) as reader,
        ):
            wait_until(lambda: len(chunks(cache)) >= 4)
            os.kill(mounted.pid, signal.SIGKILL)
            mounted.wait()
            assert reader.communicate(timeout=20)[1], "its read fails"
        left = chunks(cache)
        assert 4 <= len(left) < 25
        unfinished = left[0].with_name("0" * 30 + ".new9")
        unfinished.write_bytes(bytes(1000))
        slow.clear_requests()
        with Mount(slow, tmp_path / "second", options) as mounted:
            wait_until(lambda: not unfinished.exists())
            assert (mounted.path / "model").read_bytes() == BODY
            assert fetched(slow) == len(BODY) - sum(path.stat().st_size - 40 for path in left)
            assert not warnings(mounted)
        assert not list(cache.rglob("*.new*"))


def refusal(emulator: EmulatorProcess, point: Path, options: str) -> str:
    """Mount what will be refused; return its one line."""
    point.mkdir()
    keys = {"OSS_ACCESS_KEY_ID": emulator.key_id, "OSS_ACCESS_KEY_SECRET": emulator.key_secret}
    command = [sys.executable, "-P", "-m", "ossfs", "mount", f"oss://{emulator.bucket}", str(point)]
    where = f"oss_endpoint={emulator.endpoint},log_dir={point.parent / 'log'}"
    done = subprocess.run(
        [*command, "-o", f"{where},{options}"],
        env={**os.environ, **keys},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode == 0:
        run("umount", "-l", point)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_a_directory_in_use_is_refused_in_one_line(
    emulator: EmulatorProcess, model: oss2.Bucket, mount: MountMaker, cache: Path, tmp_path: Path
) -> None:
    mounted = mount(on_disk(cache))
    line = refusal(emulator, tmp_path / "other", on_disk(cache))
    assert line == (
        f"ossfs: disk_data_cache_dir: {cache} is in use by another mount; give each its own"
    )
    assert (mounted.path / "model").read_bytes() == BODY


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("total_mem_limit=128M,memory_data_cache_size=128M", "memory_data_cache_size=128M leaves"),
        ("disk_data_cache_dir=/nonexistent/x,disk_data_cache_size=64M", "disk_data_cache_dir: "),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(
    emulator: EmulatorProcess, tmp_path: Path, options: str, named: str
) -> None:
    assert named in refusal(emulator, tmp_path / "other", options)


def test_a_disk_too_full_keeps_nothing_and_hurts_nobody(
    emulator: EmulatorProcess, model: oss2.Bucket, mount: MountMaker, cache: Path
) -> None:
    mounted = mount(on_disk(cache, left="1P"))
    for _ in range(2):
        assert (mounted.path / "model").read_bytes() == BODY
        drop_caches()
    assert fetched(emulator) == 2 * len(BODY)
    assert chunks(cache) == []
    (line,) = warnings(mounted)
    assert "nothing is kept for now" in line


def test_a_disk_smaller_than_the_cache_is_used_as_far_as_it_goes(
    model: oss2.Bucket, mount: MountMaker, tmpfs: Path
) -> None:
    model.put_object("second", BODY[::-1])
    mounted = mount(on_disk(tmpfs), "prefetch_chunk_size=2M")
    assert (mounted.path / "model").read_bytes() == BODY
    written(mounted, len(BODY))
    about = os.statvfs(tmpfs)
    (tmpfs / "others").write_bytes(bytes(about.f_bavail * about.f_frsize - 7 * MIB // 2))
    for _ in range(2):
        assert (mounted.path / "second").read_bytes() == BODY[::-1]
        assert (mounted.path / "model").read_bytes() == BODY
        drop_caches()
    (line,) = warnings(mounted)
    assert "nothing is kept for now (No space left on device)" in line
    assert not list(tmpfs.rglob("*.new*"))
    told = mounted.statistics()["disk_cache"]
    sizes = [-(-path.stat().st_size // 4096) * 4096 for path in chunks(tmpfs)]
    assert (told["off"], told["bytes"]) == (False, sum(sizes))


@pytest.mark.parametrize("loss", ["unmounted", "removed"])
def test_a_disk_that_is_taken_away_is_done_without(
    model: oss2.Bucket, mount: MountMaker, tmpfs: Path, loss: str
) -> None:
    mounted = mount(on_disk(tmpfs), "prefetch_chunk_size=2M")
    with open(mounted.path / "model", "rb", buffering=0) as file:
        assert file.read(4 * MIB) == BODY[: 4 * MIB]
        wait_until(lambda: chunks(tmpfs))
        if loss == "unmounted":
            run("umount", "-l", tmpfs)
        else:
            (tmpfs / "ossfs-chunks").rename(tmpfs / "away")
        drop_caches()
        for _ in range(2):
            assert os.pread(file.fileno(), len(BODY), 0) == BODY
            drop_caches()
    wait_until(lambda: mounted.statistics()["disk_cache"]["off"])
    (line,) = warnings(mounted)
    assert "the cache is off until the next mount: No such file or directory" in line


def test_larger_files_are_not_kept(
    emulator: EmulatorProcess, model: oss2.Bucket, mount: MountMaker, cache: Path
) -> None:
    model.put_object("small", BODY[: 2 * MIB])
    mounted = mount(on_disk(cache), "disk_data_cache_max_file_size=2M")
    for name, body in (("model", BODY), ("small", BODY[: 2 * MIB])):
        assert (mounted.path / name).read_bytes() == body
    written(mounted, 2 * MIB)
    assert len(chunks(cache)) == 2
    drop_caches()
    emulator.clear_requests()
    assert (mounted.path / "small").read_bytes() == BODY[: 2 * MIB]
    assert fetched(emulator) == 0
    assert (mounted.path / "model").read_bytes() == BODY
    assert fetched(emulator) == len(BODY)


def test_a_replaced_object_of_equal_size_is_read_anew(
    model: oss2.Bucket, mount: MountMaker, cache: Path
) -> None:
    new = BODY[::-1]
    mounted = mount(on_disk(cache), "close_to_open", "direct_io")
    assert (mounted.path / "model").read_bytes() == BODY
    written(mounted, len(BODY))
    with open(mounted.path / "model", "rb", buffering=0) as old:
        model.put_object("model", new)
        for _ in range(2):
            assert (mounted.path / "model").read_bytes() == new
        piece, number = b"", 0
        try:
            piece = old.read(MIB)
        except OSError as error:
            number = error.errno or 0
        assert (piece, number) in ((BODY[:MIB], 0), (b"", errno.ESTALE))
    written(mounted, 2 * len(BODY))
    mounted.unmount()
    mounted = mount(on_disk(cache), "close_to_open")
    assert (mounted.path / "model").read_bytes() == new


@pytest.mark.parametrize("kept", ["memory", "both"])
def test_processes_that_load_one_model_fetch_each_byte_once(
    emulator: EmulatorProcess, bucket: oss2.Bucket, mount: MountMaker, cache: Path, kept: str
) -> None:
    body = os.urandom(MIB) * 64
    bucket.put_object("model", body)
    emulator.clear_requests()
    options = ["direct_io", "memory_data_cache_size=80M", "total_mem_limit=256M"]
    mounted = mount(*options, *([on_disk(cache)] if kept == "both" else []))
    interpreter = mounted.memory()
    loaders = [
        subprocess.Popen(
            [sys.executable, "-I", "-c", READ, mounted.path / "model"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    try:
        seen = {process.stdout.readline() for process in loaders if process.stdout}
        assert len(seen) == 1
        assert b"" not in seen
        assert fetched(emulator) == len(body)
        assert (mounted.path / "model").read_bytes() == body
        assert fetched(emulator) == 0
    finally:
        for process in loaders:
            process.communicate(timeout=20)
    assert mounted.memory() <= interpreter + 256 * MIB
    if kept == "both":
        written(mounted, len(body))
        assert (mounted.path / "model").read_bytes() == body
        assert fetched(emulator) == 0


def test_a_removed_file_keeps_what_it_was_promised_whoever_needs_memory(
    model: oss2.Bucket, mount: MountMaker
) -> None:
    model.put_object("small", BODY[:MIB])
    mounted = mount("direct_io", "memory_data_cache_size=2M")
    with open(mounted.path / "small", "rb", buffering=0) as small:
        assert small.read(MIB) == BODY[:MIB]
        (mounted.path / "small").unlink()
        assert (mounted.path / "model").read_bytes() == BODY
        assert os.pread(small.fileno(), MIB, 0) == BODY[:MIB]
