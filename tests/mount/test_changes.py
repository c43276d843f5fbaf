"""Objects that change under a reader: old bytes or ESTALE, never a mixture."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import oss2
import pytest

from tests.mount.conftest import MountMaker
from tests.support.emulator import EmulatorProcess
from tests.support.mount import drop_caches, listing, python, run, wait_until

SIZE = 12 << 20
OLD, NEW = b"o" * SIZE, b"n" * SIZE

HALF = """
import errno, os, sys
# Reads half, says so, waits to be told, reads all of it again; prints what it saw.
fd = os.open(sys.argv[1], os.O_RDONLY)
def read(start, end):
    seen = set()
    try:
        for at in range(start, end, 65536):
            seen |= set(os.pread(fd, 65536, at).decode())
    except OSError as error:
        assert error.errno == errno.ESTALE, error
        seen.add("stale")
    return seen
size = int(sys.argv[2])
first = read(0, size // 2)
print("half", flush=True)
sys.stdin.readline()
print("".join(sorted(first)), "|", ",".join(sorted(first | read(0, size))), flush=True)
"""


def start_reader(path: Path) -> subprocess.Popen[str]:
    reader = subprocess.Popen(
        [sys.executable, "-I", "-c", HALF, path, str(SIZE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "half\n"
    return reader


@pytest.mark.parametrize("options", [(), ("read_ahead_kb=0",), ("attr_timeout=0",)])
@pytest.mark.parametrize("second_reader", [False, True], ids=["alone", "second reader"])
def test_a_replacement_of_equal_size_in_the_same_second_is_never_mixed_in(
    bucket: oss2.Bucket, mount: MountMaker, options: tuple[str, ...], second_reader: bool
) -> None:
    bucket.put_object("file", OLD)
    path = mount(*options).path / "file"
    reader = start_reader(path)
    bucket.put_object("file", NEW)
    if second_reader:
        for _ in range(3):
            done = run("cat", path, check=False)
            assert set(done.stdout.decode()) <= {"o"} or set(done.stdout.decode()) <= {"n"}
    drop_caches()
    out, _ = reader.communicate("go\n", timeout=60)
    first, everything = out.strip().split(" | ")
    assert first == "o"
    assert "n" not in everything, everything
    seen = [run("cat", path, check=False).stdout for _ in range(2)]
    assert seen[-1] in (OLD, NEW)


def test_cat_after_a_replacement_elsewhere_fails_once_at_most(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    path = mount().path / "file"
    for turn in range(12):
        content = os.urandom(50_000 if turn % 2 else 9 << 20)
        bucket.put_object("file", content)
        if turn % 3 == 0:
            drop_caches()
        seen = []
        for _ in range(2):
            done = run("cat", path, check=False)
            seen.append(done)
            if done.returncode == 0:
                break
            assert b"Stale file handle" in done.stderr
        assert seen[-1].returncode == 0
        if turn == 0 or len(seen) == 2:
            assert seen[-1].stdout == content
        if seen[-1].stdout != content:  # old bytes, within attr_timeout: still whole
            assert len(set(seen[-1].stdout)) == 256


def test_an_unread_file_that_was_replaced_is_read_new_without_an_error(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    for number in range(20):
        bucket.put_object(f"file-{number}", b"old")
    path = mount().path
    run("ls", "-l", path)
    for number in range(20):
        bucket.put_object(f"file-{number}", b"new content")
        # The first GET leaves at open: ESTALE comes from there, and the kernel retries by itself.
        assert run("cat", path / f"file-{number}").stdout == b"new content"


def test_with_attr_timeout_zero_every_change_is_seen_at_once(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    path = mount("attr_timeout=0").path
    for turn in range(5):
        content = b"%d" % turn * (turn + 1)
        bucket.put_object("dir/file", content)
        assert run("cat", path / "dir" / "file").stdout == content
        assert run("stat", "-c", "%s", path / "dir" / "file").stdout == b"%d\n" % len(content)
    bucket.delete_object("dir/file")
    assert b"No such file" in run("cat", path / "dir" / "file", check=False).stderr
    assert not (path / "dir").exists()
    bucket.put_object("dir", b"now a file")
    assert run("cat", path / "dir").stdout == b"now a file"


def test_attributes_are_believed_for_their_time_out_and_no_longer(
    emulator: EmulatorProcess, bucket: oss2.Bucket, mount: MountMaker
) -> None:
    bucket.put_object("file", b"1")
    path = mount("attr_timeout=3").path / "file"
    begun = time.monotonic()
    assert path.stat().st_size == 1
    bucket.put_object("file", b"22")
    emulator.clear_requests()
    while time.monotonic() - begun < 2:
        size = path.stat().st_size
        heads = [r for r in emulator.requests() if r["method"] == "HEAD"]
        if time.monotonic() - begun < 3:  # else the machine was busy, and the time is over
            assert (size, heads) == (1, [])
    wait_until(lambda: path.stat().st_size == 2)
    assert time.monotonic() - begun < 8


def test_a_file_deleted_elsewhere_is_stale_to_its_reader_and_then_gone(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    bucket.put_object("file", OLD)
    path = mount().path / "file"
    reader = start_reader(path)
    bucket.delete_object("file")
    drop_caches()
    out, _ = reader.communicate("go\n", timeout=60)
    assert out.strip().split(" | ")[1] in ("o", "o,stale")
    run("cat", path, check=False)
    assert b"No such file" in run("cat", path, check=False).stderr


def test_two_mounts_of_one_bucket_keep_to_themselves(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    bucket.put_object("a", b"1")
    one, two = mount().path, mount("attr_timeout=0").path
    assert listing(one) == listing(two) == ["a"]
    bucket.put_object("b", b"2")
    assert listing(two) == ["a", "b"]
    assert run("cat", one / "b", two / "b").stdout == b"22"


def test_an_open_file_keeps_its_attributes_when_its_name_goes_to_another(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    bucket.put_object("file", b"x" * 100)
    path = mount("attr_timeout=0").path / "file"
    script = (
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY); before = os.fstat(fd)\n"
        "print('open', flush=True); sys.stdin.readline()\n"
        "after = os.fstat(fd)\n"
        "assert after.st_size == before.st_size == 100 and after.st_ino == before.st_ino\n"
        "named = os.stat(sys.argv[1])\n"
        "assert named.st_size == 7 and named.st_ino != before.st_ino, named"
    )
    with subprocess.Popen(
        [sys.executable, "-I", "-c", script, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        bucket.put_object("file", b"another")
        process.communicate(b"\n", timeout=30)
    assert process.returncode == 0
    assert python("import sys; print(open(sys.argv[1]).read())", path).stdout == b"another\n"
