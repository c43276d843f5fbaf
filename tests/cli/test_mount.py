"""Mounting, unmounting, and who serves in between."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ossfs.cli import mounts
from tests.cli.command import Ossfs, serving_processes
from tests.support.mount import wait_until


def server(ossfs: Ossfs) -> int:
    (pid,) = serving_processes(ossfs.point)
    return pid


def test_a_mount_returns_when_it_can_be_read_and_an_umount_when_all_is_over(ossfs: Ossfs) -> None:
    reply = ossfs.mount()
    assert (reply.status, reply.stderr) == (0, "")
    assert reply.stdout == f"ossfs: mounted {ossfs.source} on {ossfs.point}\n"
    assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"
    departure = mounts.Departure([server(ossfs)])
    reply = ossfs("umount", str(ossfs.point))
    assert (reply.status, reply.stderr) == (0, "")
    assert departure.wait(0) == []
    assert mounts.mount_at(str(ossfs.point)) is None


def test_the_mount_stands_in_the_mount_table_with_its_source_and_its_guards(ossfs: Ossfs) -> None:
    assert ossfs.mount().status == 0
    with open("/proc/mounts") as lines:
        (line,) = [line for line in lines if f" {ossfs.point} " in line]
    source, _, fstype, flags, *_ = line.split()
    assert (source, fstype) == (ossfs.source, "fuse.ossfs")
    assert {"nosuid", "nodev", "default_permissions"} <= set(flags.split(","))


def test_the_serving_process_is_a_session_of_its_own_without_terminal_or_directory(
    ossfs: Ossfs,
) -> None:
    ossfs.mount()
    pid = server(ossfs)
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.readlink(f"/proc/{pid}/fd/0") == os.readlink(f"/proc/{pid}/fd/1") == "/dev/null"
    assert os.readlink(f"/proc/{pid}/fd/2") == str(ossfs.logs / "ossfs.log")


def test_a_prefix_is_the_root_of_the_mount(ossfs: Ossfs) -> None:
    reply = ossfs("mount", f"{ossfs.source}/dir/", str(ossfs.point), "-o", ossfs.options)
    assert reply.stdout == f"ossfs: mounted {ossfs.source}/dir on {ossfs.point}\n"
    assert os.listdir(ossfs.point) == ["file.txt"]


def test_keys_from_a_passwd_file_need_no_environment(ossfs: Ossfs, tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.touch(0o600)
    path.write_text(":".join([ossfs.emulator.bucket, *ossfs.keys.values()]) + "\n")
    bare = dict.fromkeys(ossfs.keys)
    assert ossfs.mount("--passwd_file=passwd", **bare).status == 0
    assert os.listdir(ossfs.point) == ["dir"]


def test_signature_v4_is_used_when_a_region_is_set(ossfs: Ossfs) -> None:
    assert ossfs.mount("-o", f"oss_region={ossfs.emulator.region}").status == 0
    assert os.listdir(ossfs.point) == ["dir"]


@pytest.fixture
def terminal() -> Iterator[int]:
    """The side of a terminal that programs have."""
    ours, theirs = pty.openpty()
    yield theirs
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_in_the_foreground_the_log_is_on_stderr_and_a_signal_unmounts(
    ossfs: Ossfs, number: signal.Signals, terminal: int
) -> None:
    command = [sys.executable, "-P", "-m", "ossfs", "mount", ossfs.source, str(ossfs.point)]
    with subprocess.Popen(
        [*command, "-f", "-o", ossfs.options],
        env=ossfs.environment(),
        stdin=terminal,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line == f"ossfs: mounted {ossfs.source} on {ossfs.point}\n":
                break
        assert any(" INFO " in line for line in lines)
        assert serving_processes(ossfs.point) == [process.pid]
        assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"
        process.send_signal(number)
        process.stderr.read()
    assert process.returncode == 0
    assert mounts.mount_at(str(ossfs.point)) is None
    assert not ossfs.logs.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_impatient_user_ends_a_mount_no_worse(ossfs: Ossfs, number: signal.Signals) -> None:
    """Ctrl-C again and again, which the whole process group gets."""
    for _ in range(4):
        with subprocess.Popen(
            ossfs.command(*ossfs.usual, "-f"),
            env=ossfs.environment(),
            cwd=ossfs.directory,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            wait_until(lambda: mounts.mount_at(str(ossfs.point)) and os.listdir(ossfs.point))
            while process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                time.sleep(0.002)
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()
        assert process.returncode == 0
        assert mounts.mount_at(str(ossfs.point)) is None


@pytest.mark.parametrize("moment", range(8))
def test_ctrl_c_while_a_mount_in_the_foreground_starts_is_silent(ossfs: Ossfs, moment: int) -> None:
    with ossfs.start(*ossfs.usual, "-f") as process:
        time.sleep(0.1 + moment * 0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=15)
    assert "Traceback" not in said
    # While modules are loaded the signal itself ends it, which a shell reports as 130 too.
    assert process.returncode in (0, 130, -signal.SIGINT)
    assert mounts.mount_at(str(ossfs.point)) is None


def test_mounting_over_a_living_mount_is_refused(ossfs: Ossfs) -> None:
    ossfs.mount()
    reply = ossfs.mount()
    assert reply.status == 3
    assert f"has {ossfs.source} mounted already" in reply.complaint
    assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"


def test_a_mount_point_may_be_a_link_and_have_blanks(ossfs: Ossfs, tmp_path: Path) -> None:
    place = tmp_path / "with blank, comma"
    place.mkdir()
    (tmp_path / "link").symlink_to(place)
    reply = ossfs("mount", ossfs.source, "link", "-o", ossfs.options)
    assert reply.stdout == f"ossfs: mounted {ossfs.source} on {place}\n"
    assert os.listdir(place) == ["dir"]
    assert ossfs("umount", "link").stdout == f"ossfs: unmounted {ossfs.source} from {place}\n"


def test_nonempty_hides_what_the_mount_point_holds(ossfs: Ossfs) -> None:
    (ossfs.point / "below").touch()
    assert ossfs.mount("-o", "nonempty").status == 0
    assert os.listdir(ossfs.point) == ["dir"]
    assert ossfs("umount", "mnt").status == 0
    assert os.listdir(ossfs.point) == ["below"]
