"""The option table as people read it: the help of `ossfs mount` and docs/OPTIONS.md.

`python -m ossfs.config.docs` writes docs/OPTIONS.md of the checkout it runs in; with `--check` it
only compares, as a test does, so the page can never be behind.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ossfs.config.layers import presets
from ossfs.config.option import PROGRAMS, Dialect, Group, Option, Stability
from ossfs.config.options import MountOptions
from ossfs.config.table import (
    DEFAULTS,
    FOREIGN_KEYS,
    IGNORED_WORDS,
    KERNEL_WORDS,
    OPPOSITES,
    TABLE,
    TARGETS,
)
from ossfs.config.values import Kind, show_size

_USAGE = """\
Usage: ossfs mount oss://BUCKET[/PREFIX] MOUNTPOINT [-f] [-o NAME=VALUE,...] [--NAME=VALUE]...

  Mount a bucket as a directory; s3://BUCKET[/PREFIX] is one of an S3-compatible store. Returns
  when the mount can be used; the serving process goes on in the background until
  `ossfs umount MOUNTPOINT`.

  -o NAME=VALUE,...   Options below, separated by commas; \\, is a comma inside a value. Words of
                      mount(8) such as _netdev, nofail or noexec are understood.
  --NAME=VALUE        The same option on its own. A flag's bare name means true.
  -c, --conf=FILE     Take options from a file too, a line --NAME=VALUE each; the command line and
                      the environment win over it.
  --preset=NAME       Take options for a purpose: {presets}.
  --pai=FILE|JSON     Take options from the JSON of PAI's DLC and DSW.
  --dialect=NAME      Take names and defaults as a program does: {dialects}.
  -f, --foreground    Serve in this process and log to stderr; -d logs more besides.
  -h, --help          Show this page.
"""

_PAGE = """\
# Options of `ossfs mount`

<!-- Generated from ossfs/config/table.py by `python -m ossfs.config.docs`. Do not edit. -->

`ossfs mount oss://BUCKET[/PREFIX] MOUNTPOINT -o NAME=VALUE,NAME=VALUE` or `--NAME=VALUE`. An option
given twice counts as given last. An unknown option or an illegal value ends the command with
status 2 and one line that names it and what is legal.

* Flags: the bare name is `true`; `true`, `false`, `yes`, `no`, `on`, `off`, `1`, `0` are legal.
* Sizes: bytes, or with K, M, G, T, P, all 1024-based; `8M`, `8MB` and `8MiB` are the same.
* Modes: one to four octal digits; `22` is `0022`.
* A comma inside a value of `-o` is written `\\,`.
* `-c FILE`, `--preset=NAME`, `--pai=FILE|JSON` and `--dialect=NAME` bring options along: the
  command line counts more than the environment, this more than a file, then come PAI's JSON, a
  preset, the dialect's own defaults and those below. They may stand in an `-o` list too
  (`preset=read-only`).
* The file has an option a line, `--NAME=VALUE` or `NAME=VALUE`; blanks around both are dropped,
  lines that begin with `#` or `;` and headings in brackets change nothing.

