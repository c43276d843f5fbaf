"""`ossfs warm`: bring files to the disk cache of their mount before anybody reads them."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ossfs.cli import mounts
from ossfs.cli.stats import server_of
from ossfs.cli.terminal import complain
from ossfs.config.values import show_size
from ossfs.inquiry import WARM, inquire
from ossfs.runtime.failure import ExitStatus, UserError

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar  # click names the type nowhere else

BATCH = 256
"""Files of one question."""
PATIENCE_S = 900.0
"""How long an answer may take: the longest a request of the mount may."""
_SHOWN = 20
"""Files that failed and are named; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file below what the user named."""

    path: str
    """Relative to its mount point."""
    size: int


@dataclass(slots=True)
class Outcome:
    """What has come of it."""

    files: int = 0
    whole: int = 0
    """Files that are on disk from beginning to end."""
    size: int = 0
    held: int = 0
    fetched: int = 0
    failed: int = 0
    capacity: int = 0

    def fail(self, path: str, why: object) -> None:
        """Count what has failed, and name the first."""
        self.files += 1
        self.failed += 1
        if self.failed <= _SHOWN:
            complain(f"{path}: {why}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--check", is_flag=True, help="Only tell how much is there; exit 1 if not all is.")
@click.option("--evict", is_flag=True, help="Remove the files from the cache instead.")
def warm(paths: Sequence[str], check: bool, evict: bool) -> int:
    """Bring the files below each PATH to the disk cache of their mount.

    The mount needs disk_data_cache_dir. What is there already is not fetched again.
    """
    if check and evict:
        raise UserError("--check and --evict exclude each other", ExitStatus.USAGE)
    do = "check" if check else "evict" if evict else "fill"
    outcome = Outcome()
    begun = time.monotonic()
    for path in paths:
        point, root, below = _mount_of(path)
        files = list(_files(point, below, outcome))
        bar: ProgressBar[bool]
        with click.progressbar(
            length=max(1, sum(file.size for file in files)),
            label=f"{path} ({len(files)} files)",
            width=30,
            item_show_func=lambda _: _rate(outcome.fetched, begun),
            file=sys.stderr,
        ) as bar:
            for first in range(0, len(files), BATCH):
                _ask(server_of(point), root, do, files[first : first + BATCH], outcome, bar)
    _tell(do, outcome, time.monotonic() - begun)
    missing = do != "evict" and outcome.whole < outcome.files
    return ExitStatus.FAILURE if outcome.failed or missing else ExitStatus.OK


def _mount_of(path: str) -> tuple[str, str, str]:
    """Return the mount point a path lies on, what is mounted there, and the path below it."""
    place = mounts.canonical(path)
    mount = mounts.holding(place)
    if mount is None or not mount.ours:
        raise UserError(f"{path} does not lie on a mount of ossfs", ExitStatus.MOUNTPOINT)
    return mount.point, mount.root, os.path.relpath(place, mount.point)


def _files(point: str, below: str, outcome: Outcome) -> Iterator[Found]:
    """Yield the regular files at and below a path; what cannot be looked at has failed."""
    start = os.path.normpath(os.path.join(point, below))
    try:
        about = os.lstat(start)
    except OSError as error:
        raise UserError(f"{start}: {error.strerror}", ExitStatus.FAILURE) from None
    if stat.S_ISREG(about.st_mode):
        yield Found(os.path.relpath(start, point), about.st_size)
        return
    waiting = [start]
    while waiting:
        directory = waiting.pop()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            # Not into what else is mounted below.
                            if entry.stat(follow_symlinks=False).st_dev == about.st_dev:
                                waiting.append(entry.path)
                        elif entry.is_file(follow_symlinks=False):
                            size = entry.stat(follow_symlinks=False).st_size
                            yield Found(os.path.relpath(entry.path, point), size)
                    except OSError as error:
                        outcome.fail(entry.path, error.strerror)
        except OSError as error:
            outcome.fail(directory, error.strerror)


def _ask(
    pid: int, root: str, do: str, files: Sequence[Found], outcome: Outcome, bar: ProgressBar[bool]
) -> None:
    """Have the serving process do some files, and count what it says."""
    paths = [os.path.join(root, file.path).lstrip("/") for file in files]
    question = {"ask": WARM, "do": do, "paths": paths}
    answered = ended = False
    try:
        for told in inquire(pid, question, PATIENCE_S):
            answered, ended = True, "disk_cache" in told
            if "none" in told:
                raise UserError(
                    "the mount has no disk cache; mount with "
                    "disk_data_cache_dir=DIR,disk_data_cache_size=SIZE",
                    ExitStatus.FAILURE,
                )
            _count(told, files, outcome, bar)
    except OSError as error:
        raise UserError(
            f"process {pid} does not answer: {error.strerror or error}", ExitStatus.FAILURE
        ) from None
    if not answered:
        raise UserError(
            f"process {pid} does this for its own user and root alone", ExitStatus.FAILURE
        )
    if not ended:
        raise UserError(
            f"process {pid} has ended before all was done; the mount's log says why",
            ExitStatus.FAILURE,
        )


def _count(
    told: dict[str, Any], files: Sequence[Found], outcome: Outcome, bar: ProgressBar[bool]
) -> None:
    if "more" in told:
        outcome.fetched += told["more"]
        bar.update(told["more"], True)
    elif "disk_cache" in told:
        outcome.capacity = told["disk_cache"]["size"]
    elif "error" in told:
        outcome.fail(files[told["path"]].path, told["error"])
    else:
        outcome.files += 1
        outcome.size += told["size"]
        outcome.held += told["held"]
        outcome.whole += told["held"] == told["size"]
        bar.update(told["size"] - told["fetched"], True)


def _rate(size: int, begun: float) -> str:
    elapsed = max(time.monotonic() - begun, 0.001)
    return f"{size / elapsed / 1e6:.0f} MB/s"


def _tell(do: str, outcome: Outcome, seconds: float) -> None:
    if outcome.failed > _SHOWN:
        complain(f"{outcome.failed} files failed, of which {_SHOWN} are named")
    if do == "evict":
        click.echo(f"removed {outcome.files - outcome.failed} files from the disk cache")
        return
    click.echo(
        f"{outcome.whole} of {outcome.files} files, {_bytes(outcome.held)} of "
        f"{_bytes(outcome.size)}, are on disk"
        + (
            f"; {_bytes(outcome.fetched)} fetched in {seconds:.1f} s "
            f"({outcome.fetched / max(seconds, 0.001) / 1e6:.0f} MB/s)"
            if do == "fill"
            else ""
        )
    )
    if do == "fill" and outcome.held < outcome.size and outcome.size > outcome.capacity:
        complain(
            f"disk_data_cache_size is {show_size(outcome.capacity)}: these files do not fit in"
        )


def _bytes(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):.1f} MiB"
