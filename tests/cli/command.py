"""How the tests call `ossfs`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ossfs.cli import mounts
from tests.support.emulator import EmulatorProcess

LIMIT_S = 15.0
"""No command leaves its user waiting for longer."""


@dataclass(frozen=True)
class Reply:
    """What a command left."""

    status: int
    stdout: str
    stderr: str

    @property
    def complaint(self) -> str:
        """The one line on stderr; fails when there are more or fewer, or it is no message."""
        lines = self.stderr.splitlines()
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("ossfs: ")
        return lines[0].removeprefix("ossfs: ")


def serving_processes(point: Path) -> list[int]:
    """Return the processes started to serve a mount on `point`, by their command lines."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").split(b"\0")
            if mounts.SERVING_MODULE.encode() in words and words[-1] == os.fsencode(point):
                found.append(pid)
    return found


class Ossfs:
    """Runs the command with the emulator's keys in the environment."""

    def __init__(
        self, emulator: EmulatorProcess, directory: Path, prefix: Sequence[str] = ()
    ) -> None:
        """`prefix` is a command that runs another, such as nsenter or setpriv."""
        self.emulator = emulator
        self.directory = directory
        self.prefix = prefix
        self.point = directory / "mnt"
        self.point.mkdir(exist_ok=True)
        self.logs = directory / "log"
        self.source = f"oss://{emulator.bucket}"
        self.options = f"oss_endpoint={emulator.endpoint},log_dir={self.logs}"
        if os.geteuid() != 0:
            self.options += ",allow_other=false"  # or every mount notes that it may not
        self.keys = {
            "OSS_ACCESS_KEY_ID": emulator.key_id,
            "OSS_ACCESS_KEY_SECRET": emulator.key_secret,
        }

    @property
    def log(self) -> str:
        return (self.logs / "ossfs.log").read_text()

    @property
    def usual(self) -> list[str]:
        """The words of a mount of the emulator's bucket on `point`."""
        return ["mount", self.source, str(self.point), "-o", self.options]

    def environment(self, **more: str | None) -> dict[str, str]:
        """Return the environment of a call; None takes a name away."""
        made: dict[str, str | None] = {
            name: value for name, value in os.environ.items() if not name.startswith("OSS_")
        }
        made |= self.keys | more
        return {name: value for name, value in made.items() if value is not None}

    def command(self, *words: str) -> list[str]:
        """Return the whole command line of `ossfs WORDS`."""
        return [*self.prefix, sys.executable, "-P", "-m", "ossfs", *words]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start `ossfs WORDS` in a process group of its own; the caller waits for it."""
        return subprocess.Popen(
            self.command(*words),
            env=self.environment(),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *words: str, **environment: str | None) -> Reply:
        """Run `ossfs WORDS`; fails when it takes longer than a user is promised."""
        return self.run(self.command(*words), **environment)

    def shell(self, script: str, *words: str) -> Reply:
        """Run a shell script in which "$@" is `ossfs WORDS`."""
        return self.run(["sh", "-c", script, "sh", *self.command(*words)])

    def run(
        self, command: Sequence[str], *, limit_s: float = LIMIT_S, **environment: str | None
    ) -> Reply:
        """Run a command; fails when it takes longer than `limit_s`."""
        begun = time.monotonic()
        done = subprocess.run(
            command,
            env=self.environment(**environment),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * limit_s,
            check=False,
        )
        assert time.monotonic() - begun < limit_s
        return Reply(done.returncode, done.stdout, done.stderr)

    def mount(self, *words: str, **environment: str | None) -> Reply:
        """Mount the emulator's bucket on `point` with the usual options and `words`."""
        return self(*self.usual, *words, **environment)
