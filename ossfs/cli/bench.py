"""`ossfs bench`: how fast a mount reads, writes and lists, and what its process spends on it.

All happens in a directory of a random name below the mount point, made first and removed last,
whatever ends the command; nothing else is touched. Without a mount point the mount, its server
and its bucket are this command's own.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import click

from ossfs.cli import mounts, playground, preflight, signals, usage
from ossfs.cli.terminal import complain, finish_output, in_columns
from ossfs.cli.workloads import prepare
from ossfs.cli.workloads.files import DATASETS, QUICK, USUAL, Scale
from ossfs.cli.workloads.judge import Judge
from ossfs.cli.workloads.rows import MBS, WORKLOADS, Outcome, Stage, Workload
from ossfs.cli.workloads.workers import WorkloadError, line_of
from ossfs.config.values import read_size, show_size
from ossfs.emulator.main import DEFAULT_BUCKET
from ossfs.inquiry import ask
from ossfs.runtime.bounded import PATIENCE_S, within
from ossfs.runtime.failure import ExitStatus, UserError

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar  # click names the type nowhere else

_DROP = "/proc/sys/vm/drop_caches"
_MEMORY = "/dev/shm"
_LEAST, _MOST = 4 << 20, 16 << 30
_ROOM = 1.1
"""What is wanted of free space, over the bytes that are written."""
_GIB = 1 << 30
_TURN = "1"
"""There is but one."""


def _size(ctx: click.Context, option: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        size = read_size(text)
        reason = "" if _LEAST <= size <= _MOST else "out of range"
    except ValueError as error:
        reason = str(error)
    if reason:
        raise UserError(
            f"--size={text}: {reason}; legal: {show_size(_LEAST)} to {show_size(_MOST)}, "
            "such as 256M or 1G",
            ExitStatus.USAGE,
        )
    return size


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("mountpoint", required=False)
@click.option(
    "--size",
    callback=_size,
    metavar="SIZE",
    help=f"Bytes of the large file, such as 1G; {show_size(USUAL.large)} unless told.",
)
@click.option("--quick", is_flag=True, help="Very little of everything: to see that it works.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(list(WORKLOADS)),
    metavar="NAME",
    help=f"Measure this alone; may be repeated. {', '.join(WORKLOADS)}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(
    mountpoint: str | None, size: int | None, quick: bool, only: Sequence[str], as_json: bool
) -> None:
    """Measure the mount on MOUNTPOINT, or any directory.

    Without MOUNTPOINT: a mount of its own, of a bucket served from memory on this machine.
    """
    scale = QUICK if quick else USUAL
    if size is not None:
        scale = scale.sized(size)
    wanted = {name: row for name, row in WORKLOADS.items() if not only or name in only}
    signals.raise_when_asked_to_end()
    with ExitStack() as stack:
        try:
            _perform(stack, mountpoint, scale, wanted, as_json=as_json)
        finally:
            signals.ignore()
            finish_output()  # or the clean-up would fail at showing itself


def _perform(
    stack: ExitStack,
    mountpoint: str | None,
    scale: Scale,
    wanted: dict[str, Workload],
    *,
    as_json: bool,
) -> None:
    """Do all of it; what has to be cleaned up goes onto the stack as soon as it may be there."""
    need = _bytes_of(scale, wanted)
    if mountpoint is None:
        place = _own_mount(stack, need)
    else:
        place = Path(mounts.canonical(mountpoint))
        _check_place(str(place), need)
    directory = _make_directory(stack, place, own=mountpoint is None)
    caches = _Caches()
    if not caches.names and any(row.unseen for row in wanted.values()):
        wanted = {name: row for name, row in wanted.items() if not row.unseen}
        if not wanted:
            raise UserError(
                "--only stat: none but root can make the kernel forget names; run it by sudo",
                ExitStatus.USAGE,
            )
    report = _Report(str(place), scale, _daemon_of(str(place)), caches.names)
    try:
        _measure(directory, scale, wanted, caches, report)
    except (WorkloadError, OSError) as error:
        if report.rows and not as_json:
            report.show()
        raise UserError(f"{report.row}: {line_of(error)}") from error
    click.echo(json.dumps(report.told())) if as_json else report.show()


def _bytes_of(scale: Scale, wanted: dict[str, Workload]) -> int:
    """Return how many bytes will be there at the end."""
    datasets = {name for row in wanted.values() for name in row.needs}
    read = sum(file.size for name in datasets for file in DATASETS[name](scale, _TURN))
    return read + sum(row.writes(scale) for row in wanted.values())


def _own_mount(stack: ExitStack, need: int) -> Path:
    """Mount a bucket of an emulator, in memory where there is room; return the mount point."""
    preflight.check_fuse()
    parent = None
    with suppress(OSError):
        if _free(os.statvfs(_MEMORY)) >= _ROOM * need:
            parent = _MEMORY
    home = playground.make_home(stack, "bench", parent)
    _check_place(str(home / "store"), need)
    _, endpoint = playground.start_emulator(stack, home, "--fast-etags")
    if not playground.mount(stack, home, f"oss://{DEFAULT_BUCKET}", endpoint, _quietly):
        raise UserError("the benchmark could not mount its bucket")
    return home / "mnt"


def _quietly(command: str, expect: str, directory: Path) -> bool:
    """Run a command; show what it said only where that is not what it should be."""
    status, said = playground.execute(command, directory)
    worked = status == 0 and expect in said
    if not worked:
        complain(f"{command}: {said or f'status {status}'}")
    return worked


def _check_place(point: str, need: int) -> None:
    """Refuse what is no directory with room to write in; UserError says what to do."""
    try:
        within(PATIENCE_S, lambda: _look(point, need))
    except TimeoutError:
        raise mounts.hung(point) from None


def _look(point: str, need: int) -> None:
    try:
        state, room = os.stat(point), os.statvfs(point)
    except OSError as error:
        raise _refuse(f"{point}: {error.strerror}; name a directory on a mount") from None
    if not stat.S_ISDIR(state.st_mode):
        raise _refuse(f"{point} is not a directory; name one on a mount")
    if room.f_flag & os.ST_RDONLY:
        raise _read_only(point)
    if _free(room) < _ROOM * need:
        raise _refuse(
            f"{point} has {_free(room) >> 20} MiB free, {int(_ROOM * need) >> 20} MiB are needed; "
            "give a smaller --size, or --only some rows"
        )


def _free(room: os.statvfs_result) -> int:
    return room.f_bavail * room.f_frsize


def _read_only(point: str) -> UserError:
    return _refuse(f"{point} is read-only, and what is measured is written first; mount without ro")


def _refuse(message: str) -> UserError:
    return UserError(message, ExitStatus.MOUNTPOINT)


def _make_directory(stack: ExitStack, place: Path, *, own: bool) -> Path:
    """Make the directory that all happens in; it is removed unless its whole bucket goes."""
    directory = place / f"ossfs-bench-{secrets.token_hex(8)}"

    def remove() -> None:
        if sys.stderr.isatty():
            complain(f"removing {directory}")
        try:
            os.lstat(directory)  # or it would count as removed
            prepare.remove(directory)
        except FileNotFoundError:
            complain(
                f"{directory} has gone; if the mount came off, its files are still in the bucket: "
                "rm -r them there"
            )
        except (OSError, WorkloadError) as error:
            complain(f"{directory} could not be removed, rm -r will: {line_of(error)}")

    signals.hold()  # it is there and will be removed, or neither
    try:
        os.mkdir(directory)
        if not own:
            stack.callback(remove)
    except OSError as error:
        raise _refuse(
            f"nothing can be made in {place}: {error.strerror}; mount without ro, or name a "
            "directory that you may write in"
        ) from None
    finally:
        signals.release()
    return directory


class _Caches:
    """Makes the kernel forget: everything where that is permitted, else the pages of files."""

    def __init__(self) -> None:
        self.names = True
        """Names are forgotten too."""
        self.drop(())

    def drop(self, files: Iterable[Path]) -> None:
        """Forget what could be; `files` are those that will be read."""
        if self.names:
            try:
                with open(_DROP, "w", encoding="ascii") as told:
                    told.write("3\n")
                return
            except OSError:
                self.names = False
        for path in files:
            fd = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


class _Daemon:
    """The process that serves the mount."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    @property
    def cpu(self) -> float:
        try:
            return usage.cpu_seconds(self.pid)
        except OSError:
            raise WorkloadError(
                f"process {self.pid}, which served the mount, has ended; its log says why"
            ) from None

    @property
    def peak_memory(self) -> int | None:
        """Bytes; None where it has ended."""
        try:
            return usage.peak_memory(self.pid)
        except (OSError, KeyError):  # one that nobody has waited for has no memory
            return None

    def requests(self) -> int | None:
        """Return how many it has sent; None where it does not tell this user."""
        try:
            return sum(map(int, ask(self.pid)["requests"].values()))
        except (OSError, KeyError):
            return None


