"""The units of systemd/, and what a mount tells the manager that started it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ossfs.cli import mounts
from ossfs.runtime.failure import ExitStatus
from tests.cli.command import Ossfs, serving_processes
from tests.support.mount import wait_until

UNITS = Path(__file__).resolve().parents[2] / "systemd"
SERVICE = UNITS / "ossfs@.service"


def setting(name: str) -> str:
    """Return what the service says of `name`, which it says once."""
    lines = SERVICE.read_text().splitlines()
    (value,) = (line.partition("=")[2] for line in lines if line.startswith(f"{name}="))
    return value


def confined() -> list[str]:
    """Return what runs a command with the service's privileges, as systemd gives them."""
    kept = setting("CapabilityBoundingSet").lower().replace("cap_", "+").split()
    return ["setpriv", "--no-new-privs", "--inh-caps=-all", f"--bounding-set=-all,{','.join(kept)}"]


class Manager:
    """Listens where NOTIFY_SOCKET points."""

    def __init__(self, bound: socket.socket, address: str) -> None:
        self.address = address
        self._bound = bound

    def heard(self, seconds: float = 15.0) -> dict[str, str]:
        """Wait for one message; TimeoutError when none comes."""
        self._bound.settimeout(seconds)
        lines = self._bound.recv(4096).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    @property
    def heard_nothing(self) -> bool:
        try:
            self.heard(0.01)
        except TimeoutError:
            return True
        return False


@pytest.fixture
def manager() -> Iterator[Manager]:
    with (
        tempfile.TemporaryDirectory() as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound,
    ):
        address = f"{directory}/notify"
        bound.bind(address)
        yield Manager(bound, address)


def test_systemd_has_nothing_to_say_against_the_units(tmp_path: Path) -> None:
    for unit in UNITS.iterdir():
        # Where the command will be is not where it is now.
        text = unit.read_text().replace("/usr/local/bin/ossfs", shutil.which("true") or "")
        (tmp_path / unit.name).write_text(text)
    instance = tmp_path / r"ossfs@mnt-my\x2ddata.service"
    shutil.copy(tmp_path / SERVICE.name, instance)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *tmp_path.iterdir()],
        # The empty word at the end is systemd's own directories.
        env={"PATH": os.environ["PATH"], "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_service_is_tried_again_only_where_that_can_help() -> None:
    for_people = [ExitStatus.USAGE, ExitStatus.MOUNTPOINT, ExitStatus.FUSE]
    for_people += [ExitStatus.CREDENTIALS, ExitStatus.NO_BUCKET]
    assert setting("Restart") == "on-failure"
    assert [int(word) for word in setting("RestartPreventExitStatus").split()] == for_people


def test_a_mount_of_the_service_is_ready_when_it_can_be_used_and_all_can_use_it(
    ossfs: Ossfs, manager: Manager
) -> None:
    conf = ossfs.directory / "my.conf"
    conf.write_text("".join(f"{line}\n" for line in [ossfs.source, *ossfs.options.split(",")][1:]))
    words = ["mount", "-f", "-c", str(conf), ossfs.source, str(ossfs.point)]
    with subprocess.Popen(
        [*confined(), *ossfs.command(*words)],
        env=ossfs.environment(NOTIFY_SOCKET=manager.address),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        told = manager.heard()
        made = mounts.mount_at(str(ossfs.point))  # this process has come before it
        assert made is not None
        assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"
        assert (told["READY"], told["MAINPID"]) == ("1", str(process.pid))
        assert ossfs.source in told["STATUS"]
        # Another user; to pass by this test's own directories takes more than a user may.
        other = ["setpriv", "--reuid=nobody", "--clear-groups"]
        other += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        reply = ossfs.run([*other, "cat", str(ossfs.point / "dir" / "file.txt")])
        assert (reply.status, reply.stdout) == (0, "hello\n"), reply
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        log = process.stderr.read()
    assert process.returncode == 0, log
    assert mounts.mount_at(str(ossfs.point)) is None
    assert manager.heard_nothing


def test_a_mount_that_does_not_come_up_is_never_ready(ossfs: Ossfs, manager: Manager) -> None:
    refused = {"OSS_ACCESS_KEY_SECRET": "wrong", "NOTIFY_SOCKET": manager.address}
    assert ossfs.mount("-f", **refused).status == ExitStatus.CREDENTIALS
    assert manager.heard_nothing


def test_a_mount_in_the_background_does_not_speak_for_the_service_that_called(
    ossfs: Ossfs, manager: Manager
) -> None:
    assert ossfs.mount(NOTIFY_SOCKET=manager.address).status == 0
    assert manager.heard_nothing


def test_a_dead_mount_is_taken_away_after_a_crash_and_a_living_one_never(ossfs: Ossfs) -> None:
    assert ossfs.mount().status == 0
    line = setting("ExecStopPost").removeprefix("-").replace("$$", "$")
    afterwards = [word.replace("%f", str(ossfs.point)) for word in shlex.split(line)]
    # Another mount is there already: the service could not start.
    assert ossfs.run(afterwards, EXIT_CODE="exited", EXIT_STATUS="3").status == 0
    assert os.path.ismount(ossfs.point)
    (pid,) = serving_processes(ossfs.point)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not serving_processes(ossfs.point))
    assert mounts.mount_at(str(ossfs.point)) is not None
    assert ossfs.run(afterwards, EXIT_CODE="killed", EXIT_STATUS="KILL").status == 0
    assert mounts.mount_at(str(ossfs.point)) is None
