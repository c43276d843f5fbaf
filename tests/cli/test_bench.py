"""`ossfs bench`: every byte it reads or writes is right or it fails, and it leaves nothing."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest

from ossfs.cli import bench
from ossfs.cli.workloads import prepare
from ossfs.cli.workloads.content import PIECE, Content
from ossfs.cli.workloads.files import DATASETS, QUICK, File
from ossfs.cli.workloads.judge import Judge
from ossfs.cli.workloads.rows import WORKLOADS, Outcome, Stage
from ossfs.cli.workloads.workers import Workers, WorkloadError, together
from tests.cli.command import Ossfs
from tests.support.mount import run, wait_until

PAGE = 4096


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A plain directory with every dataset in it."""
    made = tmp_path / "place"
    made.mkdir()
    for files in DATASETS.values():
        prepare.make(made, list(files(QUICK, "1")))
    return made


def perform(place: Path, name: str, judge: Judge | None = None) -> Outcome:
    stage = Stage(place, QUICK, "1", nullcontext(), judge or Judge(place))
    return WORKLOADS[name].run(stage)


def flip(path: Path, at: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


# The workloads, on a plain directory


def test_any_stretch_of_the_content_is_what_the_whole_has_there() -> None:
    stream = Content(1)
    whole = b"".join(stream.slices(0, 3 * PIECE))
    for offset, size in ((0, 10), (PIECE - 5, 10), (PIECE + 123, PIECE), (2 * PIECE, PIECE)):
        assert b"".join(stream.slices(offset, size)) == whole[offset : offset + size]
    assert len({whole[at : at + PAGE] for at in range(0, len(whole), PAGE)}) == 3 * PIECE // PAGE


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_does_what_it_says_on_any_directory(place: Path, name: str) -> None:
    outcome = perform(place, name)
    counts = {
        **dict.fromkeys(("read-1", "read-4", "write-1", "write-4"), QUICK.large),
        **dict.fromkeys(("small-1", "small-16", "small-64", "small-write"), QUICK.small),
        **dict.fromkeys(("stat", "rename", "remove"), QUICK.names),
        "random-4k-1": QUICK.reads,
        "random-4k-16": 4 * QUICK.reads,
        "random-128k-1": QUICK.reads,
        "random-128k-16": QUICK.large // (128 * 1024),
        "list": QUICK.listed,
        "find": QUICK.folders * (QUICK.each + 1) + 1,
    }
    assert outcome.amount == counts[name]
    if outcome.latencies and "write-" not in name:
        assert len(outcome.latencies) == outcome.amount


def test_one_wrong_bit_ends_a_sequential_read(place: Path) -> None:
    flip(place / "large", QUICK.large - 1)
    with pytest.raises(WorkloadError, match=r"large: CRC-64 .* wrong bytes"):
        perform(place, "read-1")
    flip(place / "quarters" / "3", 0)
    with pytest.raises(WorkloadError, match=r"quarters/3: CRC-64"):
        perform(place, "read-4")


def test_a_file_that_is_too_short_ends_a_sequential_read(place: Path) -> None:
    os.truncate(place / "large", QUICK.large - 1)
    with pytest.raises(WorkloadError, match=f"has {QUICK.large - 1} bytes"):
        perform(place, "read-1")


@pytest.mark.parametrize("name", ["random-4k-16", "random-128k-1"])
def test_pages_in_the_wrong_place_end_random_reads(place: Path, name: str) -> None:
    data = (place / "large").read_bytes()
    (place / "large").write_bytes(data[PAGE:] + data[:PAGE])
    with pytest.raises(WorkloadError, match=r"at .*: CRC-64 .* wrong bytes"):
        perform(place, name)


def test_two_small_files_that_were_exchanged_end_their_reading(place: Path) -> None:
    one, other = place / "small" / "00003", place / "small" / "00004"
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    with pytest.raises(WorkloadError, match=r"small/0000[34]: CRC-64"):
        perform(place, "small-16")


class Spoiling(Judge):
    """Damages what was written before anybody checks it."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self._place = place

    def settle(self, files: Sequence[File]) -> None:
        flip(self._place / files[-1].path, files[-1].size // 2)


@pytest.mark.parametrize("name", ["write-1", "write-4", "small-write"])
def test_wrong_bytes_of_what_was_written_are_found(place: Path, name: str) -> None:
    with pytest.raises(WorkloadError, match=r"written-.*: CRC-64 .* wrong bytes"):
        perform(place, name, Spoiling(place))


@pytest.mark.parametrize(("name", "file"), [("list", "listed/00001"), ("find", "tree/01/00001")])
def test_a_name_that_is_missing_ends_a_listing(place: Path, name: str, file: str) -> None:
    (place / file).unlink()
    with pytest.raises(WorkloadError, match=r"shows .* files, wanted .*0001"):
        perform(place, name)


@pytest.mark.parametrize(("name", "file"), [("list", "listed/00001"), ("find", "tree/01/00001")])
def test_a_wrong_size_ends_a_listing(place: Path, name: str, file: str) -> None:
    (place / file).write_bytes(b"xx")
    with pytest.raises(WorkloadError, match="1 are wrong or missing, such as 00001"):
        perform(place, name)


def test_a_file_that_did_not_come_along_ends_a_rename(place: Path) -> None:
    (place / "old-1" / "00001").unlink()
    with pytest.raises(WorkloadError, match=f"has {QUICK.names - 1} files"):
        perform(place, "rename")


def test_a_file_that_cannot_be_found_is_named(place: Path) -> None:
    (place / "cold" / "3" / "00013").unlink()
    with pytest.raises(WorkloadError, match="cold/3/00013: No such file or directory"):
        perform(place, "stat")
    (place / "large").unlink()
    with pytest.raises(WorkloadError, match="large: No such file or directory"):
        perform(place, "random-4k-1")


def test_workers_that_are_killed_are_no_success() -> None:
    def make(member: int) -> Callable[[], int]:
        def work() -> int:
            if member == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return member

        return work

    with Workers(2, make) as workers:
        workers.work()
        with pytest.raises(WorkloadError, match="was killed"):
            workers.results()


def test_workers_do_each_members_work_once() -> None:
    assert sorted(together(11, lambda member: lambda: member * member)) == [
        number * number for number in range(11)
    ]


def test_removing_takes_all_and_a_second_time_nothing(place: Path) -> None:
    prepare.remove(place)
    assert not place.exists()
    prepare.remove(place)


# The command


def test_every_row_of_a_mount_is_measured_and_nothing_is_left(ossfs: Ossfs) -> None:
    assert ossfs.mount().status == 0
    before = sorted(os.listdir(ossfs.point))
    reply = ossfs.run(ossfs.command("bench", str(ossfs.point), "--quick"), limit_s=60)
    assert (reply.status, reply.stderr) == (0, "")
    for row in WORKLOADS.values():
        assert f"\n{row.title} " in reply.stdout
    assert "s/GiB" in reply.stdout
    assert "resident since it was mounted" in reply.stdout
    assert sorted(os.listdir(ossfs.point)) == before
    keys = [each.key for each in ossfs.emulator.oss2_bucket().list_objects().object_list]
    assert keys == ["dir/file.txt"]


def test_json_has_the_rows_asked_for_and_what_the_daemon_did(ossfs: Ossfs) -> None:
    assert ossfs.mount().status == 0
    words = ("--quick", "--only", "small-16", "--only", "read-1", "--size", "5M", "--json")
    told = json.loads(ossfs("bench", str(ossfs.point), *words).stdout)
    read, small = told["rows"]
    assert (read["name"], read["amount"], read["unit"]) == ("read-1", 8 << 20, "MB/s")
    assert (small["name"], small["amount"], small["requests"]) == ("small-16", 64, 64)
    assert small["latency_ms"][0] <= small["latency_ms"][1]
    assert told["daemon"]["peak_memory"] > 0


def test_without_a_mount_it_brings_its_own_and_takes_it_away(ossfs: Ossfs) -> None:
    reply = ossfs("bench", "--quick", "--only", "read-4", "--only", "find", "--only", "write-1")
    assert (reply.status, reply.stderr) == (0, "")
    point = Path(reply.stdout.partition(": ")[0])
    assert point.name == "mnt"
    assert not point.parent.exists()


@pytest.mark.parametrize(
    ("row", "after"), [("read-1", "large"), ("write-1", "written-1-1"), ("rename", "old-1")]
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_leaves_nothing(
    ossfs: Ossfs, number: signal.Signals, row: str, after: str
) -> None:
    assert ossfs.mount().status == 0
    before = sorted(os.listdir(ossfs.point))
    process = ossfs.start("bench", str(ossfs.point), "--size", "512M", "--only", row)
    try:
        wait_until(lambda: any(ossfs.point.glob(f"ossfs-bench-*/{after}")), 30)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, stdout, stderr.strip()) == (128 + number, "", "")
    assert sorted(os.listdir(ossfs.point)) == before


def test_a_row_that_fails_is_named_after_those_that_worked_and_nothing_is_left(
    ossfs: Ossfs, tmp_path: Path
) -> None:
    place = tmp_path / "plain"
    place.mkdir()
    (tmp_path / "nothing").mkdir()
    words = ("--quick", "--only", "read-1", "--only", "find")
    reply = ossfs("bench", str(place), *words, PATH=str(tmp_path / "nothing"))
    assert reply.status == 1
    assert reply.complaint == "find: there is no program find here"
    assert "sequential read, 1 reader" in reply.stdout
    assert os.listdir(place) == []


def test_a_directory_that_went_with_its_mount_is_not_said_to_be_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        directory = bench._make_directory(stack, tmp_path, own=False)
        directory.rename(tmp_path / "elsewhere")
    said = capsys.readouterr().err
    assert f"{directory} has gone" in said
    assert "still in the bucket" in said


def test_a_directory_on_no_mount_of_ours_has_rates_alone(ossfs: Ossfs, tmp_path: Path) -> None:
    place = tmp_path / "plain"
    place.mkdir()
    reply = ossfs("bench", str(place), "--quick", "--only", "list")
    assert (reply.status, reply.stderr) == (0, "")
    assert "entries/s" in reply.stdout
    assert "daemon" not in reply.stdout


def test_what_may_not_drop_all_caches_leaves_cold_stats_out(ossfs: Ossfs, tmp_path: Path) -> None:
    place = tmp_path / "plain"
    place.mkdir()
    if os.geteuid() == 0:
        os.chown(place, 65534, 65534)
        # Reading is for this interpreter, which may lie in root's home.
        drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        ossfs.prefix = [*drop, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    reply = ossfs("bench", str(place), "--quick", "--only", "stat", "--only", "read-1")
    assert (reply.status, reply.stderr) == (0, "")
    assert "cold stats are left out" in reply.stdout
    assert "stats/s" not in reply.stdout
    reply = ossfs("bench", str(place), "--quick", "--only", "stat")
    assert reply.status == 2
    assert "--only stat" in reply.complaint
    assert os.listdir(place) == []


def test_a_bar_is_for_terminals_alone(ossfs: Ossfs, tmp_path: Path) -> None:
    place = tmp_path / "plain"
    place.mkdir()
    ours, theirs = pty.openpty()
    command = ossfs.command("bench", str(place), "--quick", "--only", "read-1")
    done = subprocess.run(
        command, env=ossfs.environment(), stdout=subprocess.PIPE, stderr=theirs, check=True
    )
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "making large" in shown
    assert "sequential read, 1 reader" in shown
    assert b"making" not in done.stdout


# What is refused


def test_what_is_no_directory_is_refused(ossfs: Ossfs, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, why in ((tmp_path / "file", "not a directory"), (tmp_path / "no", "No such file")):
        reply = ossfs("bench", str(path))
        assert reply.status == 3
        assert str(path) in reply.complaint
        assert why in reply.complaint


@pytest.mark.parametrize("command", ["bench", "stats", "umount", "warm"])
def test_an_empty_path_is_not_the_working_directory(ossfs: Ossfs, command: str) -> None:
    reply = ossfs(command, "")
    assert reply.status == 2
    assert "the path is empty" in reply.complaint


def test_a_read_only_mount_is_refused(ossfs: Ossfs) -> None:
    assert ossfs.mount("-o", "ro").status == 0
    reply = ossfs.run(ossfs.command("bench", str(ossfs.point), "--quick"), limit_s=60)
    assert reply.status == 3
    assert "read-only" in reply.complaint
    assert "mount without ro" in reply.complaint


def test_too_little_room_is_refused_before_anything_is_made(ossfs: Ossfs, tmp_path: Path) -> None:
    place = tmp_path / "little"
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=32m", "none", place)
    try:
        reply = ossfs("bench", str(place), "--size", "1G")
        assert reply.status == 3
        assert "32 MiB free" in reply.complaint
        assert "--size" in reply.complaint
        assert os.listdir(place) == []
    finally:
        run("umount", place)


@pytest.mark.parametrize("size", ["x", "1K", "17G", "-1"])
def test_a_size_that_makes_no_sense_is_refused(ossfs: Ossfs, size: str) -> None:
    reply = ossfs("bench", f"--size={size}")
    assert reply.status == 2
    assert f"--size={size}: " in reply.complaint
    assert "4M to 16G" in reply.complaint


def test_an_unknown_row_is_refused_with_those_there_are(ossfs: Ossfs) -> None:
    reply = ossfs("bench", "--only", "nonsense")
    assert reply.status == 2
    assert "--only" in reply.complaint
    assert "small-64" in reply.complaint