def _daemon_of(place: str) -> _Daemon | None:
    """Return who serves a path, where that is a mount of ours whose process can be seen."""
    mount = mounts.holding(place)
    servers = mounts.servers_of(mount) if mount is not None and mount.ours else []
    return _Daemon(servers[0]) if servers else None


class _Clock:
    """What is inside of it is timed; a context manager."""

    def __init__(self, daemon: _Daemon | None) -> None:
        self._daemon = daemon
        self.wall = 0.0
        self.cpu: float | None = None
        self.requests: int | None = None

    def __enter__(self) -> None:
        if self._daemon is not None:
            self.requests = self._daemon.requests()
            self.cpu = self._daemon.cpu
        self._begun = time.perf_counter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.wall = time.perf_counter() - self._begun
        if self._daemon is not None and self.cpu is not None:
            self.cpu = self._daemon.cpu - self.cpu
            told = self._daemon.requests()
            if self.requests is not None:
                self.requests = None if told is None else told - self.requests


@dataclass(frozen=True, slots=True)
class _Row:
    """What one workload came to."""

    name: str
    title: str
    unit: str
    rate: float
    seconds: float
    amount: float
    """Bytes where the unit is MB/s, else what the unit counts."""
    latency_ms: tuple[float, float] | None
    """Median and 99th percentile of single operations."""
    daemon_cpu_s: float | None
    requests: int | None

    @classmethod
    def of(cls, name: str, row: Workload, outcome: Outcome, clock: _Clock) -> _Row:
        took = sorted(outcome.latencies)
        latency = None
        if took:
            latency = took[len(took) // 2] * 1e3, took[len(took) * 99 // 100] * 1e3
        rate = row.rate(outcome.amount, clock.wall)
        rest = (clock.wall, outcome.amount, latency, clock.cpu, clock.requests)
        return cls(name, row.title, row.unit, rate, *rest)

    @property
    def cpu(self) -> str:
        """CPU of the daemon beside what was done."""
        if self.daemon_cpu_s is None:
            return "-"
        if self.unit == MBS:
            return f"{self.daemon_cpu_s / self.amount * _GIB:.2f} s/GiB"
        return f"{self.daemon_cpu_s / self.amount * 1e3:.2f} ms each"

    def cells(self, *, daemon: bool) -> list[str]:
        shown = [f"{each:.2f}" for each in self.latency_ms or ()] or ["-", "-"]
        cells = [self.title, f"{self.rate:,.0f} {self.unit}", *shown]
        if daemon:
            cells += [self.cpu, "-" if self.requests is None else str(self.requests)]
        return cells


@dataclass(slots=True)
class _Report:
    """What has been measured so far."""

    place: str
    scale: Scale
    daemon: _Daemon | None
    names: bool
    """The kernel forgot names before each row, not pages alone."""
    rows: list[_Row] = field(default_factory=list)
    row: str = "preparation"
    """What is being done."""

    def told(self) -> dict[str, object]:
        """Return everything for JSON."""
        daemon = self.daemon
        return {
            "directory": self.place,
            "scale": asdict(self.scale),
            "caches_dropped": "all" if self.names else "pages",
            "rows": [asdict(row) for row in self.rows],
            "daemon": daemon and {"pid": daemon.pid, "peak_memory": daemon.peak_memory},
        }

    def show(self) -> None:
        """Print the table and a line on how its figures were obtained."""
        scale = self.scale
        click.echo(
            f"{self.place}: {show_size(scale.large)}, {scale.small} files of 128 KiB, "
            f"{scale.listed} and {scale.folders * scale.each} entries, {scale.names} names"
        )
        header = ["", "rate", "p50 ms", "p99 ms"]
        daemon = self.daemon
        if daemon is not None:
            header += ["daemon CPU", "requests"]
        lines = in_columns(header, [row.cells(daemon=daemon is not None) for row in self.rows])
        click.echo("\n".join(lines))
        peak = daemon.peak_memory if daemon is not None else None
        if daemon is not None and peak is not None:
            click.echo(
                f"The daemon, process {daemon.pid}, had at most {peak / 1e6:.0f} MB "
                "resident since it was mounted."
            )
        how = (
            f"pages and names dropped before it ({_DROP})"
            if self.names
            else "pages of its files dropped before it (posix_fadvise); names stay known to the "
            "kernel, so cold stats are left out"
        )
        click.echo(f"Each row run once, {how}; writes last until close; all bytes compared by CRC.")


def _measure(
    directory: Path,
    scale: Scale,
    wanted: dict[str, Workload],
    caches: _Caches,
    report: _Report,
) -> None:
    """Make what is needed, run each row, and put what it came to into the report."""
    datasets = dict.fromkeys(name for row in wanted.values() for name in row.needs)
    files = {name: list(DATASETS[name](scale, _TURN)) for name in datasets}
    batches = [
        (name, each[start : start + prepare.BATCH])
        for name, each in files.items()
        for start in range(0, len(each), prepare.BATCH)
    ]
    with _Progress(len(batches) + len(wanted)) as step:
        for name, batch in batches:
            step(f"making {name}")
            prepare.make(directory, batch)
        for name, row in wanted.items():
            report.row = name
            step(row.title)
            read = [file for each in row.needs for file in files[each] if file.size > 1]
            caches.drop(directory / file.path for file in read)
            clock = _Clock(report.daemon)
            outcome = row.run(Stage(directory, scale, _TURN, clock, Judge(directory)))
            report.rows.append(_Row.of(name, row, outcome, clock))


class _Progress:
    """A bar on a terminal, else nothing; a context manager that gives `step(what is begun)`."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._stack = ExitStack()
        self._begun = 0

    def __enter__(self) -> Callable[[str], None]:
        if not sys.stderr.isatty():
            return lambda what: None
        bar: ProgressBar[str] = self._stack.enter_context(
            click.progressbar(
                length=self._steps, width=30, file=sys.stderr, item_show_func=lambda what: what
            )
        )

        def step(what: str) -> None:
            bar.current_item = what
            bar.update(1 if self._begun else 0)
            bar.render_progress()
            self._begun += 1

        return step

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)
