"""The entrypoint of a container, as process 1 of a process and mount namespace of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ossfs.cli import entrypoint
from ossfs.cli.entrypoint import Wanted, wanted
from ossfs.runtime.failure import ExitStatus, UserError
from tests.cli.command import Ossfs, Reply, serving_processes
from tests.support.mount import wait_until

ENTRYPOINT = Path(__file__).resolve().parents[2] / "cmd" / "container-entrypoint"
CONTAINER = [
    *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc"),
    *("--kill-child", str(ENTRYPOINT)),
]


def environment(ossfs: Ossfs, *options: str) -> dict[str, str | None]:
    return {
        "OSSFS_SOURCE": ossfs.source,
        "OSSFS_MOUNTPOINT": str(ossfs.point),
        "OSSFS_OPTIONS": ",".join([ossfs.options, *options]),
    }


def contained(ossfs: Ossfs, script: str, *options: str, **more: str | None) -> Reply:
    words = environment(ossfs, *options) | more
    return ossfs.run([*CONTAINER, "sh", "-c", script], limit_s=30, **words)


def test_the_command_sees_the_bucket_and_its_status_is_the_containers(ossfs: Ossfs) -> None:
    reply = contained(ossfs, "cat mnt/dir/file.txt; echo $PPID; exit 23")
    assert reply.status == 23
    assert reply.stdout.splitlines()[-2:] == ["hello", "1"]
    assert not os.path.ismount(ossfs.point)


@pytest.mark.parametrize(("script", "status"), [("true", 0), ("kill -9 $$", 137)])
def test_other_ends_of_the_command(ossfs: Ossfs, script: str, status: int) -> None:
    assert contained(ossfs, script).status == status


def test_what_was_written_is_in_the_bucket_when_the_container_ends(ossfs: Ossfs) -> None:
    script = "head -c 30000000 /dev/zero > mnt/drained"
    assert contained(ossfs, script, "sync_upload=false").status == 0
    bucket = ossfs.emulator.oss2_bucket()
    assert bucket.head_object("drained").content_length == 30_000_000
    bucket.delete_object("drained")


def test_options_are_on_no_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    popen = subprocess.Popen

    def noting(words: list[str], **how: Any) -> subprocess.Popen[bytes]:
        started.append(words)
        return popen(words, **how)

    monkeypatch.setattr(subprocess, "Popen", noting)
    options = "oss_access_key_secret=hunter2,attr_timeout=-1"
    with pytest.raises(SystemExit) as ended:
        entrypoint._mount(Wanted("oss://buck", str(tmp_path), options))
    assert ended.value.code == ExitStatus.USAGE
    assert len(started) == 1
    assert "hunter2" not in " ".join(started[0])


def test_a_signal_that_comes_when_the_mount_is_up_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mounting:
        """`ossfs mount` in its last steps, in which it lets nothing interrupt it."""

        def __init__(self, *_words: object, **_how: object) -> None:
            self.asked = False

        def poll(self) -> int | None:
            return 0 if self.asked else None

        def terminate(self) -> None:
            self.asked = True

    monkeypatch.setattr(subprocess, "Popen", Mounting)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        entrypoint._mount(Wanted("oss://buck", str(tmp_path), ""))
        heard = signal.sigtimedwait({signal.SIGTERM}, 0)
    finally:
        signal.sigtimedwait({signal.SIGTERM}, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    assert heard is not None


def test_signals_reach_the_command_and_orphans_are_buried(ossfs: Ossfs) -> None:
    script = """trap 'echo told; for n in 1 2 3 4 5 6 7 8 9; do
        sleep 0.3; cat /proc/[0-9]*/stat | grep -q " Z " || break; done
        cat /proc/[0-9]*/stat | grep -c " Z "; exit 5' TERM
    (sleep 0.1 &)
    echo ready
    while :; do sleep 0.05; done"""
    words = ossfs.environment(**environment(ossfs))
    with subprocess.Popen(
        [*CONTAINER, "sh", "-c", script],
        env=words,
        cwd=ossfs.directory,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while "ready" not in process.stdout.readline():
            pass
        (first,) = wait_until(lambda: children(process.pid))
        os.kill(first, signal.SIGTERM)
        assert process.stdout.read().splitlines() == ["told", "0"]
    assert process.returncode == 5


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def test_a_mount_that_does_not_come_up_is_the_end(ossfs: Ossfs) -> None:
    reply = contained(ossfs, "echo never", OSS_ACCESS_KEY_SECRET="wrong")
    assert (reply.status, reply.stdout) == (ExitStatus.CREDENTIALS, "")
    assert "SignatureDoesNotMatch" in reply.complaint
    second = {"OSSFS_SOURCE_2": "oss://no-such-bucket", "OSSFS_MOUNTPOINT_2": "other"}
    reply = contained(ossfs, "echo never", **second, OSSFS_OPTIONS_2=ossfs.options)
    assert reply.status == ExitStatus.NO_BUCKET
    assert "never" not in reply.stdout


def test_a_mount_point_that_cannot_be_made_is_one_line(ossfs: Ossfs) -> None:
    (ossfs.directory / "file").touch()
    below = str(ossfs.directory / "file" / "mnt")
    reply = contained(ossfs, "echo never", OSSFS_MOUNTPOINT=below)
    assert (reply.status, reply.stdout) == (ExitStatus.MOUNTPOINT, "")
    assert reply.complaint.startswith(f"{below} cannot be made: Not a directory; ")
    reply = contained(ossfs, "echo never", OSSFS_MOUNTPOINT="file")
    assert (reply.status, reply.stdout) == (ExitStatus.MOUNTPOINT, "")
    assert reply.complaint == f"mount point {ossfs.directory}/file is not a directory"


def test_a_dead_mount_is_replaced(ossfs: Ossfs) -> None:
    # As in a container that is started again after its mount was killed.
    assert ossfs.mount().status == 0
    (pid,) = serving_processes(ossfs.point)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not serving_processes(ossfs.point))
    reply = contained(ossfs, "cat mnt/dir/file.txt")
    assert (reply.status, reply.stdout.splitlines()[-1]) == (0, "hello")


def test_options_may_be_words_as_the_csi_driver_has_them(ossfs: Ossfs) -> None:
    words = " ".join(f"-o {option}" for option in ossfs.options.split(","))
    script = "cat mnt/dir/file.txt; touch mnt/new"
    reply = contained(ossfs, script, OSSFS_OPTIONS=f"{words} -o ro -o 'attr_timeout=7'")
    assert reply.stdout.splitlines()[-1] == "hello"
    assert "Read-only file system" in reply.stderr
    reply = contained(ossfs, "echo never", OSSFS_OPTIONS="-o 'ro")
    assert (reply.status, reply.stdout) == (ExitStatus.USAGE, "")
    assert f"the options of {ossfs.point}" in reply.complaint
    assert "No closing quotation" in reply.complaint


def test_a_command_that_cannot_be_run(ossfs: Ossfs) -> None:
    words = environment(ossfs)
    reply = ossfs.run([*CONTAINER, "/no/such/program"], limit_s=30, **words)
    assert reply.status == 127
    assert "/no/such/program cannot be run: No such file" in reply.complaint
    reply = ossfs.run([*CONTAINER, "/etc/passwd"], limit_s=30, **words)
    assert reply.status == 126


def test_several_mounts_are_numbered_and_come_in_their_order() -> None:
    environ = {
        "OSSFS_SOURCE_10": "oss://c",
        "OSSFS_MOUNTPOINT_10": "/c",
        "OSSFS_SOURCE": " oss://a ",
        "OSSFS_MOUNTPOINT": "/a/",
        "OSSFS_OPTIONS_2": "conf=/b.conf",
        "OSSFS_MOUNTPOINT_2": "/b",
        "OSSFS_NOTE": "x",
        "OSSFS_OPTIONS_3": "",
    }
    assert wanted(environ) == [
        Wanted("oss://a", "/a/", ""),
        Wanted("", "/b", "conf=/b.conf"),
        Wanted("oss://c", "/c", ""),
    ]


def test_what_is_missing_is_named(ossfs: Ossfs) -> None:
    with pytest.raises(UserError, match="OSSFS_OPTIONS_2 and OSSFS_SOURCE_2 without") as refused:
        wanted({"OSSFS_SOURCE_2": "oss://a", "OSSFS_OPTIONS_2": "ro"})
    assert refused.value.status is ExitStatus.USAGE
    reply = ossfs.run([str(ENTRYPOINT), "true"])
    assert reply.status == ExitStatus.USAGE
    assert "OSSFS_MOUNTPOINT is not set" in reply.complaint
    assert "usage: container-entrypoint" in ossfs.run([str(ENTRYPOINT)]).complaint
