"""The arguments every benchmark takes."""

from __future__ import annotations

import argparse
from typing import NamedTuple


class Arguments(NamedTuple):
    quick: bool
    runs: int


def arguments(description: str | None, runs: int = 5) -> Arguments:
    """Parse `--quick` (small data, one run: a smoke test) and `--runs N`."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small data, one run")
    parser.add_argument("--runs", type=int, default=runs, help=f"runs a row (default {runs})")
    given = parser.parse_args()
    return Arguments(given.quick, 1 if given.quick else given.runs)
