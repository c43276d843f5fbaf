"""A server, a bucket and a mount of this machine's own, for a while: what demo and bench work on.

Everything that has to be cleaned up goes onto the caller's stack as soon as it may be there:
plain callbacks, so that they can be dropped; a suspended generator would run its own when it is
collected. Commands run in process groups of their own, which are ended and waited for before
anything is taken from under them.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from ossfs.cli import mounts, signals
from ossfs.cli.terminal import complain
from ossfs.config import arguments
from ossfs.emulator.main import DEFAULT_KEY_ID, DEFAULT_KEY_SECRET
from ossfs.runtime.failure import UserError
from ossfs.runtime.logs import FILE_NAME

Run = Callable[[str, str, Path], bool]
"""(command, what its output must have, directory): runs it by a shell; tells whether it worked."""
_COMMAND_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 10.0
_LOG_LINES = 10


def make_home(stack: ExitStack, name: str, parent: str | None = None) -> Path:
    """Make a directory with a place for the store, the mount and the logs."""
    home = Path(os.path.realpath(tempfile.mkdtemp(prefix=f"ossfs-{name}-", dir=parent)))

    def remove() -> None:
        # Never through a mount that could not be taken away: that would delete what is in it.
        if mounts.mount_at(str(home / "mnt")) is None:
            shutil.rmtree(home, ignore_errors=True)
        if home.exists():
            complain(f"{home} could not be removed")

    stack.callback(remove)
    for each in ("store", "mnt", "log"):
        (home / each).mkdir()
    return home


def start_emulator(
    stack: ExitStack, home: Path, *words: str, keep: bool = False
) -> tuple[subprocess.Popen[bytes], str]:
    """Serve the home's store from a process of its own; return it and its address.

    `words` are further ones of `ossfs emulator`; unless `keep`, it ends when this process does.
    """
    command = [sys.executable, "-P", "-m", "ossfs", "emulator", "--dir", str(home / "store")]
    command += words
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
    stack.callback(end, process)
    assert process.stdout is not None
    with process.stdout as output:
        line = output.readline().decode()
    if "http://" not in line:
        said = errors.read_text(errors="replace").strip()
        raise UserError(f"the emulator did not start: {said or 'it said nothing'}")
    return process, "http://" + line.partition("http://")[2].split()[0]


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server, and wait until it has."""
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def environment() -> dict[str, str]:
    """Return an environment in which commands mean what a user's shell would mean by them."""
    own = os.path.dirname(sys.executable)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OSS_")}
    return kept | {
        "PATH": own + os.pathsep + os.environ.get("PATH", os.defpath),
        "OSS_ACCESS_KEY_ID": DEFAULT_KEY_ID,
        "OSS_ACCESS_KEY_SECRET": DEFAULT_KEY_SECRET,
        "LC_ALL": "C.UTF-8",
    }


def mount(stack: ExitStack, home: Path, source: str, endpoint: str, run: Run) -> bool:
    """Mount a bucket on the home's `mnt` by the command itself; tell whether that worked."""
    point = str(home / "mnt")
    options = f"oss_endpoint={endpoint},log_dir={arguments.quote(str(home / 'log'))}"

    def unmount() -> None:
        if mounts.mount_at(point) is None:
            return
        with suppress(OSError):  # it cannot be shown
            if run(shlex.join(["ossfs", "umount", point]), "unmounted", home):
                return
        mounts.detach(point, lazy=True)

    stack.callback(unmount)
    words: Sequence[str] = ["ossfs", "mount", source, point, "-o", options]
    worked = run(shlex.join(words), "mounted", home)
    if not worked:
        show_log(home)
    return worked


def execute(command: str, directory: Path) -> tuple[int, str]:
    """Run a command by a shell; return its status and what it said, on stdout and stderr."""
    with subprocess.Popen(
        ["sh", "-c", command],
        cwd=directory,
        env=environment(),
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
    return shell.returncode, output.decode(errors="replace").strip("\n")


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


def show_log(home: Path) -> None:
    """Show the end of the mount's log."""
    log = home / "log" / FILE_NAME
    if log.exists():
        for line in log.read_text(errors="replace").splitlines()[-_LOG_LINES:]:
            complain(f"log: {line}")
