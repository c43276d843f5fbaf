"""Streams that are closed, full or abandoned, and places that are gone: one line, no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ossfs.cli import mounts
from tests.cli.command import Ossfs, Reply

CLOSED = ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"]


def mounted(ossfs: Ossfs) -> bool:
    mount = mounts.mount_at(str(ossfs.point))
    return mount is not None and (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"


def failed(reply: Reply, status: int, *said: str) -> None:
    assert reply.status == status, reply
    for text in said:
        assert text in reply.complaint


@pytest.mark.parametrize("closed", CLOSED)
def test_standard_descriptors_may_be_closed(ossfs: Ossfs, closed: str) -> None:
    reply = ossfs.shell(f'"$@" {closed}', *ossfs.usual)
    assert (reply.status, reply.stderr) == (0, "")
    assert mounted(ossfs)
    reply = ossfs.shell(f'"$@" {closed}', "umount", "mnt")
    assert (reply.status, reply.stderr) == (0, "")
    assert mounts.mount_at(str(ossfs.point)) is None


@pytest.mark.parametrize("closed", CLOSED)
def test_and_a_refusal_keeps_its_status(ossfs: Ossfs, closed: str) -> None:
    reply = ossfs.shell(f'"$@" {closed}', "umount", "mnt")
    assert reply.status == 3
    if "2" not in closed:
        assert reply.complaint == f"{ossfs.point} is not mounted"


@pytest.mark.parametrize("closed", CLOSED)
def test_in_the_foreground_as_well(ossfs: Ossfs, closed: str) -> None:
    script = f'"$@" {closed} & until grep -q " $POINT " /proc/mounts; do kill -0 $!; done; kill $!'
    reply = ossfs.run(
        ["sh", "-ec", f"{script}; wait $!", "sh", *ossfs.command(*ossfs.usual, "-f")],
        POINT=str(ossfs.point),
    )
    assert reply.status == 0, reply.stderr


def test_a_mount_whose_line_cannot_be_printed_is_a_mount(ossfs: Ossfs) -> None:
    reply = ossfs.shell('"$@" >/dev/full', *ossfs.usual)
    assert (reply.status, reply.stderr) == (0, "")
    assert mounted(ossfs)
    reply = ossfs.shell('"$@" >/dev/full', "umount", "mnt")
    assert (reply.status, reply.stderr) == (0, "")


def test_neither_does_a_note_that_cannot_be_printed_break_it(ossfs: Ossfs) -> None:
    keys = (
        f"oss_access_key_id={ossfs.emulator.key_id},"
        f"oss_access_key_secret={ossfs.emulator.key_secret}"
    )
    assert "warning: other users" in ossfs(*ossfs.usual, "-o", keys).stderr
    assert ossfs("umount", "mnt").status == 0
    reply = ossfs.shell('"$@" 2>/dev/full', *ossfs.usual, "-o", keys)
    assert reply.status == 0
    assert mounted(ossfs)


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["mount", "--help"], ["umount", "--help"]]
)
def test_output_that_was_the_point_and_cannot_be_written_is_an_error(
    ossfs: Ossfs, words: list[str]
) -> None:
    reply = ossfs.shell('"$@" >/dev/full', *words)
    failed(reply, 1, "No space left on device")


def test_a_reader_that_leaves_early_is_told_nothing() -> None:
    command = f"{sys.executable} -m ossfs mount --help | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("Usage: ossfs mount")
    assert done.stderr == ""


def test_letters_that_the_terminal_cannot_show_are_escaped(ossfs: Ossfs) -> None:
    (ossfs.directory / "größe").mkdir()
    words = ["mount", ossfs.source, "größe", "-o", ossfs.options]
    reply = ossfs(*words, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (reply.status, reply.stderr) == (0, "")
    assert reply.stdout.endswith(r"gr\xf6\xdfe" + "\n")


@pytest.mark.parametrize("words", [["umount", "mnt"], ["mount", "oss://bucket", "mnt"]])
def test_a_working_directory_that_is_gone_is_named(ossfs: Ossfs, words: list[str]) -> None:
    if words[0] == "mount":
        words = [*words, "-o", ossfs.options]
    reply = ossfs.shell('mkdir gone; cd gone; rmdir ../gone; "$@"', *words)
    failed(reply, 2, "the working directory has been removed")


def test_whole_paths_need_no_working_directory(ossfs: Ossfs) -> None:
    reply = ossfs.shell('mkdir gone; cd gone; rmdir ../gone; "$@"', *ossfs.usual)
    assert (reply.status, reply.stderr) == (0, "")


def test_a_request_log_that_cannot_be_written_is_named(ossfs: Ossfs) -> None:
    reply = ossfs("emulator", "--dir", "store", "--request-log", "/proc/none/log")
    failed(reply, 1, "/proc/none/log: No such file or directory")


@pytest.mark.parametrize("words", [["umount", "/mnt"], ["mount"]])
def test_without_proc_nothing_can_be_mounted_and_the_line_says_so(
    ossfs: Ossfs, words: list[str]
) -> None:
    words = ossfs.usual if words == ["mount"] else words
    script = 'mount -t tmpfs none /proc; "$@"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    failed(ossfs.run([*command, *ossfs.command(*words)]), 4, "/proc is not mounted here")


def test_started_by_hand_the_serving_process_says_who_starts_it(ossfs: Ossfs) -> None:
    reply = ossfs.run([sys.executable, "-m", mounts.SERVING_MODULE])
    failed(reply, 2, "ossfs mount")
