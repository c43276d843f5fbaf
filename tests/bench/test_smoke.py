"""Every benchmark runs on small data and finds its bytes and counts right; nothing is timed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.mount import run

BENCH = Path(__file__).resolve().parents[2] / "bench"
SCRIPTS = sorted(path.stem for path in BENCH.glob("[a-z]*.py"))
DRAWN = "scaling"
PNG = b"\x89PNG\r\n\x1a\n"


def test_there_are_benchmarks() -> None:
    assert {
        *("cache", "clients", "distant", "find", "get", "listing", "read", "rename", "requests"),
        *("scaling", "scattered", "small", "tls", "tree", "write"),
    } <= set(SCRIPTS)


def table_of(name: str, *options: str) -> list[str]:
    """Run a benchmark; return what it prints."""
    command = [sys.executable, BENCH / f"{name}.py", "--quick", *options]
    lines = run(*command, seconds=110).stdout.decode().strip().splitlines()
    assert len(lines) >= 5
    assert any(
        word in lines[1]
        for word in (
            *("of curl", "of direct", "times paging", "of the limit", "ours/best"),
            *("of ossfs 2.0", "of default", "times as fast", "of no latency", "times 1x"),
            "of one process",
        )
    )
    return lines


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != DRAWN])
def test_a_benchmark_prints_a_table_with_a_ratio(name: str) -> None:
    table_of(name)


def test_how_the_cost_grows_is_printed_and_drawn(tmp_path: Path) -> None:
    path = tmp_path / "scaling.png"
    lines = table_of(DRAWN, "--plot", str(path))
    assert sum("linear" in line or "bends upward" in line for line in lines) >= 14
    assert path.read_bytes().startswith(PNG)


@pytest.mark.parametrize("name", ["listing", "read", "write"])
def test_a_benchmark_runs_on_seaweedfs_with_the_same_checks(name: str) -> None:
    table_of(name, "--store", "s3")


def test_a_benchmark_with_nothing_to_show_on_s3_says_so() -> None:
    done = run(sys.executable, BENCH / "tree.py", "--quick", "--store", "s3")
    assert done.stdout == b""
    assert b"nothing in it runs on S3" in done.stderr
