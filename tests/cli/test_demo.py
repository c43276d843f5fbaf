"""The demo: it works in any directory, and whatever becomes of its output it cleans up."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from ossfs.runtime.mount_table import table
from tests.cli.command import Ossfs


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A temporary directory with a name that needs quoting wherever it is written."""
    made = tmp_path / "it's, \\ $HOME"
    made.mkdir()
    return made


def nothing_left(scratch: Path) -> bool:
    left = [mount for mount in table() if mount.point.startswith(str(scratch))]
    return not left and os.listdir(scratch) == []


def test_the_demo_works_and_leaves_nothing(ossfs: Ossfs, scratch: Path) -> None:
    reply = ossfs("demo", TMPDIR=str(scratch))
    assert reply.status == 0, reply.stdout + reply.stderr
    assert "every byte is right" in reply.stdout
    assert "gone again" in reply.stdout
    assert reply.stderr == ""
    assert nothing_left(scratch)


def test_the_demo_works_on_seaweedfs_too(ossfs: Ossfs, scratch: Path) -> None:
    command = ossfs.command("demo", "--store", "s3")
    reply = ossfs.run(command, limit_s=60.0, TMPDIR=str(scratch))
    assert reply.status == 0, reply.stdout + reply.stderr
    assert "ossfs mount s3://" in reply.stdout
    assert "every byte is right" in reply.stdout
    assert reply.stderr == ""
    assert nothing_left(scratch)


def test_a_kept_demo_stays_until_the_printed_command_ends_it(ossfs: Ossfs, scratch: Path) -> None:
    reply = ossfs("demo", "--keep", TMPDIR=str(scratch))
    ending = reply.stdout.rpartition("To end it: ")[2].strip()
    (home,) = scratch.iterdir()
    try:
        assert reply.status == 0
        assert (home / "mnt" / "README.txt").read_text().startswith("This is an object")
    finally:
        # As typed in a shell that knows nothing of our virtual environment.
        environment = ossfs.environment(PATH=os.defpath)
        subprocess.run(["sh", "-c", ending], env=environment, cwd="/", check=True)
    assert nothing_left(scratch)


@pytest.mark.parametrize("lines", [0, 1, 3, 12])
def test_a_reader_that_leaves_ends_the_demo(ossfs: Ossfs, scratch: Path, lines: int) -> None:
    reply = ossfs.run(
        ["sh", "-c", '"$@" | head -n $LINES', "sh", *ossfs.command("demo")],
        TMPDIR=str(scratch),
        LINES=str(lines),
    )
    assert reply.stderr == ""
    assert nothing_left(scratch)


def test_so_does_a_full_disk_with_one_line(ossfs: Ossfs, scratch: Path) -> None:
    command = ["sh", "-c", '"$@" >/dev/full', "sh", *ossfs.command("demo")]
    reply = ossfs.run(command, TMPDIR=str(scratch))
    assert reply.status == 1
    assert "No space left on device" in reply.complaint
    assert nothing_left(scratch)


@pytest.mark.parametrize("after", ["An OSS emulator", "$ ossfs mount", "$ find .", "$ sha256sum"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_demo_that_is_ended_cleans_up(
    ossfs: Ossfs, scratch: Path, number: signal.Signals, after: str
) -> None:
    command = ["env", f"TMPDIR={scratch}", *ossfs.command("demo")]
    with subprocess.Popen(
        command, env=ossfs.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any(line.startswith(after) for line in iter(process.stdout.readline, ""))
        process.send_signal(number)
        process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert nothing_left(scratch)
