"""Keys from a program that prints them: `credential_process`, as ossfs 2.0 and AWS's tools have it.

The command is a list of words, not a line for a shell: quotes group, nothing is expanded. It has
ten seconds and a mebibyte, ossfs 2.0's limits; what it says on standard error is dropped, since
programs of this kind may print secrets there.
"""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import time
from contextlib import suppress

from ossfs.credentials import Credentials, document
from ossfs.credentials.document import refused

SECONDS = 10.0
LIMIT = 1024 * 1024
"""Bytes of output."""
_PIECE = 65536
_BURIAL_S = 1.0
"""A killed program is gone by then, or is left behind."""


def words_of(command: str) -> list[str]:
    """Take the command apart; ValueError tells why it cannot be one."""
    if "$" in command or "`" in command:
        raise ValueError("there is no shell to expand $ or `; write the words themselves")
    try:
        words = shlex.split(command)
    except ValueError:
        raise ValueError("a quotation mark is not closed") from None
    if not words or not os.path.isabs(words[0]):
        raise ValueError("it does not begin with the absolute path of a program")
    return words


class Process:
    """A program that is run each time keys are wanted."""

    def __init__(self, command: str, seconds: float = SECONDS) -> None:
        self._command = command
        self._words = words_of(command)
        self._seconds = seconds
        self._where = f"credential_process {self._words[0]}"

    def check(self) -> tuple[str, ...]:
        program = self._words[0]
        if not os.path.exists(program):
            raise refused(self._where, "there is no such program")
        if not os.path.isfile(program) or not os.access(program, os.X_OK):
            raise refused(self._where, "it cannot be run; chmod +x makes a file a program")
        return ()

    def fetch(self) -> Credentials:
        self.check()
        try:
            process = subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise refused(self._where, f"it does not start: {error.strerror}") from None
        try:
            output, status = self._outcome(process)
        finally:
            # Its children too, which may hold the pipe; but of a process waited for nothing is
            # left that its number could mean.
            if process.returncode is None:
                with suppress(ProcessLookupError, PermissionError):  # sudo's are another user's
                    os.killpg(process.pid, signal.SIGKILL)
                with suppress(subprocess.TimeoutExpired):  # nor does one that the kernel holds end
                    process.wait(_BURIAL_S)
            assert process.stdout is not None
            process.stdout.close()
        if status < 0:
            raise refused(self._where, f"it was ended by signal {-status}")
        if status:
            raise refused(self._where, f"it ended with status {status}")
        return document.read(output, self._where)

    def told(self) -> dict[str, str | float | None]:
        return {"kind": "credential_process", "command": self._command}

    def _outcome(self, process: subprocess.Popen[bytes]) -> tuple[bytes, int]:
        """Return output and status; UserError when it takes too long or says too much."""
        assert process.stdout is not None
        until = time.monotonic() + self._seconds
        late = refused(self._where, f"it takes longer than {self._seconds:g} s")
        output = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(max(until - time.monotonic(), 0)):
                    raise late
                piece = os.read(process.stdout.fileno(), _PIECE)
                if not piece:
                    break
                output += piece
                if len(output) > LIMIT:
                    raise refused(self._where, f"it prints more than {LIMIT} bytes")
        try:
            return output, process.wait(max(until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            raise late from None
