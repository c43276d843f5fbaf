"""Every benchmark runs on small data and finds its bytes and counts right; nothing is timed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.mount import run

BENCH = Path(__file__).resolve().parents[2] / "bench"
SCRIPTS = sorted(path.stem for path in BENCH.glob("[a-z]*.py"))


def test_there_are_benchmarks() -> None:
    assert {"clients", "get", "listing", "read", "rename", "small", "tree", "write"} <= set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_prints_a_table_with_a_ratio(name: str) -> None:
    shown = run(sys.executable, BENCH / f"{name}.py", "--quick", seconds=110).stdout.decode()
    lines = shown.strip().splitlines()
    assert len(lines) >= 5
    assert any(
        word in lines[1]
        for word in ("of curl", "of direct", "times paging", "of the limit", "ours/best")
    )
