"""Unmounting: whose mount, which server, and for how long to wait."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ossfs.cli import mounts
from ossfs.runtime.mount_table import server_name
from tests.cli.command import Ossfs, serving_processes
from tests.cli.conftest import TwoUsers

HOLD = "import os, sys; os.chdir(sys.argv[1]); print(1, flush=True); sys.stdin.read()"
QUICK_S = 10.0
"""Far less than the 120 s that umount waits for a server that goes on."""


def server(ossfs: Ossfs) -> int:
    mount = mounts.mount_at(str(ossfs.point))
    assert mount is not None
    (pid,) = mounts.servers_of(mount)
    return pid


def test_a_busy_mount_stays_and_the_message_names_who_uses_it(
    ossfs: Ossfs, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    ossfs.mount()
    user = spawn("-c", HOLD, str(ossfs.point))
    assert user.stdout is not None
    user.stdout.readline()
    reply = ossfs("umount", str(ossfs.point))
    assert reply.status == 3
    name = Path(f"/proc/{user.pid}/comm").read_text().strip()
    assert f"is busy: used by {name} (pid {user.pid})" in reply.complaint
    assert f"ossfs umount -l {ossfs.point}" in reply.complaint
    reply = ossfs("umount", "-l", str(ossfs.point))
    assert reply.status == 0
    assert mounts.mount_at(str(ossfs.point)) is None


def test_unmounting_twice_says_that_nothing_is_mounted(ossfs: Ossfs) -> None:
    ossfs.mount()
    assert ossfs("umount", "mnt").status == 0
    reply = ossfs("umount", "mnt")
    assert reply.status == 3
    assert reply.complaint == f"{ossfs.point} is not mounted"


def test_a_mount_of_another_kind_is_left_alone(ossfs: Ossfs) -> None:
    reply = ossfs("umount", "/proc")
    assert reply.status == 3
    assert "type proc" in reply.complaint
    assert mounts.mount_at("/proc") is not None


def test_a_server_of_a_mount_detached_earlier_is_not_waited_for(ossfs: Ossfs) -> None:
    assert ossfs.mount().status == 0
    earlier = mounts.Departure([server(ossfs)])
    with (ossfs.point / "dir" / "file.txt").open() as held:
        assert ossfs("umount", "-l", "mnt").status == 0
        assert ossfs.mount().status == 0
        own = mounts.Departure([server(ossfs)])
        begun = time.monotonic()
        assert ossfs("umount", "mnt").status == 0
        assert time.monotonic() - begun < QUICK_S
        assert own.wait(0) == []
        assert len(earlier.wait(0)) == 1
        assert held.read() == "hello\n"
    assert earlier.wait(10) == []


def test_a_process_that_only_looks_like_the_server_is_not_waited_for(
    ossfs: Ossfs, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    assert ossfs.mount().status == 0
    alike = spawn(
        "-c", "print(1, flush=True); input()", mounts.SERVING_MODULE, ossfs.source, str(ossfs.point)
    )
    assert alike.stdout is not None
    alike.stdout.readline()
    assert alike.pid in serving_processes(ossfs.point)
    reply = ossfs("umount", "mnt")
    assert (reply.status, reply.stderr) == (0, "")
    assert alike.poll() is None


def test_nor_is_one_whose_number_this_mount_has_been_given(
    ossfs: Ossfs, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    """A server lives on for a moment after its mount, whose device number is free by then."""
    rename = (
        "print(1, flush=True); open('/proc/self/comm', 'w').write(input()); print(2, flush=True)"
    )
    leaving = spawn("-c", f"{rename}; input()", mounts.SERVING_MODULE)
    assert leaving.stdout is not None
    assert leaving.stdin is not None
    leaving.stdout.readline()
    assert ossfs.mount().status == 0
    own = server(ossfs)
    made = mounts.mount_at(str(ossfs.point))
    assert made is not None
    print(server_name(made.device), file=leaving.stdin, flush=True)
    assert leaving.stdout.readline() == "2\n"
    assert mounts.servers_of(made) == [own]
    reply = ossfs("umount", "mnt")
    assert (reply.status, reply.stderr) == (0, "")
    assert leaving.poll() is None


def test_a_mount_that_goes_on_in_another_namespace_is_not_waited_for(
    ossfs: Ossfs, tmp_path: Path
) -> None:
    assert ossfs.mount().status == 0
    pid = server(ossfs)
    there = Ossfs(ossfs.emulator, tmp_path, ["unshare", "--mount", "--propagation", "private"])
    reply = there("umount", "mnt")
    assert (reply.status, reply.stderr) == (0, "")
    assert f"process {pid} goes on" in reply.stdout
    assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"


def test_neither_is_one_that_is_bound_to_another_place(ossfs: Ossfs, tmp_path: Path) -> None:
    assert ossfs.mount().status == 0
    other = tmp_path / "other"
    other.mkdir()
    assert ossfs.run(["mount", "--bind", str(ossfs.point), str(other)]).status == 0
    reply = ossfs("umount", "mnt")
    assert reply.status == 0
    assert f"still mounted on {other}" in reply.stdout
    departure = mounts.Departure(serving_processes(ossfs.point))
    assert ossfs("umount", "other").status == 0
    assert departure.wait(10) == []


def test_the_owner_need_not_be_able_to_look_into_the_mount(users: TwoUsers) -> None:
    assert users.nobody.mount("-o", "uid=0,gid=0,dir_mode=0").status == 0
    reply = users.nobody("umount", str(users.nobody.point))
    assert (reply.status, reply.stderr) == (0, "")


def test_somebody_elses_mount_is_left_alone_and_the_message_says_whose(users: TwoUsers) -> None:
    assert users.root.mount().status == 0
    for words in (["umount"], ["umount", "-l"]):
        reply = users.nobody(*words, str(users.nobody.point))
        assert reply.status == 3
        assert "was mounted by root: only root can unmount it" in reply.complaint


def test_the_source_is_named_as_mount_names_it(ossfs: Ossfs) -> None:
    bucket = ossfs.emulator.oss2_bucket()
    bucket.put_object("a b/größe,%20/file", b"")
    source = f"{ossfs.source}/a b/größe,%20"
    reply = ossfs("mount", source, "mnt", "-o", ossfs.options)
    assert reply.stdout == f"ossfs: mounted {source} on {ossfs.point}\n"
    assert os.listdir(ossfs.point) == ["file"]
    assert ossfs("umount", "mnt").stdout == f"ossfs: unmounted {source} from {ossfs.point}\n"
    bucket.delete_object("a b/größe,%20/file")


@pytest.mark.parametrize("seconds", ["inf", "nan", "-1", "1e300", "soon"])
def test_a_time_to_wait_that_is_none_is_refused(ossfs: Ossfs, seconds: str) -> None:
    reply = ossfs("umount", f"--timeout={seconds}", "mnt")
    assert reply.status == 2
    assert "--timeout" in reply.complaint


def test_a_mount_is_found_by_links_and_dots_and_a_loop_of_links_is_none(ossfs: Ossfs) -> None:
    assert ossfs.mount().status == 0
    (ossfs.directory / "link").symlink_to("mnt")
    (ossfs.directory / "loop").symlink_to("loop")
    assert ossfs("umount", "loop").status == 3
    assert ossfs("umount", "./link/../link").status == 0


def test_the_server_carries_the_device_of_its_mount_as_its_name(ossfs: Ossfs) -> None:
    assert ossfs.mount().status == 0
    device = os.stat(ossfs.point).st_dev
    name = Path(f"/proc/{server(ossfs)}/comm").read_text().strip()
    assert name == f"ossfs {os.major(device)}:{os.minor(device)}"
