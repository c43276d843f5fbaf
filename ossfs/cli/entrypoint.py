"""The first process of a container: mounts, runs a command, unmounts, leaves with its status.

    OSSFS_SOURCE=oss://BUCKET OSSFS_MOUNTPOINT=/data OSSFS_OPTIONS=ro,oss_region=... \\
        container-entrypoint COMMAND...

OSSFS_OPTIONS may also be words of the command line, as the `otherOpts` of Alibaba's CSI driver are:
"-o ro -o attr_timeout=60". More mounts have numbers: OSSFS_SOURCE_2, OSSFS_MOUNTPOINT_2,
OSSFS_OPTIONS_2, and so on.

The command starts when all of them serve. It gets the signals that this process gets; where it is
process 1 it also buries orphans, as a first process must. When the command has ended the mounts are
taken away, and what was written is in the bucket before this process ends (give the container time
for that: a SIGKILL is the end of it). Started by `cmd/container-entrypoint`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from ossfs.cli import handover, mounts
from ossfs.cli.terminal import complain, say
from ossfs.runtime.failure import ExitStatus, UserError
from ossfs.runtime.paths import absolute

_NAME = re.compile(r"OSSFS_(SOURCE|MOUNTPOINT|OPTIONS)(?:_(\d{1,3}))?")
_HEARD = {
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCHLD),
}
"""All but the last go on to the command."""
_FROM_TERMINAL = 128
"""SI_KERNEL: Ctrl-C and the like, which all processes of the foreground get."""
_MOUNT = """\
import json, sys
from ossfs.cli import handover, main
main.main(json.loads(handover.read_all(int(sys.argv[1]))))
"""
_LOOK_S = 60.0
"""Between two lines that say what is still waited for."""


class Wanted(NamedTuple):
    """One mount as the environment names it."""

    source: str
    point: str
    options: str


def wanted(environ: Mapping[str, str]) -> list[Wanted]:
    """Return the mounts that the environment names, by number; UserError where one lacks a half."""
    found: dict[int, dict[str, str]] = {}
    for name, value in environ.items():
        match = _NAME.fullmatch(name)
        if match and value.strip():
            found.setdefault(int(match[2] or 1), {}).setdefault(match[1], value.strip())
    made = []
    for number, words in sorted(found.items()):
        if "MOUNTPOINT" not in words:
            tail = "" if number == 1 else f"_{number}"
            given = " and ".join(f"OSSFS_{word}{tail}" for word in sorted(words))
            raise UserError(f"{given} without OSSFS_MOUNTPOINT{tail}", ExitStatus.USAGE)
        # Without a source the options name a file, which names the bucket.
        made.append(
            Wanted(words.get("SOURCE", ""), absolute(words["MOUNTPOINT"]), words.get("OPTIONS", ""))
        )
    return made


def main(words: Sequence[str]) -> int:
    """Mount, run the command `words`, unmount; return the command's status."""
    try:
        if not words:
            raise UserError("usage: container-entrypoint COMMAND...", ExitStatus.USAGE)
        todo = wanted(os.environ)
        if not todo:
            raise UserError("OSSFS_MOUNTPOINT is not set: nothing to mount", ExitStatus.USAGE)
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        serving: list[int] = []
        try:
            for each in todo:
                serving += _mount(each)
            status = _run(words)
        finally:
            _end(serving)
    except UserError as error:
        complain(error.message)
        return error.status
    return status


def _mount(each: Wanted) -> list[int]:
    """Mount, and return who serves the mount; SystemExit when it does not come up."""
    _make_directory(each.point)
    words = ["mount", *_option_words(each), "--", *filter(None, [each.source]), each.point]
    # Others can read a command line; the options are from an environment, which they cannot.
    told = handover.open_anonymous("ossfs-words", json.dumps(words).encode())
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _MOUNT, str(told)],
            pass_fds=[told],
            preexec_fn=_hear_again,
        )
    finally:
        os.close(told)
    asked = None
    # An impatient SIGTERM meanwhile is for the mount: it then ends and says so by its status.
    while (status := process.poll()) is None:
        number = signal.sigtimedwait(_HEARD, 1.0)
        if number is not None and number.si_signo in (signal.SIGTERM, signal.SIGINT):
            process.terminate()
            asked = number.si_signo
    if asked is not None:
        os.kill(os.getpid(), asked)  # the mount was there already: it is for whoever comes next
    if status:
        # Its own line has said why.
        raise SystemExit(_status_of(status))
    made = mounts.mount_at(mounts.canonical(each.point))
    return mounts.servers_of(made) if made is not None else []


def _make_directory(point: str) -> None:
    try:
        os.makedirs(point, exist_ok=True)
    except FileExistsError:
        pass  # a file, or a mount whose server was killed: `ossfs mount` knows what to do with each
    except OSError as error:
        raise UserError(
            f"{point} cannot be made: {error.strerror}; name another directory",
            ExitStatus.MOUNTPOINT,
        ) from None


def _option_words(each: Wanted) -> list[str]:
    """Return the options as words of `ossfs mount`; UserError where a quote is not closed."""
    if not each.options.startswith("-"):
        return ["-o", each.options] if each.options else []
    try:
        return shlex.split(each.options)
    except ValueError as error:
        raise UserError(
            f"the options of {each.point} are no words of a command line: {error}",
            ExitStatus.USAGE,
        ) from None


def _run(words: Sequence[str]) -> int:
    """Run the command until it ends, and bury whoever else ends."""
    try:
        command = subprocess.Popen(words, preexec_fn=_hear_again)
    except OSError as error:
        complain(f"{words[0]} cannot be run: {error.strerror}")
        return 127 if isinstance(error, FileNotFoundError) else 126
    while True:
        heard = signal.sigwaitinfo(_HEARD)
        if heard.si_signo == signal.SIGCHLD:
            ended = dict(_buried())
            if command.pid in ended:
                command.returncode = os.waitstatus_to_exitcode(ended[command.pid])
                return _status_of(command.returncode)
        elif heard.si_code != _FROM_TERMINAL:  # that has reached the command already
            os.kill(command.pid, heard.si_signo)  # not buried yet, so the number is its own


def _buried() -> Iterator[tuple[int, int]]:
    """Take leave of every child that has ended; yield its number and how it ended."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended


def _status_of(code: int) -> int:
    """Return what a shell reports for an exit code of Popen, which is -N for signal N."""
    return code if code >= 0 else 128 - code


def _end(serving: Sequence[int]) -> None:
    """Have the mounts taken away, which saves what was written, and wait for that."""
    departure = mounts.Departure(list(serving))
    for pid in serving:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    told = time.monotonic()
    while left := departure.wait(1.0):
        for _ in _buried():  # of process 1 they are children by now
            pass
        if time.monotonic() - told > _LOOK_S:
            told = time.monotonic()
            say(f"waiting for process {', '.join(map(str, left))} to save what was written")


def _hear_again() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
