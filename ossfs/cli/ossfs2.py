"""`ossfs2` as its users type it, turned into `ossfs`.

    ossfs2 mount MOUNTPOINT [-c FILE] [--NAME=VALUE | --NAME VALUE | --noFLAG]...
    ossfs2 BUCKET MOUNTPOINT -o NAME=VALUE,...        as mount(8) and /etc/fstab call it
    ossfs2 stats MOUNTPOINT
    ossfs2 --version

Options are gflags': one or two dashes, a value behind `=` or as the next word, `--noNAME` for a
flag's false. Unknown ones bring a warning, as ossfs2 ignores them. Started by `cmd/ossfs2`.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Sequence

import click

from ossfs import __version__
from ossfs.cli import helper
from ossfs.cli.main import run_as
from ossfs.config.option import Option
from ossfs.config.table import BY_NAME, spelled
from ossfs.config.values import Kind
from ossfs.runtime.failure import ExitStatus, UserError

_USAGE = "usage: ossfs2 mount MOUNTPOINT [-c FILE] [--NAME=VALUE]..."
_DIALECT = "--dialect=ossfs2"


def translated(words: Sequence[str]) -> list[str]:
    """Return the words for `ossfs`; UserError with status USAGE for what ossfs2 never takes."""
    if not words:
        raise _refuse(_USAGE)
    first = words[0]
    if first in ("-h", "--help", "-help"):
        return ["mount", "--help"]
    if first == "mount":
        return ["mount", _DIALECT, *_gflags(words[1:])]
    if first == "stats":
        # Its own grammar is `stats show -p PID [-l] [-i SEC]`.
        return ["stats", *(word for word in words[1:] if word not in ("show", "-l"))]
    if not first.startswith("-") and "-o" in words[2:]:
        mounted = helper.translated(words)
        return [mounted[0], _DIALECT, *mounted[1:]]
    raise _refuse(_USAGE)


def _gflags(words: Sequence[str]) -> list[str]:
    """Return a mount's words with each option as --NAME=VALUE."""
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            found += [word, *rest]
        elif word in ("-h", "--help", "-help"):
            return ["--help"]
        elif word in ("-c", "-conf", "--conf"):
            found.append(f"--conf={_next(rest, word)}")
        elif word == "-o":
            found += ["-o", _next(rest, word)]
        elif word in ("-f", "-d") or not word.startswith("-") or word == "-":
            found.append(word)
        else:
            found.append(_option(word.lstrip("-"), rest))
    return found


def _option(text: str, rest: Iterator[str]) -> str:
    name, equals, _ = text.partition("=")
    option = _known(name)
    if equals:
        return f"--{text}"
    if option is None and name.startswith("no"):
        flag = _known(name[2:])
        if flag is not None and flag.kind is Kind.FLAG:
            return f"--{name[2:]}=false"
    # An unknown name is never a reason to swallow the mount point behind it.
    if option is None or option.kind is Kind.FLAG:
        return f"--{name}"
    return f"--{name}={_next(rest, f'--{name}')}"


def _known(name: str) -> Option | None:
    return BY_NAME.get(spelled(name))


def _next(rest: Iterator[str], word: str) -> str:
    for following in rest:
        return following
    raise _refuse(f"{word} needs a value")


def _refuse(message: str) -> UserError:
    return UserError(message, ExitStatus.USAGE)


def main(words: Sequence[str]) -> None:
    """Do what `ossfs2` was asked for, and leave the process with a documented status."""
    if words and words[0] in ("-v", "--version", "-version"):
        # Three lines, as scripts expect them; the program behind the name is told in the first.
        click.echo(f"Version ID: {__version__} (ossfs)")
        click.echo("Commit ID: none")
        click.echo(f"Build Time: none (Python {platform.python_version()})")
        return
    run_as(translated, words)


if __name__ == "__main__":
    main(sys.argv[1:])
