"""What may change while mounted: real options, all of them in the documentation."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

from ossfs.config.options import MountOptions
from ossfs.policies import LIVE, differing

PAGE = Path(__file__).parents[2] / "docs" / "OPERATIONS.md"


def test_what_may_change_is_an_option_and_documented() -> None:
    names = {field.name for field in fields(MountOptions)}
    assert names >= LIVE
    page = PAGE.read_text()
    told = page.partition("At SIGHUP the files")[2].partition("Everything else")[0]
    written: set[str] = set()
    last = ""
    for name in re.findall(r"`([a-z_]+)`", told):
        if name.startswith("_"):  # `prefetch_concurrency` and `_per_file`
            name = last.removesuffix("_threshold") + name
        written.add(name)
        last = name
    assert written == LIVE


def test_what_differs_is_named() -> None:
    options = MountOptions("bucket", "/mnt")
    assert differing(options, options) == []
    assert differing(options, replace(options, uid=5, attr_timeout=1.0)) == ["uid", "attr_timeout"]
