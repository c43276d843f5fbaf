"""The mount table and waiting, without a mount."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ossfs.cli import mounts


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("real/mnt", "real/mnt"),
        ("link/mnt/", "real/mnt"),
        ("./real/../link/./mnt", "real/mnt"),
        ("far/../mnt", "real/mnt"),
        ("missing/below/..", "missing"),
        ("loop/x", "loop/x"),
        (".", ""),
    ],
)
def test_a_path_is_resolved_as_the_kernel_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    (tmp_path / "real" / "mnt" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "far").symlink_to(tmp_path / "link" / "mnt")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    home = os.path.realpath(tmp_path)
    assert mounts.canonical(path) == os.path.join(home, name).rstrip("/")


def test_a_departure_waits_for_the_end_of_each_process(
    spawn: Callable[..., subprocess.Popen[str]],
) -> None:
    goes, stays = spawn("-c", "input()"), spawn("-c", "input()")
    departure = mounts.Departure([goes.pid, stays.pid])
    goes.kill()
    assert departure.wait(0.5) == [stays.pid]


def test_a_process_that_is_gone_needs_no_waiting(
    spawn: Callable[..., subprocess.Popen[str]],
) -> None:
    process = spawn("-c", "pass")
    process.wait()
    assert mounts.Departure([process.pid]).wait(0) == []


def test_a_departure_is_seen_where_the_kernel_has_no_descriptors_of_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with subprocess.Popen(["sleep", "100"]) as process:
        departure = mounts.Departure([process.pid])
        assert departure.wait(0.1) == [process.pid]
        process.kill()
        assert departure.wait(10) == []  # a zombie has ended
    assert mounts.Departure([process.pid]).wait(0) == []
