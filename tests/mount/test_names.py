"""Names: listings, lookups, what a path cannot hold, what costs a request."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import oss2

from ossfs.emulator.storage import Storage
from tests.mount.conftest import MountMaker
from tests.support.emulator import EmulatorProcess
from tests.support.mount import Mount, drop_caches, listing, python, run, wait_until

ODD_NAMES = [
    "with blanks",
    "hash#percent%plus+question?",
    "größe-大小-μέγεθος",
    "new\nline",
    "%41%2F",
    "a&b<c>'\"",
    "n" * 255,
    "-dash",
    "back\\slash",
    "tab\tand\x7f",
]


def test_every_name_a_path_can_hold_is_there_with_its_bytes(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    for number, name in enumerate(ODD_NAMES):
        bucket.put_object(f"dir {name[:40]}/{name}", f"content {number}".encode())
    path = mount().path
    for number, name in enumerate(ODD_NAMES):
        directory = path / f"dir {name[:40]}"
        shown = python(
            "import os, sys; sys.stdout.buffer.write(os.listdir(os.fsencode(sys.argv[1]))[0])",
            directory,
        )
        assert shown.stdout == name.encode()
        assert run("cat", "--", directory / name).stdout == f"content {number}".encode()


def test_keys_no_path_can_hold_are_skipped_counted_and_told_once(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    for key in ("a//b", "x/../y", "./dot", "fine", "l" * 256, "d/" + "m" * 300):
        bucket.put_object(key, b"1")
    mounted = mount()
    for _ in range(3):
        # `x` holds nothing but the unspeakable `..`; it is a directory all the same.
        assert sorted(listing(mounted.path)) == ["a", "d", "fine", "x"]
        assert listing(mounted.path / "a") == listing(mounted.path / "d") == []
        drop_caches()
    assert mounted.statistics()["unspeakable_keys"] >= 12
    assert mounted.log.count("skipping keys that no path can hold") == 1


def test_a_file_wins_over_a_directory_of_the_same_name(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    bucket.put_object("both", b"file")
    bucket.put_object("both/inner", b"hidden")
    bucket.put_object("both-1", b"sorts between them")
    path = mount().path
    assert sorted(listing(path)) == ["both", "both-1"]
    assert run("cat", path / "both").stdout == b"file"
    assert run("cat", path / "both" / "inner", check=False).returncode != 0


def test_directories_need_no_marker_and_a_marker_is_no_file(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    bucket.put_object("implied/deep/file", b"1")
    bucket.put_object("marked/", b"")
    path = mount().path
    assert sorted(listing(path)) == ["implied", "marked"]
    assert listing(path / "marked") == []
    assert listing(path / "implied") == ["deep"]
    drop_caches()
    assert run("stat", "-c", "%F", path / "implied" / "deep", path / "marked").stdout.split(b"\n")[
        :2
    ] == [b"directory", b"directory"]


def test_a_prefix_is_mounted_as_the_root(bucket: oss2.Bucket, mount: MountMaker) -> None:
    bucket.put_object("data/train/one", b"1")
    bucket.put_object("data/train/sub/two", b"2")
    bucket.put_object("data/training", b"not ours")
    path = mount(prefix="data/train").path
    assert run("find", ".", "-type", "f", cwd=path).stdout.split() == [b"./one", b"./sub/two"] or (
        run("find", ".", "-type", "f", cwd=path).stdout.split() == [b"./sub/two", b"./one"]
    )
    assert run("cat", path / "sub" / "two").stdout == b"2"


def test_a_listing_answers_stats_without_a_head_and_no_xattr_is_asked_for(
    emulator: EmulatorProcess, bucket: oss2.Bucket, mount: MountMaker
) -> None:
    for number in range(50):
        bucket.put_object(f"file-{number}", b"x")
    mounted = mount()
    emulator.clear_requests()
    for _ in range(3):
        run("ls", "-l", mounted.path)
    records = emulator.requests()
    assert [record["method"] for record in records if record["method"] == "HEAD"] == []
    # With no handler the kernel asks once (ENOSYS) and never again.
    assert mounted.statistics().get("xattr_requests", 0) == 1


def test_attributes_are_what_the_options_say_and_numbers_stay(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    bucket.put_object("dir/file", b"x" * 1025)
    mtime = bucket.head_object("dir/file").last_modified
    mounted = mount("uid=12", "gid=34", "file_mode=0640", "dir_mode=0750", "umask=0010")
    shown = run("stat", "-c", "%a %u %g %s %b %h %Y", mounted.path / "dir" / "file").stdout
    assert shown.decode().split() == ["640", "12", "34", "1025", "3", "1", str(mtime)]
    assert run("stat", "-c", "%a %F", mounted.path / "dir").stdout == b"740 directory\n"
    numbers = run("stat", "-c", "%i", mounted.path / "dir" / "file").stdout
    run("ls", "-l", mounted.path / "dir")
    assert run("stat", "-c", "%i", mounted.path / "dir" / "file").stdout == numbers
    drop_caches()
    assert run("stat", "-f", "-c", "%l", mounted.path).stdout == b"255\n"


def test_missing_names_are_enoent_and_cost_what_they_must(
    emulator: EmulatorProcess, bucket: oss2.Bucket, mount: MountMaker
) -> None:
    bucket.put_object("there", b"1")
    path = mount("negative_timeout=60").path
    emulator.clear_requests()
    for _ in range(5):
        done = run("cat", path / "missing", check=False)
        assert b"No such file or directory" in done.stderr
    # One HEAD and one list of a single key; then the kernel remembers.
    assert [record["method"] for record in emulator.requests()] == ["HEAD", "GET"]
    assert run("cat", path / "there").stdout == b"1"


def test_a_read_only_mount_says_so(bucket: oss2.Bucket, mount: MountMaker) -> None:
    bucket.put_object("file", b"1")
    path = mount("ro").path
    for command in (
        ["touch", path / "new"],
        ["rm", "-f", path / "file"],
        ["mkdir", path / "dir"],
        ["mv", path / "file", path / "other"],
        ["sh", "-c", 'echo x >> "$1"', "sh", path / "file"],
        ["chmod", "600", path / "file"],
    ):
        done = run(*command, check=False)
        assert b"Read-only file system" in done.stderr, (command, done)
    assert bucket.get_object("file").read() == b"1"


SEEKING = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
for name in ("readdir", "telldir", "rewinddir", "closedir"):
    getattr(libc, name).argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_ulong), ("off", ctypes.c_long), ("reclen", ctypes.c_ushort),
                ("type", ctypes.c_ubyte), ("name", ctypes.c_char * 256)]
libc.readdir.restype = ctypes.POINTER(Dirent)
d = libc.opendir(sys.argv[1].encode())
def read():
    entry = libc.readdir(d)
    return entry.contents.name if entry else None
cookies, names = [], []
while True:
    cookie = libc.telldir(d)
    name = read()
    if name is None:
        break
    cookies.append(cookie); names.append(name)
assert len(set(names)) == len(names) == int(sys.argv[2]) + 2, len(names)
"""
PLACES = """
PLACES = [0, 1, 2, 3, 1500, 2499, 7, 999, 1000, 1001, 1002, 1003, 2001, 2, len(names) - 1]
"""
UNCHANGED = (
    SEEKING
    + PLACES
    + """
for index in PLACES:
    libc.seekdir(d, cookies[index])
    following = [read() for _ in range(3)]
    assert following == (names + [None] * 3)[index:index + 3], (index, following)
libc.rewinddir(d)
again = []
while (name := read()) is not None:
    again.append(name)
assert again == names
libc.closedir(d)
"""
)
REWOUND = (
    SEEKING
    + """
print("listed", flush=True)
sys.stdin.readline()
libc.rewinddir(d)
while (name := read()) is not None:
    if name not in (b".", b".."):
        print(name.decode())
libc.closedir(d)
"""
)
CHANGED = (
    SEEKING
    + PLACES
    + """
print("listed", flush=True)
gone, new = map(str.split, sys.stdin.readline().split(","))
now = [name for name in names if name.decode() not in gone] + [name.encode() for name in new]
now = now[:2] + sorted(now[2:])
for index in PLACES[2:]:
    libc.seekdir(d, cookies[index])
    following = [read() for _ in range(3)]
    rest = [name for name in now[2:] if name > names[index - 1]] if index > 2 else now[2:]
    assert following == (rest + [None] * 3)[:3], (index, following, rest[:3])
libc.closedir(d)
"""
)


