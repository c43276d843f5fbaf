"""`ossfs mount`: check everything that can be checked here, then hand over to a fresh process.

The serving process is a new interpreter with a command line and an environment of its own
making (see `handover`). In the background this process waits for its word and passes it on; in
the foreground it becomes the serving process by exec. Until the word has come the mount is not
the user's yet: whatever ends this process, kill -9 included, ends the serving process too.
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
from click.shell_completion import CompletionItem

from ossfs.cli import handover, mounts, preflight, signals
from ossfs.cli.claim import claim
from ossfs.cli.terminal import complain, say
from ossfs.config import arguments, validate
from ossfs.config.again import Again
from ossfs.config.completion import completions
from ossfs.config.docs import mount_help
from ossfs.config.options import MountOptions
from ossfs.credentials import sources
from ossfs.runtime.failure import UserError
from ossfs.runtime.logs import path_in
from ossfs.runtime.mount_table import Life, life_of

START_DEADLINE_S = 13.0
"""A user waits no longer than 15 s, whatever is wrong; what is left of them is for cleaning up."""
_GRACE_S = 0.7
_STDERR_TAIL = 8192


class MountCommand(click.Command):
    """Leaves its words alone: options are the table's, and mount(8)'s grammar is not click's."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return [
            CompletionItem(text, type=kind, help=told)
            for text, kind, told in completions(ctx.params["words"], incomplete)
        ]

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
    layers = preflight.layers_of(asked.settings)
    resolved = validate.resolve(asked, os.environ, validate.Host.here(), layers)
    options = replace(resolved.options, mountpoint=mounts.canonical(resolved.options.mountpoint))
    preflight.check_directories(options)
    preflight.check_addresses(options.bind_ips)
    given = options.fuse_device_fd
    if given >= 0:
        preflight.check_device(given)
    else:
        preflight.check_fuse()
    with claim(options.mountpoint) as claimed:
        notes = list(resolved.notes)
        if given < 0:
            notes += preflight.settle_mountpoint(options.mountpoint, nonempty=options.nonempty)
        preflight.check_key_files(resolved.keys)
        keys = sources.find(resolved.keys, options.bucket, os.environ, options.store)
        known = keys.check()
        again = Again.of(asked, os.environ, options.mountpoint, keyed=resolved.keys.from_file)
        config = handover.open_anonymous("ossfs-config", handover.encode(options, keys, again))
        clean = handover.clean_environment(os.environ, known)
        if options.foreground:
            _tell(notes)
            _become(_command(options, config=config, claim=claimed), clean)
        preflight.settle_log(options.log_dir, options.mountpoint)
        _start(options, config, claimed, clean, started + START_DEADLINE_S)
    # Only now: a mount that fails says one line, and that is why it failed.
    _tell(notes)
    say(f"mounted {options.source} on {options.mountpoint}")


def _tell(notes: list[str]) -> None:
    for note in notes:
        complain(note)


def _command(options: MountOptions, **descriptors: int | None) -> list[str]:
    """Return the serving process's command line: what `ps` shows; `umount` looks for the module."""
    # -P: the directory the user happens to stand in must not provide modules.
    command = [sys.executable, "-P", "-m", mounts.SERVING_MODULE]
    command += [f"--{name}-fd={fd}" for name, fd in descriptors.items() if fd is not None]
    return [*command, options.source, options.mountpoint]


def _become(command: list[str], environ: dict[str, str]) -> NoReturn:
    """Replace this process, so that no argument of the user stays in /proc."""
    signals.hold()  # an interpreter that starts answers Ctrl-C with a traceback; `serve` releases
    os.execve(command[0], command, environ)


def _start(
    options: MountOptions,
    config: int,
    claimed: int | None,
    environ: dict[str, str],
    deadline: float,
) -> None:
    """Start the serving process and wait until it serves; UserError when it does not.

    It stays in this process's group until it serves: on a mount point of autofs the kernel lets
    the process group of whoever is to mount there pass, and all others wait for the mount.
    """
    heard, told = os.pipe()
    stderr = handover.open_anonymous("ossfs-stderr")
    process: subprocess.Popen[bytes] | None = None
    signals.raise_when_asked_to_end()
    try:
        signals.hold()  # or a process might be started that we know nothing of
        try:
            process = subprocess.Popen(
                _command(options, config=config, word=told, claim=claimed),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=[
                    fd
                    for fd in (config, told, claimed, options.fuse_device_fd)
                    if fd is not None and fd >= 0
                ],
                env=environ,
                cwd="/",
            )
        finally:
            # Only the serving process may hold its end: its death must be the end of the pipe.
            os.close(told)
        signals.release()
        try:
            _hear(heard, deadline).check()
        except EOFError:
            status = process.wait(_GRACE_S)
            said = _last_line(stderr)
            detail = f" ({said})" if said else ""
            raise UserError(
                f"the serving process ended with status {status}{detail}; "
                f"see {path_in(options.log_dir)}"
            ) from None
        except TimeoutError:
            raise UserError(
                f"the mount did not answer in {START_DEADLINE_S:.0f} s; "
                f"see {path_in(options.log_dir)}"
            ) from None
        # It serves: nobody is to wait for it, nor to warn that nobody did, nor to end it.
        signals.ignore()
        process.returncode = 0
    except BaseException:
        signals.ignore()
        if process is not None:
            _stop(process, options.mountpoint)
        raise
    finally:
        for fd in (config, heard, stderr):
            os.close(fd)


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
    process.terminate()
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.returncode = -signal.SIGKILL  # the kernel holds it; it ends when it can
            return
    left = mounts.mount_at(point)
    if left is not None and left.ours and life_of(left) is Life.DEAD:
        with suppress(OSError, UserError):
            mounts.detach(point, lazy=True)


def _last_line(fd: int) -> str:
    size = os.fstat(fd).st_size
    text = os.pread(fd, _STDERR_TAIL, max(0, size - _STDERR_TAIL)).decode(errors="replace").strip()
    return text.splitlines()[-1] if text else ""
