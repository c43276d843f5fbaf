"""docs/SEMANTICS.md names a test for each promise: they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "SEMANTICS.md"
NAMED = re.compile(r"`([a-z_/]+\.py)::(test_\w+)`")


def promises() -> list[str]:
    """The rows of the page's tables, without their headings."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [row for row in rows if not row.startswith("| operation |")]


def test_every_promise_names_a_test_that_exists() -> None:
    assert len(promises()) >= 40
    defined: dict[str, set[str]] = {}
    for row in promises():
        named = NAMED.findall(row.rsplit("|", 2)[1])
        assert named, f"no test is named for: {row}"
        for file, test in named:
            if file not in defined:
                tree = ast.parse((TESTS / file).read_text())
                defined[file] = {
                    node.name
                    for node in ast.walk(tree)
                    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                }
            assert test in defined[file], f"{file} has no {test}"
