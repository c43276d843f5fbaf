"""A benchmark's data and checks are such that wrong bytes cannot pass for right ones."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from fastcrc import crc64

from bench.support.rig import (
    MIB,
    Crew,
    Sample,
    check_crc,
    check_object,
    in_turns,
    medians,
    random_bytes,
    speed,
    turn_about,
)
from bench.support.servers import Traffic
from ossfs.store.api import GetReply
from ossfs.store.memory import MemoryStore

ROOT = Path(__file__).resolve().parents[2]


def test_no_two_pages_of_a_benchmark_file_are_alike() -> None:
    data = random_bytes(48 * MIB)
    assert len({data[at : at + 4096] for at in range(0, len(data), 4096)}) == len(data) // 4096


def test_a_benchmark_file_is_the_same_in_every_run() -> None:
    assert random_bytes(MIB + 1) == random_bytes(MIB + 1)


def test_pages_in_the_wrong_place_end_a_benchmark(tmp_path: Path) -> None:
    data = random_bytes(4 * MIB)
    path = tmp_path / "file"
    path.write_bytes(data)
    check_crc(path, crc64.xz(data))
    path.write_bytes(data[4096:8192] + data[:4096] + data[8192:])
    with pytest.raises(SystemExit, match="wrong bytes"):
        check_crc(path, crc64.xz(data))


def test_rows_take_turns_and_each_figure_is_its_median() -> None:
    order: list[str] = []
    walls = {"a": [3.0, 1.0, 2.0], "b": [9.0, 7.0, 8.0]}

    def row(name: str) -> Sample:
        order.append(name)
        wall = walls[name].pop(0)
        return Sample(wall, 10 - wall, Traffic(int(wall)))

    found = turn_about({"a": lambda: row("a"), "b": lambda: row("b")}, 3)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert found == {"a": Sample(2.0, 8.0, Traffic(2)), "b": Sample(8.0, 2.0, Traffic(8))}


def test_a_ratio_is_of_two_rows_of_one_round_and_of_the_round_in_the_middle() -> None:
    # A machine that gets four times slower meanwhile makes no row slower than the other.
    walls = {"base": iter([1.0, 1.0, 4.0]), "row": iter([2.0, 8.0, 8.0])}

    def row(name: str) -> Sample:
        return Sample(next(walls[name]), 0)

    rounds = in_turns({"base": lambda: row("base"), "row": lambda: row("row")}, 3)
    assert speed(rounds, "row", "base") == 0.5
    assert medians(rounds)["row"].wall / medians(rounds)["base"].wall == 8.0


class Flipping(MemoryStore):
    """Describes its objects well and gives them with one bit wrong."""

    def get_range_into(
        self,
        key: bytes,
        offset: int,
        buffers: Sequence[memoryview],
        *,
        if_match: str | None,
        on_filled: Callable[[int], None] | None = None,
        deadline: float,
    ) -> GetReply:
        reply = super().get_range_into(
            key, offset, buffers, if_match=if_match, on_filled=on_filled, deadline=deadline
        )
        buffers[-1][-1] ^= 1
        return reply


def test_an_object_of_other_bytes_ends_a_benchmark() -> None:
    data = random_bytes(9 * MIB)
    crc = crc64.xz(data)

    def holding(content: bytes, store: MemoryStore) -> MemoryStore:
        store.put(b"key", [content], deadline=time.monotonic() + 60)
        return store

    good = holding(data, MemoryStore())
    check_object(good, b"key", len(data), crc, data[:8])
    turned = data[4096:8192] + data[:4096] + data[8192:]
    for wrong in (turned, data[:-1]):
        with pytest.raises(SystemExit, match="wanted"):
            check_object(holding(wrong, MemoryStore()), b"key", len(data), crc)
    with pytest.raises(SystemExit, match="wrong bytes"):
        check_object(holding(data, Flipping()), b"key", len(data), crc)
    with pytest.raises(SystemExit, match="another object"):
        check_object(good, b"key", len(data), crc, b"another!")


def test_programs_work_together_once_all_are_ready(tmp_path: Path) -> None:
    script = "from pathlib import Path\nready()\nPath(sys.argv[1]).touch()"
    paths = [tmp_path / "one", tmp_path / "two"]
    with Crew(script, lambda: [[path] for path in paths]) as crew:
        crew.assemble()
        assert not any(path.exists() for path in paths)
        crew.work()
        assert all(path.exists() for path in paths)
        for path in paths:
            path.unlink()
        crew.assemble()
        crew.work()
        assert all(path.exists() for path in paths)


def test_a_program_that_fails_ends_a_benchmark() -> None:
    with Crew("ready()\nsys.exit(0)", lambda: [[]]) as crew:
        crew.assemble()
        with pytest.raises(SystemExit, match="has failed"):
            crew.work()


def test_an_unknown_benchmark_is_refused_with_the_names_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "tree", "nonsense"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "no such benchmark: nonsense" in done.stderr
    assert all(f"\n  {name}" in done.stderr for name in ("get", "read", "tree", "write"))


def test_several_benchmarks_run_one_after_another() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "tree", "tree", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("A tree of 50000 files") == 2
