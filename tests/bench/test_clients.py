"""The rig of several clients: who takes part, how they are mounted, and what ends a run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.clients import StoreJudge
from ossfs.cli.workloads.files import QUICK, SMALL, File, content, written_small
from ossfs.store.memory import MemoryStore
from tests.support.emulator import EmulatorProcess
from tests.support.mount import run
from tests.support.peers import installed, peers_on

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "bench" / "clients.py"


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path / "bucket") as running:
        yield running


def body_of(file: File) -> bytes:
    return b"".join(content().slices(file.offset, file.size))


def test_the_command_line_of_ossfs2_is_one_that_ours_takes_too(
    emulator: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(ROOT / "cmd"), prepend=":")
    emulator.oss2_bucket().put_object("file", b"hello")
    with peers_on(emulator, emulator.bucket, tmp_path / "peer")["ossfs2"]() as peer:
        assert (peer.path / "file").read_bytes() == b"hello"
        (peer.path / "other").write_bytes(b"back")
    assert emulator.oss2_bucket().get_object("other").read() == b"back"


def test_our_own_scripts_are_no_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(ROOT / "cmd"))
    assert installed("oss") == []
    shutil.copy("/bin/true", tmp_path / "ossfs2")
    shutil.copy("/bin/true", tmp_path / "ossfs")
    monkeypatch.setenv("PATH", f"{tmp_path}:{ROOT / 'cmd'}")
    assert installed("oss") == ["ossfs2", "ossfs1"]


class Late(MemoryStore):
    """Shows each object only when it has been looked for some times, as an upload after close."""

    looks = 3

    def list_page(self, *words: object, **named: object):  # type: ignore[no-untyped-def]
        self.looks -= 1
        if not self.looks:
            for file in written_small(QUICK, "written"):
                self.put(file.path.encode(), [body_of(file)], deadline=named["deadline"])
        return super().list_page(*words, **named)


def test_a_write_lasts_until_all_its_objects_are_in_the_store() -> None:
    files = written_small(QUICK, "written")
    judge = StoreJudge(Late())
    judge.settle(files)
    assert judge.asked == {"lists": 3}
    for file in files:
        judge.check(file)
    assert judge.names("written") == {f"{number:05d}" for number in range(QUICK.small)}


def test_an_object_with_the_bytes_of_another_ends_a_run() -> None:
    store = MemoryStore()
    one, other = File("d/one", 0, SMALL), File("d/other", SMALL, SMALL)
    store.put(b"d/one", [body_of(other)], deadline=float("inf"))
    judge = StoreJudge(store)
    judge.settle([one])
    assert judge.asked == {"heads": 1}
    with pytest.raises(SystemExit, match="wanted"):
        judge.check(one)


@pytest.mark.parametrize("store", ["oss", "s3"])
def test_rows_can_be_run_alone_and_at_a_distance(store: str) -> None:
    rows = ("--only", "read-4", "--only", "small-write")
    done = run(sys.executable, CLIENTS, "--quick", "--distant", "--store", store, *rows)
    lines = done.stdout.decode().splitlines()
    assert "20 ms and 100 MB/s a connection away" in lines[1]
    assert sum("/s " in line for line in lines[4:-2]) == len(rows) // 2