`ossfs check` takes the same words and the same file, mounts nothing and shows every option with its
value and where that comes from.
"""


def mount_help() -> str:
    """Return the help of `ossfs mount`, options under their headings."""
    names = {
        "presets": ", ".join(presets()),
        "dialects": ", ".join(dialect.value for dialect in Dialect),
    }
    lines = [_folded(_USAGE.format(**names))]
    for group, options in groups():
        lines.append(f"{group.value}:")
        for option in options:
            lines.append(f"  {spelling(option)}")
            lines.extend(
                textwrap.wrap(
                    sentence(option), 92, initial_indent=" " * 6, subsequent_indent=" " * 6
                )
            )
        lines.append("")
    return "\n".join(lines).rstrip()


def markdown() -> str:
    """Return the text of docs/OPTIONS.md."""
    lines = [_PAGE]
    for group, options in groups():
        lines += [f"## {group.value}", "", "| option | default | legal | meaning |"]
        lines += ["|---|---|---|---|", *(_row(option) for option in options), ""]
    lines += [
        "## Words of mount(8)",
        "",
        "`rw` is `ro=false`. Handed to the kernel: " + _words(KERNEL_WORDS) + ",",
        "unless taken back later on the line by "
        + ", ".join(f"`{word}` (of `{taken}`)" for word, taken in OPPOSITES.items())
        + ".",
        "Accepted without effect, for fstab: " + _words(IGNORED_WORDS) + ", `comment=...` and",
        "`x-...`. A mount is always `nosuid`, `nodev` and `default_permissions`.",
        "",
        "## Names other programs use",
        "",
        "All of them are understood anywhere. ossfs 2.0's names are those above.",
        "",
        "| here | " + " | ".join(PROGRAMS[dialect] for dialect in _NAMED) + " |",
        "|---|" + "---|" * len(_NAMED),
    ]
    for option in TABLE:
        if option.names:
            names = (_words(option.names.get(dialect, ())) for dialect in _NAMED)
            lines.append(_cells(f"`{option.name}`", *names))
    lines += ["", *_dialects()]
    for stability, heading in _WITHOUT_EFFECT.items():
        lines += ["", *heading, "", "| option | of | default | legal | reason |"]
        lines += ["|---|---|---|---|---|"]
        for option in TABLE:
            if option.stability is stability and option.of is not None:
                program, default = PROGRAMS[option.of], option.shown_default
                lines.append(
                    _cells(f"`{option.name}`", program, default, option.legal, option.help)
                )
    return "\n".join(lines) + "\n"


_FOREIGN = ", ".join(f"`{start}*`" for start in FOREIGN_KEYS)
_NAMED = (Dialect.OSSFS1, Dialect.JINDOFUSE)
_WITHOUT_EFFECT = {
    Stability.IGNORED: (
        "## Accepted without effect",
        "",
        "A value that other programs take is taken; a line says why it changes nothing. Keys of",
        "jindosdk.cfg that are not about OSS (" + _FOREIGN + ") likewise.",
    ),
    Stability.LATER: (
        "## Not served",
        "",
        "Accepted with their defaults; refused with any other value, for that would be missed.",
    ),
}


def _dialects() -> list[str]:
    """Return what a dialect changes."""
    lines = [
        "## Dialects",
        "",
        "The launchers `ossfs2` and `jindo-fuse` choose theirs, and PAI's `fs.jindo.args` mean",
        "JindoFuse's. In `ossfs2`'s an unknown option brings a warning: that program ignores it.",
    ]
    for dialect, defaults in DEFAULTS.items():
        shown = ", ".join(f"`{name}={text}`" for name, text in defaults.items())
        targets = ", ".join(f"`{name}` is `{at}`" for name, at in TARGETS[dialect].items())
        lines += [
            f"In `{dialect.value}`'s {targets}; its defaults are {shown}, and `attr_timeout`",
            "(there `jindo_attr_timeout`) the smaller of 60 and `fuse_attr_timeout`.",
        ]
    return lines


def _folded(text: str) -> str:
    """Break lines that are too long for a terminal."""
    lines = []
    for line in text.split("\n"):
        indent = " " * (22 if line.startswith("  -") else 2)
        lines += textwrap.wrap(line, 100, subsequent_indent=indent, break_on_hyphens=False) or [""]
    return "\n".join(lines)


def effective(options: MountOptions, origins: Mapping[str, str]) -> str:
    """Return all options with their values and where these come from, a line each."""
    lines = [f"mounts {options.source}"]
    if options.kernel_words:
        lines.append(f"words for the kernel: {', '.join(options.kernel_words)}")
    for group, rows in groups():
        lines += ["", f"{group.value}:"]
        for option in rows:
            origin = origins.get(option.name, "")
            if option.group is Group.CREDENTIALS and option.kind in (Kind.TEXT, Kind.PATH):
                value = "(not shown)" if origin else "not set"
            elif option.name == "oss_bucket":
                value = options.bucket
            elif option.name in ("f", "d"):
                value = _shown(option, options.foreground)
            elif option.kind is Kind.PROXY:
                value = "(not shown)" if options.http_proxy else ""
            else:
                value = _shown(option, getattr(options, option.name))
            lines.append(f"  {f'{option.name} = {value}':48}  {origin or 'default'}")
    return "\n".join(lines)


def _shown(option: Option, value: object) -> str:
    match option.kind:
        case Kind.FLAG:
            return "true" if value else "false"
        case Kind.MODE:
            return f"{value:04o}"
        case Kind.SIZE if isinstance(value, int):
            return show_size(value)
        case Kind.SECONDS:
            return f"{value:g}"
        case _:
            return str(value)


def groups() -> Iterator[tuple[Group, list[Option]]]:
    """Yield each heading with its options that do something."""
    for group in Group:
        yield (
            group,
            [option for option in TABLE if option.group is group and option.effective],
        )


_SPANNED = (Kind.INTEGER, Kind.SECONDS, Kind.MILLISECONDS, Kind.SIZE)


def spelling(option: Option) -> str:
    """Return how an option is written."""
    if option.kind is Kind.FLAG:
        return f"{option.name}[={option.kind.value}]"
    if option.kind is Kind.CHOICE:
        return f"{option.name}={'|'.join(option.choices)}"
    return f"{option.name}={option.kind.value}"


def sentence(option: Option) -> str:
    """Return what an option does, with its range and default."""
    parts = [option.help]
    if option.kind in _SPANNED:
        parts.append(f"Legal: {option.legal}.")
    parts.append(f"Default: {option.shown_default}.")
    if option.environment:
        parts.append(f"Environment: {option.environment}.")
    if option.stability is Stability.EXPERIMENTAL:
        parts.append("Experimental.")
    return " ".join(parts)


def _row(option: Option) -> str:
    meaning = option.help + (f" Environment: `{option.environment}`." if option.environment else "")
    if option.stability is Stability.EXPERIMENTAL:
        meaning += " (experimental)"
    return _cells(f"`{option.name}`", option.shown_default, option.legal, meaning)


def _cells(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _words(names: frozenset[str] | tuple[str, ...]) -> str:
    ordered = sorted(names) if isinstance(names, frozenset) else names
    return ", ".join(f"`{name}`" for name in ordered)


def main(words: Sequence[str]) -> int:
    """Write docs/OPTIONS.md beside the package, or tell by the status whether it is current."""
    page = Path(__file__).resolve().parents[2] / "docs" / "OPTIONS.md"
    if "--check" not in words:
        page.write_text(markdown(), encoding="utf-8")
        return 0
    if page.exists() and page.read_text(encoding="utf-8") == markdown():
        return 0
    print("docs/OPTIONS.md is behind the option table: python -m ossfs.config.docs writes it")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
