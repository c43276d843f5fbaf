"""Ordinary programs write through a mount; the objects are what they wrote.

They are read back by oss2, on SeaweedFS by minio.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import oss2
import pytest

from ossfs.store.crc import crc64
from tests.mount.conftest import MountMaker
from tests.support.emulator import EmulatorProcess
from tests.support.mount import Mount, python, run, wait_until
from tests.support.s3_bucket import S3Bucket

MIB = 1 << 20
Bucket = oss2.Bucket | S3Bucket


@pytest.fixture(params=["oss", "s3"])
def store(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree of files of many sizes, and an empty directory."""
    top = tmp_path / "source"
    random.seed(7)
    for number, size in enumerate([0, 1, 102_399, 102_400, 300_000, 8 * MIB - 1, 8 * MIB + 1]):
        file = top / f"d{number % 3}" / f"file-{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(random.randbytes(size))
    (top / "empty").mkdir()
    return top


def objects(bucket: Bucket, prefix: str = "") -> dict[str, bytes]:
    """Every object's bytes, each with the CRC-64 (on S3 the MD5) the store has for it."""
    if isinstance(bucket, S3Bucket):
        return bucket.objects(prefix)
    found = {}
    for entry in oss2.ObjectIteratorV2(bucket, prefix=prefix):
        reply = bucket.get_object(entry.key)
        found[entry.key.removeprefix(prefix)] = data = reply.read()
        assert int(reply.headers["x-oss-hash-crc64ecma"]) == crc64([data])
    return found


def tree(top: Path) -> dict[str, bytes]:
    found = {f"{path.relative_to(top)}": path.read_bytes() for path in top.rglob("*.txt")}
    return found | {f"{path.relative_to(top)}/": b"" for path in top.rglob("*") if path.is_dir()}


@pytest.mark.parametrize("mode", ["sequential", "staged", "appendable"])
def test_copies_of_a_tree_are_the_tree(
    bucket: Bucket, mount: MountMaker, source: Path, tmp_path: Path, mode: str
) -> None:
    mounted = mount(*options_of(mode, tmp_path))
    archive = tmp_path / "all.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(source, "tar")
    run("cp", "-r", source, mounted.path / "cp")
    run("rsync", "-a", f"{source}/", mounted.path / "rsync")
    run("rsync", "-a", "--inplace", f"{source}/", mounted.path / "inplace")
    run("tar", "xf", archive, "-C", mounted.path)
    for name in ("cp", "rsync", "inplace", "tar"):
        run("diff", "-r", source, mounted.path / name)
        found = objects(bucket, f"{name}/")
        found.pop("", None)
        assert found == tree(source), name


def options_of(mode: str, directory: Path) -> tuple[str, ...]:
    if mode == "staged":
        (directory / "stage").mkdir(exist_ok=True)
        return (f"temp_dir={directory / 'stage'}",)
    return ("enable_appendable_object",) if mode == "appendable" else ()


def test_rsync_in_place_over_a_changed_file_needs_a_stage(
    bucket: Bucket, mount: MountMaker, tmp_path: Path
) -> None:
    (tmp_path / "new").write_bytes(b"b" * 300_000)
    command = ("rsync", "-a", "--inplace", "--no-whole-file", tmp_path / "new")
    bucket.put_object("f", b"a" * 300_001)
    mounted = mount()
    assert run(*command, mounted.path / "f", check=False).returncode
    assert mounted.log.count("mount with temp_dir") == 1
    assert objects(bucket) == {"f": b"a" * 300_001}
    staged = mount(*options_of("staged", tmp_path), "attr_timeout=0")
    run(*command, staged.path / "f")
    assert objects(bucket) == {"f": b"b" * 300_000}


def test_shells_append_in_turn_and_to_what_they_hold_open(
    bucket: Bucket, mount: MountMaker
) -> None:
    path = mount().path
    for number in range(4):
        run("sh", "-c", f"echo {number} >> log", cwd=path)
    run("sh", "-c", "(echo a; echo b) > twice", cwd=path)
    run("sh", "-c", "exec 3>held; echo a >&3; cat held >/dev/null; echo b >&3", cwd=path)
    assert objects(bucket) == {"log": b"0\n1\n2\n3\n", "twice": b"a\nb\n", "held": b"a\nb\n"}


