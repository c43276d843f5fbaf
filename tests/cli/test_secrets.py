"""A secret on the command line is nowhere to be seen once the mount serves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from ossfs.cli import handover
from tests.cli.command import Ossfs, serving_processes


def places_of(text: str, *, besides: set[int]) -> list[str]:
    """Return where in /proc any process but `besides` shows `text`."""
    wanted = text.encode()
    paths = ["/proc/mounts", "/proc/self/mountinfo"]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) not in besides:
            paths += [f"/proc/{pid}/cmdline", f"/proc/{pid}/environ"]
    found = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                if wanted in file.read():
                    found.append(path)
        except OSError:
            continue  # the process has ended, or is another user's
    return found


@pytest.fixture
def on_command_line(ossfs: Ossfs) -> list[str]:
    keys = (
        f"oss_access_key_id={ossfs.emulator.key_id},"
        f"oss_access_key_secret={ossfs.emulator.key_secret}"
    )
    words = ["mount", ossfs.source, str(ossfs.point), "-o", ossfs.options]
    return [*words, "-o", keys, "-o", "log_level=debug"]


def test_in_the_background(ossfs: Ossfs, on_command_line: list[str]) -> None:
    secret = ossfs.emulator.key_secret
    reply = ossfs(*on_command_line)
    assert reply.status == 0
    assert reply.complaint.startswith("warning: other users could read the secret")
    assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"
    assert places_of(secret, besides={ossfs.emulator.pid}) == []
    (pid,) = serving_processes(ossfs.point)
    assert not any("memfd" in os.readlink(fd.path) for fd in os.scandir(f"/proc/{pid}/fd"))
    assert ossfs("umount", "mnt").status == 0
    assert secret not in ossfs.log + reply.stdout + reply.stderr


def test_in_the_foreground(ossfs: Ossfs, on_command_line: list[str]) -> None:
    secret = ossfs.emulator.key_secret
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "ossfs", *on_command_line, "-f"],
        env=ossfs.environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = ""
        while "ossfs: mounted" not in said and process.poll() is None:
            said += process.stderr.readline()
        shown = places_of(secret, besides={ossfs.emulator.pid})
        process.terminate()
        said += process.stderr.read()
    assert process.returncode == 0
    assert shown == []
    assert secret not in said


def test_the_search_finds_what_is_there(spawn: Callable[..., subprocess.Popen[str]]) -> None:
    shown = f"shown-{os.urandom(8).hex()}"
    process = spawn("-c", "print(1, flush=True); input()", shown)
    assert process.stdout is not None
    process.stdout.readline()
    assert places_of(shown, besides=set()) == [f"/proc/{process.pid}/cmdline"]


def test_the_environment_of_the_serving_process_is_short_and_holds_no_secret() -> None:
    environ = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "https_proxy": "http://me:pw@proxy",  # none is used, so its password is none of ours
        "OSS_ACCESS_KEY_SECRET": "hunter2",
        "OSSFS_NOTE": "hunter2 is my secret",
        "AWS_SECRET_ACCESS_KEY": "another",
    }
    clean = handover.clean_environment(environ, ("hunter2",))
    assert clean == {"PATH": "/bin", "LC_ALL": "C"}
