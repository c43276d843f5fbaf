"""Write the man page and the shells' completion, or tell by the status whether they are current.

    python -m ossfs.cli.pages [--check]

Both come from the option table and from click; nothing in them is written by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from click.shell_completion import get_completion_class

from ossfs.cli.main import COMMANDS, cli
from ossfs.config.manual import manual

SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_OSSFS_COMPLETE"


def pages() -> dict[str, str]:
    """Return every generated page by its name below docs/."""
    commands = {name: line for name, (_, line) in COMMANDS.items()}
    made = {"ossfs.1": manual(commands)}
    for shell in SHELLS:
        kind = get_completion_class(shell)
        assert kind is not None
        made[f"completion/ossfs.{shell}"] = kind(cli, {}, "ossfs", _VARIABLE).source()
    return made


def main(words: Sequence[str]) -> int:
    """Write the pages beside the package; with --check compare alone."""
    place = Path(__file__).resolve().parents[2] / "docs"
    behind = []
    for name, text in pages().items():
        path = place / name
        if "--check" not in words:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            behind.append(f"docs/{name}")
    if behind:
        print(f"{', '.join(behind)}: behind the option table; python -m ossfs.cli.pages writes it")
    return 1 if behind else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