def test_dd_split_and_a_save_by_rename(bucket: Bucket, mount: MountMaker, tmp_path: Path) -> None:
    path = mount().path
    data = random.Random(1).randbytes(3 * MIB)
    (tmp_path / "in").write_bytes(data)
    run("dd", f"if={tmp_path / 'in'}", f"of={path / 'dd'}", "bs=1M", "conv=fsync", "status=none")
    run("split", "-b", "1000000", tmp_path / "in", path / "part.")
    bucket.put_object("text", b"old\n")
    run("sh", "-c", "printf 'new\\n' > .text.swp && mv .text.swp text", cwd=path)
    found = objects(bucket)
    assert found.pop("dd") == data
    assert found.pop("text") == b"new\n"
    assert b"".join(found[name] for name in sorted(found)) == data


def test_a_checkpoint_of_a_gigabyte_is_whole(bucket: Bucket, mount: MountMaker) -> None:
    path = mount().path / "checkpoint.pt"
    script = """
import random, sys
from fastcrc.crc64 import xz
crc, piece = 0, random.Random(3).randbytes(1 << 20)
with open(sys.argv[1], "wb", buffering=0) as file:
    for number in range(1024):
        data = number.to_bytes(8, "big") + piece[8:]
        crc = xz(data, crc)
        assert file.write(data) == len(data)
print(crc)
"""
    written = int(python(script, path, seconds=120).stdout)
    head = bucket.head_object("checkpoint.pt")
    assert head.content_length == 1 << 30
    if isinstance(bucket, S3Bucket):  # which has no CRC of its own
        assert bucket.crc64("checkpoint.pt") == written
    else:
        assert int(head.headers["x-oss-hash-crc64ecma"]) == written


