"""`ossfs mount`: check everything that can be checked here, then hand over to a fresh process.

The serving process is a new interpreter with a command line and an environment of its own
making (see `handover`). In the background this process waits for its word and passes it on; in
the foreground it becomes the serving process by exec.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import NoReturn

import click

from ossfs.cli import handover, mounts, preflight
from ossfs.cli.terminal import complain, say
from ossfs.config import arguments, validate
from ossfs.config.docs import mount_help
from ossfs.config.options import MountOptions
from ossfs.credentials import environment
from ossfs.runtime.failure import UserError
from ossfs.runtime.logs import FILE_NAME, prepare_directory

START_DEADLINE_S = 14.0
"""A user waits no longer than 15 s for an answer, whatever is wrong."""
_GRACE_S = 1.0
_STDERR_TAIL = 8192


class MountCommand(click.Command):
    """Leaves its words alone: options are the table's, and mount(8)'s grammar is not click's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params = {"words": tuple(args)}
        return []

    def get_help(self, ctx: click.Context) -> str:
        return mount_help()


@click.command(cls=MountCommand, add_help_option=False)
@click.pass_context
def mount(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Mount a bucket as a directory."""
    started = time.monotonic()
    asked = arguments.scan(words)
    if asked.help:
        click.echo(ctx.get_help())
        return
    resolved = validate.resolve(asked, os.environ, validate.Host.here())
    preflight.check_fuse()
    options = resolved.options
    point, cleaned = preflight.settle_mountpoint(options.mountpoint, nonempty=options.nonempty)
    options = replace(options, mountpoint=point)
    notes = [*resolved.notes, *cleaned]
    provider = environment.find(resolved.keys, options.bucket, os.environ)
    config = handover.open_anonymous("ossfs-config", handover.encode(options, provider))
    clean = handover.clean_environment(os.environ, provider.secrets())
    if options.foreground:
        _tell(notes)
        _become(_command(options, config), clean)
    prepare_directory(options.log_dir)
    _start(options, config, clean, started + START_DEADLINE_S)
    # Only now: a mount that fails says one line, and that is why it failed.
    _tell(notes)
    say(f"mounted {options.source} on {options.mountpoint}")


def _tell(notes: list[str]) -> None:
    for note in notes:
        complain(note)


def _command(options: MountOptions, config: int, word: int | None = None) -> list[str]:
    """Return the serving process's command line: what `ps` shows, and `umount` looks for."""
    # -P: the directory the user happens to stand in must not provide modules.
    command = [sys.executable, "-P", "-m", mounts.SERVING_MODULE, f"--config-fd={config}"]
    if word is not None:
        command.append(f"--word-fd={word}")
    return [*command, options.source, options.mountpoint]


def _become(command: list[str], environ: dict[str, str]) -> NoReturn:
    """Replace this process, so that no argument of the user stays in /proc."""
    sys.stdout.flush()
    os.execve(command[0], command, environ)


def _start(options: MountOptions, config: int, environ: dict[str, str], deadline: float) -> None:
    """Start the serving process and wait until it serves; UserError when it does not."""
    heard, told = os.pipe()
    stderr = handover.open_anonymous("ossfs-stderr")
    try:
        process = subprocess.Popen(
            _command(options, config, told),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=(config, told),
            env=environ,
            cwd="/",
            start_new_session=True,
        )
        # Only the serving process may hold its end: its death must be the end of the pipe.
        os.close(told)
        try:
            _hear(heard, deadline).check()
        except EOFError:
            status = process.wait()
            said = _last_line(stderr)
            detail = f" ({said})" if said else ""
            raise UserError(
                f"the serving process ended with status {status}{detail}; see {_log(options)}"
            ) from None
        except TimeoutError:
            raise UserError(
                f"the mount did not answer in {START_DEADLINE_S:.0f} s; see {_log(options)}"
            ) from None
        # It serves: nobody is to wait for it, nor to warn that nobody did.
        process.returncode = 0
    except BaseException:
        _stop(process, options.mountpoint)
        raise
    finally:
        for fd in (config, heard, stderr):
            os.close(fd)


def _log(options: MountOptions) -> str:
    return os.path.join(options.log_dir, FILE_NAME)


def _hear(fd: int, deadline: float) -> handover.Word:
    """Return the serving process's word; EOFError when it ended, TimeoutError at the deadline."""
    line = b""
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            raise TimeoutError
        piece = os.read(fd, 65536)
        if not piece:
            raise EOFError
        line += piece
    return handover.Word.decode(line)


def _stop(process: subprocess.Popen[bytes], point: str) -> None:
    """End a serving process that came to nothing, and leave no dead mount of it behind."""
    try:
        process.send_signal(signal.SIGTERM)
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    left = mounts.mount_at(point)
    if left is not None and left.ours:
        with suppress(OSError):
            mounts.detach(point, lazy=True)


def _last_line(fd: int) -> str:
    size = os.fstat(fd).st_size
    text = os.pread(fd, _STDERR_TAIL, max(0, size - _STDERR_TAIL)).decode(errors="replace").strip()
    return text.splitlines()[-1] if text else ""
