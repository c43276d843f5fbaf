"""`jindo-fuse` as its users type it, turned into `ossfs mount`.

    jindo-fuse MOUNTPOINT -ouri=oss://BUCKET[.ENDPOINT]/[DIR] [-oNAME=VALUE]... [-f] [-d]

Names and defaults are JindoFuse's: attr_timeout, entry_timeout and negative_timeout are the
kernel's. Where JINDOSDK_CONF_DIR has a jindosdk.cfg and no `-c` names another, it is read. Started
by `cmd/jindo-fuse`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from ossfs.cli.main import main as run

_DIALECT = "--dialect=jindofuse"
_FILE = "jindosdk.cfg"


def translated(words: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Return the words for `ossfs`."""
    if list(words) in (["-V"], ["--version"]):
        return ["--version"]
    named = any(word.startswith(("-c", "--conf")) or "conf=" in word for word in words)
    directory = environ.get("JINDOSDK_CONF_DIR", "")
    path = os.path.join(directory, _FILE)
    usual = [] if named or not directory or not os.path.exists(path) else [f"--conf={path}"]
    return ["mount", _DIALECT, *usual, *words]


if __name__ == "__main__":
    run(translated(sys.argv[1:], os.environ))
