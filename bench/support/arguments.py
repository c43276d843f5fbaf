"""The arguments every benchmark takes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple


class Arguments(NamedTuple):
    quick: bool
    runs: int
    store: str
    """oss: the emulator; s3: SeaweedFS."""
    plot: Path | None = None
    """Where to draw to, if anywhere."""


def arguments(
    description: str | None, runs: int = 5, *, oss_only: bool = False, plot: Path | None = None
) -> Arguments:
    """Parse `--quick` (small data, one run: a smoke test), `--runs N` and `--store KIND`.

    `plot` is where the benchmark draws to when asked by `--plot` without a name.
    Where the benchmark has nothing to show on that store it says so and ends.
    """
    summary = (description or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--quick", action="store_true", help="small data, one run")
    parser.add_argument("--runs", type=int, default=runs, help=f"runs a row (default {runs})")
    parser.add_argument(
        "--store", choices=("oss", "s3"), default="oss", help="the emulator, or SeaweedFS"
    )
    if plot is not None:
        parser.add_argument(
            "--plot", type=Path, nargs="?", const=plot, help=f"draw to a PNG file (default {plot})"
        )
    given = parser.parse_args()
    if oss_only and given.store != "oss":
        print(f"\nnothing in it runs on S3: {summary}", file=sys.stderr)
        raise SystemExit(0)
    return Arguments(
        given.quick, 1 if given.quick else given.runs, given.store, vars(given).get("plot")
    )