def test_git_clones_into_a_staged_mount(bucket: Bucket, mount: MountMaker, tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    identity = ("-c", "user.name=a", "-c", "user.email=b")
    run("git", "init", "-q", origin)
    for number in range(20):
        (origin / f"file-{number}").write_text(f"{number}\n" * 1000)
    run("git", "-C", origin, "add", ".")
    run("git", "-C", origin, *identity, "commit", "-qm", "all")
    path = mount(*options_of("staged", tmp_path)).path
    run("git", "clone", "-q", origin, path / "clone")
    assert run("git", "-C", path / "clone", "status", "--porcelain").stdout == b""
    run("git", "-C", path / "clone", "fsck")
    assert bucket.get_object("clone/file-7").read() == b"7\n" * 1000


def test_databases_and_archives_work_on_a_staged_mount(
    bucket: Bucket, mount: MountMaker, tmp_path: Path, source: Path
) -> None:
    mounted = mount(*options_of("staged", tmp_path))
    database = sqlite3.connect(mounted.path / "data.db")
    with database:
        database.execute("create table t (a integer primary key, b text)")
        database.executemany("insert into t (b) values (?)", [("x" * n,) for n in range(500)])
    with database:
        database.execute("update t set b = 'changed' where a % 7 = 0")
        database.execute("delete from t where a % 5 = 0")
    database.close()
    (tmp_path / "copy.db").write_bytes(bucket.get_object("data.db").read())
    copy = sqlite3.connect(tmp_path / "copy.db")
    assert copy.execute("pragma integrity_check").fetchone() == ("ok",)
    assert copy.execute("select count(*) from t").fetchone() == (400,)
    copy.close()
    run("zip", "-q", "-r", mounted.path / "all.zip", ".", cwd=source)
    (tmp_path / "all.zip").write_bytes(bucket.get_object("all.zip").read())
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.testzip() is None
        assert archive.read("d0/file-3.txt") == (source / "d0/file-3.txt").read_bytes()


def test_a_staged_file_can_be_mapped_and_cut(
    bucket: Bucket, mount: MountMaker, tmp_path: Path
) -> None:
    bucket.put_object("f", b"a" * 200_000)
    path = mount(*options_of("staged", tmp_path)).path
    script = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
with mmap.mmap(fd, 0) as view:
    view[100_000:100_005] = b"bbbbb"
    os.close(fd)
    view[5:6] = b"c"
"""
    python(script, path / "f")
    want = bytearray(b"a" * 200_000)
    want[100_000:100_005], want[5:6] = b"bbbbb", b"c"
    wait_until(lambda: bucket.get_object("f").read() == bytes(want))
    run("truncate", "-s", "150000", path / "f")
    run("truncate", "-s", "160000", path / "f")
    assert bucket.get_object("f").read() == bytes(want[:150_000]) + bytes(10_000)


def user_mtime(head: Any) -> str:
    for name in ("x-oss-meta-mtime", "x-amz-meta-mtime"):
        if name in head.headers:
            return str(head.headers[name])
    raise AssertionError(f"no mtime in {head.headers}")


def test_times_and_names_travel(bucket: Bucket, mount: MountMaker, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(b"<html>")
    os.utime(tmp_path / "a.html", (1_000_000_000, 1_234_567_890))
    path = mount("preserve_mtime=true", "attr_timeout=0").path
    run("rsync", "-a", tmp_path / "a.html", path)
    head = bucket.head_object("a.html")
    assert user_mtime(head) == "1234567890"
    assert head.content_type == "text/html"
    again = mount("preserve_mtime=true").path
    assert (again / "a.html").stat().st_mtime == 1_234_567_890
    told = run("rsync", "-a", "--stats", tmp_path / "a.html", again).stdout
    assert b"Number of regular files transferred: 0" in told
    run("mv", path / "a.html", path / "b.html")
    assert user_mtime(bucket.head_object("b.html")) == "1234567890"


def test_the_time_after_close_is_the_stores_and_stays(bucket: Bucket, mount: MountMaker) -> None:
    path = mount("attr_timeout=1").path / "f"
    path.write_bytes(b"x")
    seen = path.stat().st_mtime
    assert seen == bucket.head_object("f").last_modified
    path.with_name("g").write_bytes(b"")
    wait_until(lambda: path.stat().st_atime == seen)
    assert path.stat().st_mtime == seen


def test_what_a_bucket_cannot_do_says_so(bucket: Bucket, mount: MountMaker) -> None:
    path = mount().path
    (path / "f").write_bytes(b"data")
    for command, reason in [
        (("ln", path / "f", path / "g"), b"not permitted"),
        (("ln", "-s", "f", path / "g"), b"not supported"),
        (("fallocate", "-l", "10", path / "f"), b"not supported"),
        (("truncate", "-s", "3", path / "f"), b"Invalid argument"),
    ]:
        done = run(*command, check=False)
        assert done.returncode
        assert reason in done.stderr
    run("chmod", "600", path / "f")
    run("chown", "1:1", path / "f")
    run("truncate", "-s", "4", path / "f")
    assert objects(bucket) == {"f": b"data"}


def test_links_and_attributes_where_they_are_asked_for(bucket: Bucket, mount: MountMaker) -> None:
    path = mount("enable_symlink", "enable_xattr").path
    (path / "d").mkdir()
    (path / "f").write_bytes(b"data")
    (path / "d" / "link").symlink_to("../f")
    assert bucket.get_symlink("d/link").target_key == "f"
    assert os.readlink(path / "d" / "link") == "../f"
    assert (path / "d" / "link").read_bytes() == b"data"
    assert os.getxattr(path / "f", "user.oss.type") == b"Normal"
    assert "user.oss.crc64" in os.listxattr(path / "f")


def test_attributes_cost_nothing_where_nobody_wants_them(bucket: Bucket, mount: MountMaker) -> None:
    mounted = mount()
    for number in range(20):
        (mounted.path / f"f{number}").write_bytes(b"x")
    run("ls", "-l", mounted.path)
    assert mounted.statistics()["xattr_requests"] <= 1


def test_descriptors_closed_by_children_cost_no_request(
    emulator: EmulatorProcess, bucket: Bucket, mount: MountMaker
) -> None:
    path = mount().path / "f"
    script = """
import os, subprocess, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.set_inheritable(fd, True)
os.write(fd, b"data")
os.fsync(fd)
print(flush=True)
sys.stdin.readline()
for _ in range(1000):
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
"""
    import subprocess

    with subprocess.Popen(
        [sys.executable, "-I", "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        emulator.clear_requests()
        child.stdin.write(b"\n")
        child.stdin.close()
        assert child.wait(60) == 0
    assert emulator.requests() == []


@pytest.mark.parametrize("flags", ["wb", "ab"])
def test_a_file_can_be_opened_again_right_after_its_close(
    bucket: Bucket, mount: MountMaker, flags: str
) -> None:
    path = mount().path / "f"
    script = """
import sys
for number in range(300):
    with open(sys.argv[1], sys.argv[2]) as file:
        file.write(b"%03d" % number)
"""
    python(script, path, flags)
    want = [b"%03d" % number for number in range(300)]
    assert bucket.get_object("f").read() == (want[-1] if flags == "wb" else b"".join(want))


def test_a_second_writer_is_refused_while_the_first_is_at_work(
    bucket: Bucket, mount: MountMaker
) -> None:
    path = mount().path / "f"
    with path.open("wb", buffering=0) as first:
        first.write(b"first")
        with pytest.raises(OSError, match="busy"):
            path.open("wb")
        with pytest.raises(OSError, match="busy"):
            path.open("ab")
        assert path.read_bytes() == b"first"
    with path.open("ab") as second:
        second.write(b" second")
    assert bucket.get_object("f").read() == b"first second"


def test_of_two_exclusive_creates_one_succeeds(bucket: Bucket, mount: MountMaker) -> None:
    paths = [mount().path / "f" for _ in range(2)]
    handles = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) for path in paths]
    for number, handle in enumerate(handles):
        os.write(handle, b"%d" % number)
    os.close(handles[0])
    with pytest.raises(FileExistsError):
        os.close(handles[1])
    assert objects(bucket) == {"f": b"0"}
    with pytest.raises(FileExistsError):
        paths[1].open("xb")


def test_others_see_a_file_only_when_it_is_whole(bucket: Bucket, mount: MountMaker) -> None:
    path = mount().path / "f"
    bucket.put_object("f", b"old")
    with path.open("wb", buffering=0) as file:
        for _ in range(20):
            file.write(b"n" * MIB)
        assert bucket.get_object("f").read() == b"old"
        os.fsync(file.fileno())
        assert bucket.get_object("f").read() == b"n" * (20 * MIB)
        file.write(b"more")
        assert bucket.head_object("f").content_length == 20 * MIB
        assert path.read_bytes()[-5:] == b"nmore"
    assert bucket.head_object("f").content_length == 20 * MIB + 4


def test_files_that_are_removed_or_renamed_stay_usable(bucket: Bucket, mount: MountMaker) -> None:
    path = mount().path
    bucket.put_object("small", b"small")
    with (path / "small").open("rb") as reader, (path / "w").open("w+b", buffering=0) as writer:
        writer.write(b"own")
        (path / "small").unlink()
        (path / "w").unlink()
        assert sorted(os.listdir(path)) == []
        writer.seek(0)
        assert (reader.read(), writer.read()) == (b"small", b"own")
    assert objects(bucket) == {}
    with (path / "a").open("wb", buffering=0) as file:
        file.write(b"one")
        (path / "a").rename(path / "b")
        file.write(b"two")
    (path / "d").mkdir()
    with (path / "d" / "x").open("wb", buffering=0) as file:
        file.write(b"in")
        (path / "d").rename(path / "e")
        file.write(b"side")
    assert objects(bucket) == {"b": b"onetwo", "e/": b"", "e/x": b"inside"}


def test_directories_are_removed_only_when_empty_and_stay_when_emptied(
    bucket: Bucket, mount: MountMaker
) -> None:
    path = mount("attr_timeout=0").path
    bucket.put_object("d/f", b"x")
    with pytest.raises(OSError, match="not empty"):
        (path / "d").rmdir()
    (path / "d" / "f").unlink()
    assert os.listdir(path / "d") == []
    (path / "d").rmdir()
    assert objects(bucket) == {}


def test_an_upload_in_vain_is_an_error_from_close_and_changes_nothing(
    emulator: EmulatorProcess, bucket: Bucket, mount: MountMaker
) -> None:
    bucket.put_object("f", b"old")
    mounted: Mount = mount("oss_request_timeout_ms=1000", "attr_timeout=0")
    handle = os.open(mounted.path / "f", os.O_WRONLY | os.O_TRUNC)
    os.write(handle, b"new")
    emulator.pause()
    try:
        with pytest.raises(OSError, match=r"timed out|Input/output"):
            os.close(handle)
    finally:
        emulator.resume()
    assert (mounted.path / "f").read_bytes() in (b"old", b"new")
    assert "f" in mounted.log
