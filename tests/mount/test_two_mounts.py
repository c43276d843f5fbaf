"""What one mount changes, seen from another mount of the same bucket: when, and never a mixture.

The second mount has looked at everything before the first changes it, so its caches and those of
the kernel are warm. What it may go on believing is a matter of three lives that the options give:
of names and attributes, of absences, and of what an open finds. Short ones are waited out; long
ones are held to cost no request while they last.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import oss2
import pytest

from tests.mount.conftest import MountMaker
from tests.support.emulator import EmulatorProcess
from tests.support.mount import drop_caches, run, wait_until

SLACK_S = 1.0
"""How much later than its time-out a change may be seen, on a busy machine."""
PATIENCE_S = 10.0
"""Lives longer than this are not waited out."""


class Is:
    """What a name may stand for besides bytes."""

    MISSING = "missing"
    DIRECTORY = "a directory"
    STALE = "stale"


Seen = bytes | str
Look = tuple[int, int] | str


@dataclass(frozen=True, slots=True)
class Change:
    """What the first mount does to one name; what another sees before and after it."""

    name: str
    before: Seen
    after: Seen
    make: Callable[[Path], object]


def append(path: Path, content: bytes) -> None:
    with open(path, "ab") as file:
        file.write(content)


def turn_into_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES = (
    Change("created", Is.MISSING, b"created", lambda path: path.write_bytes(b"created")),
    Change("replaced", b"old bytes", b"new bytes", lambda path: path.write_bytes(b"new bytes")),
    Change("resized", b"old", b"new, longer", lambda path: path.write_bytes(b"new, longer")),
    Change("appended", b"old", b"old and more", lambda path: append(path, b" and more")),
    Change("deleted", b"old", Is.MISSING, Path.unlink),
    Change("renamed", b"renamed", Is.MISSING, lambda path: path.rename(path.parent / "target")),
    Change("target", Is.MISSING, b"renamed", lambda path: None),
    Change("turned", b"old", Is.DIRECTORY, turn_into_directory),
    Change("removed", Is.DIRECTORY, Is.MISSING, Path.rmdir),
)


def opened(path: Path, flags: int) -> None:
    """Open a file, and close it again."""
    os.close(os.open(path, flags))


def look(path: Path) -> Look:
    """Return what stat tells: the version of a file, by number and size, or what else is there."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return Is.MISSING
    return Is.DIRECTORY if stat.S_ISDIR(found.st_mode) else (found.st_ino, found.st_size)


