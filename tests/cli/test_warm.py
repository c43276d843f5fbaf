"""`ossfs warm`: what it brings, says and ends with, on real mounts."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ossfs.cli import mounts, warm
from ossfs.cli.warm import Found, Outcome
from ossfs.runtime.failure import UserError
from tests.cli.command import Ossfs, Reply, serving_processes
from tests.support.emulator import EmulatorProcess
from tests.support.mount import drop_caches, run, wait_until

MIB = 1 << 20
FILES = {
    "set/a.bin": 3 * MIB + 5,
    "set/empty": 0,
    "set/deep/er/b.bin": 10,
    "set/deep/c.bin": MIB,
    "set/\u6f22 \n.bin": 20,
}
TOTAL = sum(FILES.values())
WHOLE = "5 of 5 files, 4.0 MiB of 4.0 MiB, are on disk"


@pytest.fixture
def cached(emulator: EmulatorProcess, ossfs: Ossfs) -> Ossfs:
    """A mount with a disk cache, of a bucket with some files below `set`."""
    bucket = emulator.oss2_bucket()
    for name, size in FILES.items():
        bucket.put_object(name, bytes([len(name)]) * size)
    bucket.put_object("other/left-alone", bytes(1000))
    directory = ossfs.directory / "cache"
    directory.mkdir()
    options = f"disk_data_cache_dir={directory},disk_data_cache_size=256M,disk_available_space=0"
    assert ossfs.mount("-o", options).status == 0
    emulator.clear_requests()
    return ossfs


def gets(emulator: EmulatorProcess) -> list[str]:
    """Return the keys whose bytes were asked for since, and forget them."""
    keys = [
        str(request["key"])
        for request in emulator.requests()
        if request["method"] == "GET" and request["key"] and not request["sub"]
    ]
    emulator.clear_requests()
    return keys


def complaints(reply: Reply) -> list[str]:
    """Return what was complained of, without the progress shown."""
    lines = reply.stderr.splitlines()
    assert "Traceback" not in reply.stderr
    return [line.removeprefix("ossfs: ") for line in lines if line.startswith("ossfs: ")]


def test_a_directory_is_brought_to_the_disk_and_read_without_a_request(
    cached: Ossfs, emulator: EmulatorProcess
) -> None:
    point = str(cached.point / "set")
    asked = cached("warm", "--check", point)
    assert (asked.status, asked.stdout) == (1, "1 of 5 files, 0.0 MiB of 4.0 MiB, are on disk\n")
    assert gets(emulator) == []
    filled = cached("warm", point)
    assert filled.status == 0
    said = rf"{re.escape(WHOLE)}; 4\.0 MiB fetched in \d+\.\d s \(\d+ MB/s\)\n"
    assert re.fullmatch(said, filled.stdout), filled.stdout
    assert complaints(filled) == []
    assert f"{point} (5 files)" in filled.stderr
    assert sorted(set(gets(emulator))) == sorted(name for name, size in FILES.items() if size)
    again = cached("warm", point)
    assert again.status == 0
    assert again.stdout.startswith(f"{WHOLE}; 0.0 MiB fetched in ")
    asked = cached("warm", "--check", point)
    assert (asked.status, asked.stdout) == (0, WHOLE + "\n")
    drop_caches()
    for name, size in FILES.items():
        assert (cached.point / name).read_bytes() == bytes([len(name)]) * size
    assert gets(emulator) == []


def test_files_and_directories_are_counted_together(
    cached: Ossfs, emulator: EmulatorProcess
) -> None:
    paths = [str(cached.point / name) for name in ("set/a.bin", "set/deep")]
    filled = cached("warm", *paths)
    assert filled.status == 0
    assert filled.stdout.startswith("3 of 3 files, 4.0 MiB of 4.0 MiB, are on disk; 4.0 MiB")
    assert len(set(gets(emulator))) == 3
    asked = cached("warm", "--check", str(cached.point))
    assert asked.status == 1
    assert re.match(r"4 of \d+ files, 4\.0 MiB of 4\.0 MiB, are on disk\n", asked.stdout)


def test_a_path_may_be_relative_or_a_link(cached: Ossfs) -> None:
    (cached.directory / "link").symlink_to(cached.point / "set")
    for path in ("mnt/set/a.bin", "link/a.bin", "mnt/other/../set//a.bin"):
        reply = cached("warm", path)
        assert reply.status == 0, reply
        assert reply.stdout.startswith("1 of 1 files, 3.0 MiB of 3.0 MiB")


def test_a_bind_mount_of_a_directory_below_names_its_own_files(
    cached: Ossfs, emulator: EmulatorProcess
) -> None:
    emulator.oss2_bucket().put_object("a.bin", b"of the root, with the same name")
    bound = cached.directory / "bound"
    bound.mkdir()
    run("mount", "--bind", cached.point / "set", bound)
    try:
        reply = cached("warm", str(bound / "a.bin"))
        assert reply.stdout.startswith("1 of 1 files, 3.0 MiB of 3.0 MiB")
        assert set(gets(emulator)) == {"set/a.bin"}
    finally:
        run("umount", bound)


def test_what_is_evicted_is_fetched_again(cached: Ossfs, emulator: EmulatorProcess) -> None:
    point = str(cached.point / "set")
    assert cached("warm", point).status == 0
    gone = cached("warm", "--evict", point)
    assert (gone.status, gone.stdout) == (0, "removed 5 files from the disk cache\n")
    assert cached("warm", "--check", point).status == 1
    assert not list((cached.directory / "cache").glob("ossfs-chunks/*/*"))
    gets(emulator)
    assert cached("warm", point).status == 0
    assert len(set(gets(emulator))) == 4


def test_a_file_that_is_being_written_is_one_complaint_and_the_rest_is_brought(
    cached: Ossfs,
) -> None:
    with open(cached.point / "set" / "new", "wb") as file:
        file.write(b"1")
        file.flush()
        reply = cached("warm", str(cached.point / "set"))
    assert reply.status == 1
    assert complaints(reply) == ["set/new: it is being written"]
    assert reply.stdout.startswith("5 of 6 files, 4.0 MiB of 4.0 MiB, are on disk; ")
    wait_until(lambda: cached("warm", str(cached.point / "set")).status == 0)
    (cached.point / "set" / "new").unlink()


def test_an_empty_directory_is_whole(cached: Ossfs) -> None:
    (cached.point / "nothing").mkdir()
    for words in ([], ["--check"]):
        reply = cached("warm", *words, str(cached.point / "nothing"))
        assert reply.status == 0
        assert reply.stdout.startswith("0 of 0 files, 0.0 MiB of 0.0 MiB, are on disk")
    (cached.point / "nothing").rmdir()


def test_what_cannot_be_done_is_one_line_and_a_status(cached: Ossfs) -> None:
    for words, status, line in (
        (["--check", "--evict", str(cached.point)], 2, "--check and --evict exclude each other"),
        ([str(cached.directory)], 3, "does not lie on a mount of ossfs"),
        (["/no/such/place"], 3, "does not lie on a mount of ossfs"),
        ([str(cached.point / "none")], 1, "No such file or directory"),
    ):
        reply = cached("warm", *words)
        assert reply.status == status
        assert line in reply.complaint
        assert reply.stdout == ""
    usage = cached("warm")
    assert usage.status == 2
    assert "Traceback" not in usage.stderr


def test_a_mount_without_a_disk_cache_says_how_to_have_one(ossfs: Ossfs) -> None:
    assert ossfs.mount().status == 0
    for words in ([], ["--check"], ["--evict"]):
        reply = ossfs("warm", *words, str(ossfs.point / "dir"))
        assert reply.status == 1
        (line,) = complaints(reply)
        assert "the mount has no disk cache; mount with disk_data_cache_dir=" in line


def test_another_user_is_told_that_it_is_not_for_him(cached: Ossfs) -> None:
    (pid,) = serving_processes(cached.point)
    outcome = Outcome()

    def as_nobody() -> None:
        os.seteuid(65534)
        try:
            with pytest.raises(UserError, match="for its own user and root alone"):
                warm._ask(pid, "/", "fill", [Found("set/a.bin", 1)], outcome, Bar())  # type: ignore[arg-type]
        finally:
            os.seteuid(0)

    as_nobody()
    assert outcome.files == 0


class Bar:
    """Stands in for the progress bar."""

    def update(self, _size: int, _item: object) -> None: ...


def test_an_answer_that_ends_before_every_file_has_been_told_of_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mount's process has ended in the middle: nobody may believe that all is there."""

    def broken(*_: object) -> Iterator[dict[str, Any]]:
        yield {"more": 10}
        yield {"path": 0, "size": 10, "held": 10, "fetched": 10}

    monkeypatch.setattr(warm, "inquire", broken)
    with pytest.raises(UserError):
        warm._ask(1, "/", "fill", [Found("a", 10), Found("b", 10)], Outcome(), Bar())  # type: ignore[arg-type]


