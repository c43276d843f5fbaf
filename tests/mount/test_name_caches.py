"""Names that are kept here: directories that many list, listings and inodes that stay a while."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import oss2
import pytest

from tests.mount.conftest import MountMaker
from tests.support.emulator import EmulatorProcess
from tests.support.mount import drop_caches, listing, run, wait_until

PAGES = 4
MANY = 3_000
"""Names of three pages of 1,000; the marker of the directory may make it four."""

LIST = """
import json, os, sys
for line in sys.stdin:
    try:
        print(json.dumps(sorted(os.listdir(json.loads(line)))), flush=True)
    except OSError as error:
        print(json.dumps(error.errno), flush=True)
"""


@contextmanager
def listers(count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Start processes that list the directories they are told, and answer with the names."""
    command = [sys.executable, "-I", "-c", LIST]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def listed(processes: list[subprocess.Popen[str]], directory: Path) -> list[list[str]]:
    """Have all of them list a directory at once."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(json.dumps(str(directory)) + "\n")
        process.stdin.flush()
    answers = []
    for process in processes:
        assert process.stdout is not None
        answers.append(json.loads(process.stdout.readline()))
    return answers


def requests(emulator: EmulatorProcess) -> list[str]:
    """Return what the bucket was asked since, and forget it: LIST, HEAD, GET, ..."""
    made = [
        "LIST" if "list-type" in one["sub"] else str(one["method"]) for one in emulator.requests()
    ]
    emulator.clear_requests()
    return made


def lists(emulator: EmulatorProcess) -> int:
    return requests(emulator).count("LIST")


# Many at once


@pytest.mark.parametrize(
    "options", [(), ("readdirplus=false",), ("kernel_readdir_cache_timeout=60",)]
)
def test_a_directory_that_eight_processes_list_at_once_is_fetched_once(
    bucket: oss2.Bucket, mount: MountMaker, emulator: EmulatorProcess, options: tuple[str, ...]
) -> None:
    names = [f"file-{number:04}" for number in range(MANY)]
    for name in names:
        bucket.put_object(f"d/{name}", b"1")
    path = mount(*options).path
    assert run("stat", path / "d").returncode == 0
    with listers(8) as processes:
        listed(processes, path / "..")  # all of them run
        emulator.clear_requests()
        assert listed(processes, path / "d") == [names] * 8
        assert lists(emulator) <= PAGES


def test_without_belief_in_attributes_everybody_asks(
    bucket: oss2.Bucket, mount: MountMaker, emulator: EmulatorProcess
) -> None:
    bucket.put_object("d/file", b"1")
    path = mount("attr_timeout=0").path
    with listers(4) as processes:
        listed(processes, path / "..")
        emulator.clear_requests()
        assert listed(processes, path / "d") == [["file"]] * 4
        assert lists(emulator) >= 4


def test_the_second_ls_of_one_process_lists_afresh(
    data: oss2.Bucket, mount: MountMaker, emulator: EmulatorProcess
) -> None:
    path = mount().path / "data"
    assert len(listing(path)) == 4
    data.put_object("data/late", b"1")
    assert len(listing(path)) == 5
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert len(os.listdir(directory)) == 5
        data.put_object("data/later", b"1")
        assert len(os.listdir(directory)) == 6, "the same open directory, rewound"
    finally:
        os.close(directory)


# kernel_readdir_cache_timeout


def test_a_listing_is_shown_again_without_a_request_but_for_what_changes_here(
    data: oss2.Bucket, mount: MountMaker, emulator: EmulatorProcess
) -> None:
    path = mount("kernel_readdir_cache_timeout=600").path / "data"
    old = [f"file-{number}" for number in range(4)]
    assert listing(path) == old
    emulator.clear_requests()
    for _ in range(3):
        assert listing(path) == old
    assert lists(emulator) == 0
    data.put_object("data/elsewhere", b"1")
    assert listing(path) == old, "until it is over"
    run("touch", path / "new")
    assert listing(path) == ["elsewhere", *old, "new"], "a new listing, of all there is"
    run("rm", path / "file-0")
    assert listing(path) == ["elsewhere", *old[1:], "new"]
    run("mv", path / "file-1", path / "moved")
    assert listing(path) == ["elsewhere", *old[2:], "moved", "new"]
    run("mkdir", path / "dir")
    assert listing(path) == ["dir", "elsewhere", *old[2:], "moved", "new"]
    run("mv", path / "moved", path / "dir" / "below")
    assert listing(path) == ["dir", "elsewhere", *old[2:], "new"]
    assert listing(path / "dir") == ["below"]
    run("mv", path / "dir", path.parent / "other")
    assert listing(path) == ["elsewhere", *old[2:], "new"]
    assert listing(path.parent) == ["data", "other"]
    assert listing(path.parent / "other") == ["below"]
    run("rm", "-r", path.parent / "other")
    assert listing(path.parent) == ["data"]
    lists(emulator)
    for _ in range(3):
        assert listing(path) == ["elsewhere", *old[2:], "new"]
        assert listing(path.parent) == ["data"]
    assert lists(emulator) == 0


def test_a_file_is_listed_from_its_creation_on_whoever_lists(
    data: oss2.Bucket, mount: MountMaker, emulator: EmulatorProcess
) -> None:
    path = mount("kernel_readdir_cache_timeout=600").path / "data"
    names = [f"file-{number}" for number in range(4)]
    with listers(4) as processes:
        assert listed(processes, path) == [names] * 4
        with open(path / "new", "wb") as file:
            assert listed(processes, path) == [[*names, "new"]] * 4
            file.write(b"x" * 1000)
            assert listed(processes, path) == [[*names, "new"]] * 4
        assert listed(processes, path) == [[*names, "new"]] * 4
        assert (path / "new").stat().st_size == 1000
        (path / "new").unlink()
        assert listed(processes, path) == [names] * 4


def test_what_another_client_changes_is_seen_when_the_time_is_over(
    data: oss2.Bucket, mount: MountMaker, emulator: EmulatorProcess
) -> None:
    path = mount("kernel_readdir_cache_timeout=2").path / "data"
    begun = time.monotonic()
    assert len(listing(path)) == 4
    data.put_object("data/late", b"1")
    data.delete_object("data/file-0")
    seen = listing(path)
    if time.monotonic() - begun < 2:
        assert len(seen) == 4
        assert "late" not in seen
    wait_until(lambda: listing(path) == ["file-1", "file-2", "file-3", "late"], 5)
    assert time.monotonic() - begun >= 2


def test_another_mount_sees_what_this_one_changes_when_its_time_is_over(
    data: oss2.Bucket, mount: MountMaker
) -> None:
    mine = mount("kernel_readdir_cache_timeout=600").path / "data"
    other = mount("kernel_readdir_cache_timeout=1").path / "data"
    assert listing(mine) == listing(other)
    run("touch", mine / "new")
    assert "new" in listing(mine)
    wait_until(lambda: "new" in listing(other), 5)


def test_a_tree_is_removed_while_its_listings_are_kept(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    for number in range(2_500):
        bucket.put_object(f"tree/{number % 7}/file-{number:04}", b"1")
    path = mount("kernel_readdir_cache_timeout=600").path
    assert len(run("find", path / "tree", "-type", "f").stdout.splitlines()) == 2_500
    run("rm", "-r", path / "tree")
    assert listing(path) == []
    assert not list(oss2.ObjectIteratorV2(bucket))


def test_a_directory_that_another_process_empties_is_listed_to_its_end(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    """Names that are gone by now must not look like the end of the directory."""
    names = [f"file-{number:04}" for number in range(MANY)]
    for name in names:
        bucket.put_object(f"d/{name}", b"1")
    path = mount().path / "d"
    with os.scandir(path) as entries:
        seen = [next(entries).name]  # some buffer of names, and the next page is on its way
        run("find", path, "-name", "file-0*", "-delete")
        seen += [entry.name for entry in entries]
    assert [name for name in seen if not name.startswith("file-0")] == names[1_000:]


# max_inode_cache_count


def test_what_the_kernel_has_forgotten_is_looked_at_without_a_request(
    bucket: oss2.Bucket, mount: MountMaker, emulator: EmulatorProcess
) -> None:
    for number in range(100):
        bucket.put_object(f"d/file-{number:02}", b"x" * number)
    path = mount("max_inode_cache_count=1000,attr_timeout=600").path / "d"
    numbers = {}
    for turn in range(3):
        for number in range(100):
            found = (path / f"file-{number:02}").stat()
            assert found.st_size == number
            assert numbers.setdefault(number, found.st_ino) == found.st_ino
        if turn:
            assert requests(emulator) == []
        requests(emulator)
        drop_caches()


def test_without_the_option_they_are_asked_for_again(
    bucket: oss2.Bucket, mount: MountMaker, emulator: EmulatorProcess
) -> None:
    bucket.put_object("d/file", b"1")
    made = mount("attr_timeout=600")
    assert (made.path / "d" / "file").stat().st_size == 1
    requests(emulator)

    def forgotten() -> bool:
        drop_caches()
        (made.path / "d" / "file").stat()
        return "HEAD" in requests(emulator)

    wait_until(forgotten)


def test_what_was_only_listed_is_looked_at_without_a_request(
    bucket: oss2.Bucket, mount: MountMaker, emulator: EmulatorProcess
) -> None:
    for number in range(100):
        bucket.put_object(f"d/file-{number:02}", b"x" * number)
    options = "max_inode_cache_count=1000,attr_timeout=600,readdirplus=false"
    path = mount(options).path / "d"
    names = listing(path)
    requests(emulator)
    assert [(path / name).stat().st_size for name in names] == list(range(100))
    assert requests(emulator) == []


def test_a_change_elsewhere_is_seen_when_attributes_are_no_longer_believed(
    data: oss2.Bucket, mount: MountMaker
) -> None:
    path = mount("max_inode_cache_count=1000,attr_timeout=1").path / "data"
    assert (path / "file-0").stat().st_size == 5
    drop_caches()
    data.put_object("data/file-0", b"longer than before")
    data.delete_object("data/file-1")

    def seen() -> bool:
        drop_caches()
        return (path / "file-0").stat().st_size == 18 and not (path / "file-1").exists()

    wait_until(seen, 5)
    assert (path / "file-0").read_bytes() == b"longer than before"


def test_the_kernel_is_asked_to_forget_what_it_knows_again(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    """The threshold is for what the kernel holds, whether that was kept here before or not."""
    for number in range(300):
        bucket.put_object(f"d/file-{number:03}", b"1")
    options = "max_inode_cache_count=1000,attr_timeout=600,inode_cache_eviction_threshold=50"
    made = mount(options, "inode_cache_eviction_interval_ms=100")
    run("ls", "-l", made.path / "d")
    drop_caches()
    told = len(made.log)
    for number in range(300):
        assert (made.path / "d" / f"file-{number:03}").stat().st_size == 1
    wait_until(lambda: "asking the kernel to forget" in made.log[told:])
