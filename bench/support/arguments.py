"""The arguments every benchmark takes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NamedTuple


class Arguments(NamedTuple):
    quick: bool
    runs: int
    store: str
    """oss: the emulator; s3: SeaweedFS."""
    more: argparse.Namespace
    """Everything, with what the benchmark has added."""


def arguments(
    description: str | None,
    runs: int = 5,
    *,
    oss_only: bool = False,
    store: str = "oss",
    more: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> Arguments:
    """Parse `--quick` (small data, one run: a smoke test), `--runs N` and `--store KIND`.

    `more` adds arguments of the benchmark's own.
    Where the benchmark has nothing to show on that store it says so and ends.
    """
    summary = (description or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--quick", action="store_true", help="small data, one run")
    parser.add_argument("--runs", type=int, default=runs, help=f"runs a row (default {runs})")
    parser.add_argument(
        "--store", choices=("oss", "s3"), default=store, help="the emulator, or SeaweedFS"
    )
    more(parser)
    given = parser.parse_args()
    if oss_only and given.store != "oss":
        print(f"\nnothing in it runs on S3: {summary}", file=sys.stderr)
        raise SystemExit(0)
    return Arguments(given.quick, 1 if given.quick else given.runs, given.store, given)
