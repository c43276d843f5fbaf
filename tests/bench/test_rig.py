"""A benchmark's data and checks are such that wrong bytes cannot pass for right ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fastcrc import crc64

from bench.support.rig import MIB, Sample, check_crc, random_bytes, turn_about

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
        return Sample(wall, 10 - wall, int(wall), int(wall) * 100)

    found = turn_about({"a": lambda: row("a"), "b": lambda: row("b")}, 3)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert found == {"a": Sample(2.0, 8.0, 2, 200), "b": Sample(8.0, 2.0, 8, 800)}


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
    assert all(f"\n  {name}" in done.stderr for name in ("get", "listing", "read", "small", "tree"))


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
