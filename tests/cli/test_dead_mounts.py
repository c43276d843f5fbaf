"""Mounts whose server is dead or does not answer: told apart, and never waited for without end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ossfs.cli import mounts
from ossfs.runtime.mount_table import table
from tests.cli.command import Ossfs, serving_processes
from tests.cli.conftest import TwoUsers
from tests.support.mount import wait_until


def server(ossfs: Ossfs) -> int:
    (pid,) = serving_processes(ossfs.point)
    return pid


def kill_server(ossfs: Ossfs) -> None:
    departure = mounts.Departure([server(ossfs)])
    os.kill(server(ossfs), signal.SIGKILL)
    assert departure.wait(10) == []


@contextmanager
def stopped(ossfs: Ossfs) -> Iterator[None]:
    pid = server(ossfs)
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: mounts.is_stopped(pid))
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def used_and_dead(ossfs: Ossfs) -> Ossfs:
    """A dead mount whose root the kernel still knows the attributes of."""
    assert ossfs.mount("-o", "attr_timeout=3600").status == 0
    assert os.listdir(ossfs.point) == ["dir"]
    os.stat(ossfs.point)  # a listing takes away what the kernel knew of its time
    kill_server(ossfs)
    os.stat(ossfs.point)  # answered from the cache, as if it were alive
    return ossfs


def test_a_dead_mount_that_was_in_use_is_cleaned_up(used_and_dead: Ossfs) -> None:
    reply = used_and_dead.mount()
    assert (reply.status, reply.complaint) == (
        0,
        f"cleaned up a dead mount on {used_and_dead.point}",
    )
    assert (used_and_dead.point / "dir" / "file.txt").read_text() == "hello\n"


def test_in_the_foreground_as_well(used_and_dead: Ossfs) -> None:
    with used_and_dead.start(*used_and_dead.usual, "-f") as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        said = next(line for line in lines if line.startswith("ossfs: mounted") or "dead" in line)
        assert "cleaned up a dead mount" in said
        assert any(line.startswith("ossfs: mounted") for line in lines)
        assert os.listdir(used_and_dead.point) == ["dir"]
        process.terminate()
        process.communicate(timeout=10)
    assert process.returncode == 0


def test_a_dead_mount_can_be_unmounted(used_and_dead: Ossfs) -> None:
    reply = used_and_dead("umount", "mnt")
    assert (reply.status, reply.stderr) == (0, "")
    assert mounts.mount_at(str(used_and_dead.point)) is None


def test_dead_mounts_on_top_of_each_other_all_go(used_and_dead: Ossfs) -> None:
    source, point = used_and_dead.source, str(used_and_dead.point)
    done = used_and_dead.run(["mount", "--bind", point, point])
    assert done.status == 0, (source, done)
    assert used_and_dead.mount().status == 0
    assert sum(mount.point == point for mount in table()) == 1


def test_a_mount_that_does_not_answer_is_not_taken_for_dead(ossfs: Ossfs) -> None:
    assert ossfs.mount().status == 0
    with stopped(ossfs):
        reply = ossfs.mount()
    assert reply.status == 3
    assert f"{ossfs.point} does not answer: the mount there hangs" in reply.complaint
    assert f"ossfs umount -l {ossfs.point}" in reply.complaint
    assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"


def test_a_mount_whose_server_is_stopped_can_be_unmounted(ossfs: Ossfs) -> None:
    assert ossfs.mount("-o", "attr_timeout=0").status == 0
    pid = server(ossfs)
    departure = mounts.Departure([pid])
    with stopped(ossfs):
        reply = ossfs("umount", str(ossfs.point))
        assert reply.status == 1
        assert reply.complaint.endswith(f"process {pid} is stopped; kill -CONT {pid} lets it end")
        assert mounts.mount_at(str(ossfs.point)) is None
    assert departure.wait(10) == []


def test_and_detached(ossfs: Ossfs) -> None:
    assert ossfs.mount("-o", "attr_timeout=0").status == 0
    departure = mounts.Departure([server(ossfs)])
    with stopped(ossfs):
        reply = ossfs("umount", "-l", str(ossfs.point))
        assert (reply.status, reply.stderr) == (0, "")
        assert mounts.mount_at(str(ossfs.point)) is None
    assert departure.wait(10) == []


@pytest.fixture
def hung(ossfs: Ossfs) -> Iterator[Path]:
    """A mount that does not answer, of which the kernel remembers nothing."""
    assert ossfs.mount("-o", "attr_timeout=0").status == 0
    with stopped(ossfs):
        yield ossfs.point


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (lambda hung, usual: [*usual[:2], f"{hung}/dir", *usual[3:]], 3),
        (lambda hung, usual: [*usual, "-o", f"log_dir={hung}/dir/log"], 2),
        (lambda hung, usual: [*usual, "-o", f"passwd_file={hung}/passwd"], 5),
    ],
    ids=["the mount point", "the log", "the keys"],
)
def test_what_lies_below_a_mount_that_hangs_is_not_waited_for(
    ossfs: Ossfs, hung: Path, words: Callable[[Path, list[str]], list[str]], status: int
) -> None:
    other = hung.parent / "other"
    other.mkdir()
    usual = [word.replace(str(hung), str(other)) for word in ossfs.usual]
    reply = ossfs(*words(hung, usual))
    assert reply.status == status
    assert str(hung) in reply.complaint
    assert "hangs" in reply.complaint


def test_a_passwd_file_that_is_a_pipe_is_not_waited_for(ossfs: Ossfs, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "passwd", 0o600)
    reply = ossfs.mount("--passwd_file=passwd")
    assert reply.status == 5
    assert "does not open" in reply.complaint


def test_a_private_mount_is_a_mount_to_root_too(users: TwoUsers) -> None:
    assert users.nobody.mount().status == 0
    reply = users.root.mount()
    assert reply.status == 3
    assert f"has {users.root.source} mounted already by user nobody" in reply.complaint


def test_root_cleans_up_a_dead_private_mount(users: TwoUsers) -> None:
    assert users.nobody.mount().status == 0
    kill_server(users.nobody)
    reply = users.root.mount()
    assert (reply.status, reply.complaint) == (
        0,
        f"cleaned up a dead mount on {users.root.point}",
    )


def test_the_dead_mount_of_another_user_is_theirs_to_clean_up(users: TwoUsers) -> None:
    assert users.root.mount().status == 0
    kill_server(users.root)
    reply = users.nobody.mount()
    assert reply.status == 3
    assert "is a dead mount that only root can clean up" in reply.complaint