def test_seekdir_telldir_and_rewinddir_are_exact(bucket: oss2.Bucket, mount: MountMaker) -> None:
    for number in range(1250):
        bucket.put_object(f"many/{number:05d}", b"")
        bucket.put_object(f"many/{number:05d}-d/x", b"")
    python(UNCHANGED, mount().path / "many", "2500")


def read_while_changed(
    script: str, directory: Path, size: int, change: Callable[[], None], told: str
) -> str:
    """Run a SEEKING script; change the bucket once it has listed; tell it; return what it says."""
    command = [sys.executable, "-c", script, str(directory), str(size)]
    with subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "listed\n"
        change()
        said, _ = reader.communicate(f"{told}\n", timeout=60)
    assert reader.returncode == 0
    return said


def test_a_place_that_was_told_stays_right_while_the_directory_changes(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    for number in range(2500):
        bucket.put_object(f"many/{number:05d}", b"")
    gone, new = ["00000", "00998", "01500", "01999"], ["00005-new", "01499-new", "02600"]

    def change() -> None:
        bucket.batch_delete_objects([f"many/{name}" for name in gone])
        for name in new:
            bucket.put_object(f"many/{name}", b"")

    told = f"{' '.join(gone)},{' '.join(new)}"
    read_while_changed(CHANGED, mount().path / "many", 2500, change, told)


def test_an_open_directory_that_is_rewound_is_listed_afresh(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    for name in ("a", "b"):
        bucket.put_object(f"dir/{name}", b"")

    def change() -> None:
        bucket.delete_object("dir/a")
        bucket.put_object("dir/c", b"")

    said = read_while_changed(REWOUND, mount().path / "dir", 2, change, "go")
    assert said.split() == ["b", "c"]


def test_after_the_kernel_forgets_only_the_root_is_left(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    for number in range(300):
        bucket.put_object(f"d{number % 7}/e{number % 3}/file-{number}", b"x")
    mounted = mount()
    for _ in range(3):
        run("find", mounted.path, "-type", "f")
        run("ls", "-lR", mounted.path)
        run("grep", "-r", "x", mounted.path)
        run("cat", mounted.path / "d0" / "missing", check=False)
    assert mounted.statistics()["inodes"] > 300

    def forgotten() -> bool:
        drop_caches()
        return bool(mounted.statistics()["inodes"] == 1)

    wait_until(forgotten)


def test_a_large_directory_costs_a_list_a_thousand_and_no_head(tmp_path: Path) -> None:
    count = 100_000
    with Storage(tmp_path / "data", fast_etags=True) as storage:
        big = storage.bucket("test-bucket", create=True)
        with big.batch():
            for number in range(count):
                big.put_bytes(b"file-%06d" % number)
    with (
        EmulatorProcess(tmp_path / "data", fast_etags=True) as emulator,
        Mount(emulator, tmp_path / "mounted") as mounted,
    ):
        emulator.clear_requests()
        shown = run("ls", "-l", mounted.path).stdout
        assert shown.count(b"\n") == count + 1
        records = emulator.requests()
        lists = [record for record in records if record["sub"] == "list-type"]
        assert len(lists) <= 101
        assert [record for record in records if record["method"] == "HEAD"] == []


def test_lookups_of_one_directory_do_not_wait_for_each_other(
    bucket: oss2.Bucket, mount: MountMaker, emulator: EmulatorProcess
) -> None:
    for number in range(8):
        bucket.put_object(f"dir/{number}", b"")
    mounted = mount()
    assert listing(mounted.path) == ["dir"]
    looking: list[subprocess.Popen[bytes]] = []
    os.kill(emulator.pid, signal.SIGSTOP)  # from here on no request is answered
    try:
        for number in range(8):
            looking.append(subprocess.Popen(["stat", mounted.path / "dir" / str(number)]))
        wait_until(lambda: mounted.statistics()["requests"].get("head", 0) == 8)
    finally:
        os.kill(emulator.pid, signal.SIGCONT)
    assert [stat.wait(timeout=60) for stat in looking] == [0] * 8


def test_inode_numbers_outlive_the_kernels_memory_of_them(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    for name in ("a", "b", "dir/c"):
        bucket.put_object(name, name.encode())
    mounted = mount()

    def numbers() -> dict[str, int]:
        paths = ["a", "b", "dir", "dir/c"]
        return {name: (mounted.path / name).stat().st_ino for name in paths}

    before = numbers()
    assert len(set(before.values())) == len(before)
    drop_caches()
    wait_until(lambda: mounted.statistics()["inodes"] == 1)
    assert numbers() == before
    shown = run("ls", "-i", mounted.path).stdout.decode().split()
    assert shown == [str(before["a"]), "a", str(before["b"]), "b", str(before["dir"]), "dir"]
