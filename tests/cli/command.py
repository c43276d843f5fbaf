"""How the tests call `ossfs`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

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


class Ossfs:
    """Runs the command with the emulator's keys in the environment."""

    def __init__(self, emulator: EmulatorProcess, directory: Path) -> None:
        self.emulator = emulator
        self.directory = directory
        self.point = directory / "mnt"
        self.point.mkdir()
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

    def environment(self, **more: str | None) -> dict[str, str]:
        """Return the environment of a call; None takes a name away."""
        made: dict[str, str | None] = {
            name: value for name, value in os.environ.items() if not name.startswith("OSS_")
        }
        made |= self.keys | more
        return {name: value for name, value in made.items() if value is not None}

    def __call__(self, *words: str, **environment: str | None) -> Reply:
        """Run `ossfs WORDS`; fails when it takes longer than a user is promised."""
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-P", "-m", "ossfs", *words],
            env=self.environment(**environment),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * LIMIT_S,
            check=False,
        )
        assert time.monotonic() - begun < LIMIT_S
        return Reply(done.returncode, done.stdout, done.stderr)

    def mount(self, *words: str, **environment: str | None) -> Reply:
        """Mount the emulator's bucket on `point` with the usual options and `words`."""
        usual = (self.source, str(self.point), "-o", self.options)
        return self("mount", *usual, *words, **environment)