def test_a_mount_that_ends_meanwhile_is_no_success(
    ossfs: Ossfs, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = ossfs.directory / "cache"
    directory.mkdir()
    bucket = tmp_path_factory.mktemp("slow")
    with EmulatorProcess(bucket) as fast:
        fast.oss2_bucket().put_object("big", bytes(160 * MIB))
    options = f"disk_data_cache_dir={directory},disk_data_cache_size=1G,disk_available_space=0"
    with EmulatorProcess(bucket, bandwidth_mb=8) as slow:
        there = Ossfs(slow, ossfs.directory)
        assert there.mount("-o", options).status == 0
        (pid,) = serving_processes(there.point)
        replies: list[Reply] = []
        asking = threading.Thread(target=lambda: replies.append(there("warm", str(there.point))))
        asking.start()
        # Of its 20 GETs 16 go at once, a second each.
        wait_until(lambda: list(directory.glob("ossfs-chunks/*/*")))
        os.kill(pid, signal.SIGKILL)
        asking.join()
        (reply,) = replies
        assert reply.status != 0
        assert len(complaints(reply)) == 1
        mounts.detach(str(there.point), lazy=True)


def test_a_file_that_cannot_be_looked_at_is_no_success_and_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that has gone since the directory was listed, say."""
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(b"1")
    inner = os.scandir

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self._entry = entry

        def __getattr__(self, name: str) -> Any:
            return getattr(self._entry, name)

        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            if self._entry.name == "b":
                raise FileNotFoundError(2, "No such file or directory")
            return self._entry.stat(follow_symlinks=follow_symlinks)

    class Entries:
        def __init__(self, path: str) -> None:
            self._inner = inner(path)

        def __enter__(self) -> Iterator[Entry]:
            return iter(sorted(map(Entry, self._inner), key=lambda entry: str(entry.name)))

        def __exit__(self, *_: object) -> None:
            self._inner.close()

    asked: list[str] = []

    def answered(_pid: int, question: dict[str, Any], _: float) -> Iterator[dict[str, Any]]:
        asked.extend(question["paths"])
        for number in range(len(question["paths"])):
            yield {"path": number, "size": 1, "held": 1, "fetched": 0}
        yield {"disk_cache": {"size": 1 << 30}}

    monkeypatch.setattr(os, "scandir", Entries)
    monkeypatch.setattr(warm, "_mount_of", lambda _path: (str(tmp_path), "/", "."))
    monkeypatch.setattr(warm, "server_of", lambda _point: 1)
    monkeypatch.setattr(warm, "inquire", answered)
    status = warm.warm.main([str(tmp_path)], standalone_mode=False)
    assert asked == ["a", "c"]
    assert status == 1
    assert "No such file" in capsys.readouterr().err