def read(path: Path) -> Seen:
    """Return what open and read give."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return Is.MISSING
    except IsADirectoryError:
        return Is.DIRECTORY
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return Is.STALE


@dataclass(frozen=True, slots=True)
class Case:
    """How long a mount with some options believes what it has seen, in seconds."""

    options: str
    attr: float = 60.0
    """Names and attributes."""
    absence: float = 0.0
    """That a name does not exist."""
    close_to_open: bool = False
    """Whatever stat says, opening a file that was there asks the bucket."""
    pages: bool = True
    """What was read can be read again without a request."""
    writes: bool = True
    """The mount that changes things has the same options; else it is a plain one."""
    acknowledged: bool = True
    """What is closed is in the bucket."""

    def __str__(self) -> str:
        return self.options or "defaults"

    def life(self, change: Change) -> float:
        """How long the name is believed to be what it was."""
        return self.absence if change.before == Is.MISSING else self.attr

    def asks_at_open(self, change: Change) -> bool:
        return self.close_to_open and isinstance(change.before, bytes)


PRESETS = (
    Case("preset=append-log", attr=0),
    Case("preset=checkpoint"),
    Case("preset=consistent", attr=0, close_to_open=True),
    Case("preset=distributed", attr=0, close_to_open=True, pages=False),
    Case("preset=fast-rw", attr=600, acknowledged=False),
    Case("preset=incremental", attr=3600),
    Case("preset=many-files"),
    Case("preset=quick", attr=3),
    Case("preset=read-only", attr=7200, absence=7200, writes=False),
    Case("preset=static-data", attr=7200, absence=7200),
)
OPTIONS = (
    Case(""),
    Case("attr_timeout=0", attr=0),
    Case("attr_timeout=2", attr=2),
    # Names that the kernel believes for longer do not matter while it asks for attributes, nor
    # the other way round; for both together it asks nobody.
    Case("attr_timeout=0,fuse_entry_timeout=60", attr=0),
    Case("attr_timeout=0,fuse_attr_timeout=60", attr=0),
    Case("attr_timeout=2,fuse_entry_timeout=60", attr=2),
    Case("attr_timeout=0,fuse_entry_timeout=2,fuse_attr_timeout=2", attr=2),
    Case("attr_timeout=0,fuse_entry_timeout=60,fuse_attr_timeout=60", attr=60),
    Case("fuse_entry_timeout=0,fuse_attr_timeout=0"),
    Case("negative_timeout=2", absence=2),
    Case("negative_timeout=60", absence=60),
    Case("oss_negative_cache_timeout=2", absence=2),
    Case("oss_negative_cache_timeout=60,attr_timeout=0", attr=0, absence=60),
    # One within the other: they do not add up.
    Case("negative_timeout=3,oss_negative_cache_timeout=4", absence=4),
    Case("close_to_open", close_to_open=True),
    Case("close_to_open,attr_timeout=2,negative_timeout=60", 2, 60, close_to_open=True),
    Case(
        "close_to_open,attr_timeout=0,fuse_entry_timeout=60,fuse_attr_timeout=60",
        close_to_open=True,
    ),
    Case("direct_io", pages=False),
    Case("direct_io,close_to_open", close_to_open=True, pages=False),
    Case("auto_cache=false", pages=False),
    Case("auto_cache=false,kernel_cache"),
    Case("kernel_cache,attr_timeout=2", attr=2),
    Case("readdirplus=false,attr_timeout=2", attr=2),
    Case("readdirplus=false"),
)


def contents(bucket: oss2.Bucket) -> dict[str, bytes]:
    return {
        entry.key.removeprefix("d/"): bucket.get_object(entry.key).read()
        for entry in oss2.ObjectIterator(bucket, prefix="d/")
    }


def objects(what: dict[str, Seen]) -> dict[str, bytes]:
    """Return the objects that make names stand for these."""
    files = {name: seen for name, seen in what.items() if isinstance(seen, bytes)}
    return files | {f"{name}/": b"" for name, seen in what.items() if seen == Is.DIRECTORY}


@pytest.mark.parametrize("case", [*PRESETS, *OPTIONS], ids=str)
def test_a_change_made_elsewhere_is_seen_when_its_life_is_over_and_not_asked_about_before(
    emulator: EmulatorProcess, bucket: oss2.Bucket, mount: MountMaker, case: Case
) -> None:
    bucket.put_object("d/stays", b"")
    for name, content in objects({change.name: change.before for change in CHANGES}).items():
        bucket.put_object(f"d/{name}", content)
    here = mount(*([case.options] if case.writes and case.options else [])).path / "d"
    there = mount(*([case.options] if case.options else [])).path / "d"

    begun = time.monotonic()
    for change in CHANGES:
        assert read(there / change.name) == change.before, change
    old = {change: look(there / change.name) for change in CHANGES}
    warm = time.monotonic()

    for change in CHANGES:
        change.make(here / change.name)
    wanted = {"stays": b""} | objects({change.name: change.after for change in CHANGES})
    if not case.acknowledged:
        wait_until(lambda: contents(bucket) == wanted)
    assert contents(bucket) == wanted

    def new(change: Change) -> bool:
        seen = look(there / change.name)
        if isinstance(change.after, bytes):
            return seen != old[change] and seen[1:] == (len(change.after),)
        return seen == change.after

    # What is believed is as it was, and nobody is asked about it.
    for life in {case.life(change) for change in CHANGES} - {0.0}:
        believed = [change for change in CHANGES if case.life(change) == life]
        to_read = [c for c in believed if case.pages and not case.asks_at_open(c)]
        emulator.clear_requests()
        for _ in range(2):
            seen = {change: look(there / change.name) for change in believed}
            got = {change: read(there / change.name) for change in to_read}
            asked = [(one["key"], one["query"]) for one in emulator.requests()]
            if time.monotonic() < begun + life:
                assert seen == {change: old[change] for change in believed}
                assert got == {change: change.before for change in to_read}
                names = [change.name for change in believed]
                assert not [one for one in asked if any(name in str(one) for name in names)]
    # What is not believed is seen at the next look, or at the next open.
    for change in CHANGES:
        if not case.life(change):
            assert new(change), (change, look(there / change.name))
        if not case.life(change) or case.asks_at_open(change):
            assert read(there / change.name) == change.after, change
    for change in CHANGES:
        life = case.life(change)
        if 0 < life <= PATIENCE_S:
            left = warm + life + SLACK_S - time.monotonic()
            wait_until(lambda change=change: new(change), max(left, 0))
            assert read(there / change.name) == change.after, change
        elif life and not case.pages and isinstance(change.before, bytes):
            # Without pages to read it from, that a version is gone shows: in one error at most.
            got = [read(there / change.name) for _ in range(2)]
            assert got[0] in (Is.STALE, change.after), change
            assert got[1] == change.after, change
    # A listing is never from memory.
    assert sorted(os.listdir(there)) == sorted(name.rstrip("/") for name in wanted)


def pread(file: int, start: int, end: int) -> Seen:
    """Return a range of an open file, or that it is stale."""
    got = b""
    try:
        while piece := os.pread(file, min(65536, end - start - len(got)), start + len(got)):
            got += piece
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return Is.STALE
    return got


@pytest.mark.parametrize(
    "options",
    [
        "attr_timeout=2",
        "preset=consistent",
        "attr_timeout=2,kernel_cache",
        "attr_timeout=2,direct_io",
        "attr_timeout=2,auto_cache=false",
    ],
)
def test_old_and_new_handles_read_one_version_each(
    bucket: oss2.Bucket, mount: MountMaker, options: str
) -> None:
    here, there = mount(options).path, mount(options).path
    sizes = {"small": 100 << 10, "large": 3 << 20}
    old = {name: b"o" * size for name, size in sizes.items()}
    new = {name: b"n" * size for name, size in sizes.items()}
    wait_until(lambda: time.time() % 1 < 0.5)  # so that one second sees both versions
    for name, content in old.items():
        bucket.put_object(name, content)
    with ExitStack() as stack:
        files = {name: os.open(there / name, os.O_RDONLY) for name in sizes}
        for file in files.values():
            stack.callback(os.close, file)
        for name, file in files.items():
            half = sizes[name] // 2
            assert pread(file, 0, half) == old[name][:half]
            (here / name).write_bytes(new[name])
        due = time.monotonic() + (0 if options == "preset=consistent" else 2 + SLACK_S)
        for name in sizes:
            while (seen := read(there / name)) != new[name]:
                assert seen in (old[name], Is.STALE)
                assert time.monotonic() < due
        for _ in range(2):
            for name, file in files.items():
                half = sizes[name] // 2
                assert pread(file, 0, half) in (old[name][:half], Is.STALE)
                assert pread(file, half, sizes[name]) in (old[name][half:], Is.STALE)
                assert read(there / name) == new[name]
            drop_caches()


@pytest.mark.parametrize("memory", ["negative_timeout=60", "oss_negative_cache_timeout=60"])
def test_create_finds_what_another_made_though_it_is_remembered_as_missing(
    bucket: oss2.Bucket, mount: MountMaker, memory: str
) -> None:
    here, there = mount().path, mount(memory).path
    for name in ("kept", "cut", "emptied", "exclusive", "appended", "touched", "echo", "dir"):
        assert look(there / name) == Is.MISSING
        if name == "dir":
            (here / name).mkdir()
        else:
            (here / name).write_bytes(b"theirs")
        assert look(there / name) == Is.MISSING

    def stored(name: str) -> bytes:
        return bytes(bucket.get_object(name).read())

    file = os.open(there / "kept", os.O_CREAT | os.O_RDWR)
    assert os.read(file, 100) == b"theirs"
    os.close(file)
    assert stored("kept") == b"theirs"
    file = os.open(there / "cut", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.write(file, b"own")
    os.close(file)
    assert stored("cut") == b"own"
    opened(there / "emptied", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    assert stored("emptied") == b""
    with pytest.raises(FileExistsError):
        opened(there / "exclusive", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    assert read(there / "exclusive") == b"theirs"
    append(there / "appended", b" and own")
    assert stored("appended") == b"theirs and own"
    (there / "touched").touch()
    assert read(there / "touched") == b"theirs"
    run("sh", "-c", f"echo own > {there}/echo")
    assert stored("echo") == b"own\n"
    os.makedirs(there / "dir", exist_ok=True)
    run("mkdir", "-p", there / "dir" / "sub")
    assert (here / "dir" / "sub").is_dir()


@pytest.fixture
def stale(bucket: oss2.Bucket, mount: MountMaker) -> Path:
    """A mount that believes names for long, but asks at open: `gone-N` are deleted by now."""
    names = [f"gone-{number}" for number in range(10)]
    for name in names:
        bucket.put_object(name, b"old")
    here, there = mount().path, mount("close_to_open,attr_timeout=60").path
    for name in names:
        assert read(there / name) == b"old"
        (here / name).unlink()
    return there


def test_create_makes_anew_what_is_remembered_and_was_deleted(
    bucket: oss2.Bucket, stale: Path
) -> None:
    def stored(name: str) -> bytes:
        return bytes(bucket.get_object(name).read())

    for number, flags in enumerate((os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC)):
        file = os.open(stale / f"gone-{number}", os.O_CREAT | flags)
        os.write(file, b"again")
        os.close(file)
        assert stored(f"gone-{number}") == b"again"
    opened(stale / "gone-3", os.O_CREAT | os.O_RDONLY)
    assert stored("gone-3") == b""
    run("sh", "-c", f"echo own > {stale}/gone-4")
    assert stored("gone-4") == b"own\n"
    run("sh", "-c", f"echo own >> {stale}/gone-5")
    assert stored("gone-5") == b"own\n"
    run("touch", stale / "gone-6")
    assert stored("gone-6") == b""


def test_echo_into_a_file_that_was_deleted_elsewhere_works_without_close_to_open(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    here, there = mount().path, mount().path
    for name, redirect in (("cut", ">"), ("appended", ">>")):
        bucket.put_object(name, b"old")
        assert read(there / name) == b"old"
        (here / name).unlink()
        run("sh", "-c", f"echo own {redirect} {there}/{name}")
        assert bucket.get_object(name).read() == b"own\n"


@pytest.mark.parametrize(
    "flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND], ids=hex
)
def test_an_open_without_create_of_what_was_deleted_is_enoent(stale: Path, flags: int) -> None:
    with pytest.raises(FileNotFoundError):
        opened(stale / "gone-0", flags)


def test_a_truncating_open_asks_too_under_close_to_open(
    bucket: oss2.Bucket, mount: MountMaker, stale: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        opened(stale / "gone-0", os.O_WRONLY | os.O_TRUNC)
    # A directory by now: with an object of its own name it would be two things at once.
    bucket.put_object("gone-1/file", b"theirs")
    with pytest.raises(IsADirectoryError):
        opened(stale / "gone-1", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    assert read(stale / "gone-1" / "file") == b"theirs"
    assert not bucket.object_exists("gone-0")
    assert not bucket.object_exists("gone-1")
