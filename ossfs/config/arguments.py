"""The words of `ossfs mount`, taken apart but not yet judged.

    ossfs mount oss://BUCKET[/PREFIX] MOUNTPOINT -o a=b,c -fo d --name=value -c FILE

Grammar only: which options exist is the table's business and what they may hold is
`validate`'s. `-o` lists split at commas; a backslash keeps the character after it, so a value
may hold a comma as `\\,`. The same option given twice: the last one counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ossfs.runtime.failure import ExitStatus, UserError

CONF = "conf"
"""Names the configuration file; no option of the table."""
PAI = "pai"
"""Names a JSON of PAI, or holds it."""
PRESET = "preset"
"""Names a preset."""
DIALECT = "dialect"
"""Names the program whose names and defaults count."""
MADE_OF = (CONF, PAI, PRESET, DIALECT)
"""Words that bring options along, and are none."""


_SHOWN = {CONF: "FILE", PAI: "FILE or JSON", PRESET: "NAME", DIALECT: "NAME"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One option as typed; a bare name has no value."""

    name: str
    value: str | None
    place: str = ""
    """Where it stands in a file; empty for the command line."""
    written: str = ""
    """The name as it was written, where that is another program's."""

    def __repr__(self) -> str:
        return f"Setting({self.name!r})"  # the value may be a secret


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the command line said."""

    positional: tuple[str, ...]
    settings: tuple[Setting, ...]
    foreground: bool = False
    help: bool = False


def split_list(text: str) -> list[Setting]:
    """Split an `-o` list into its settings; empty items, as in `a,,b`, are dropped."""
    items: list[str] = [""]
    letters = iter(text)
    for letter in letters:
        if letter == "\\":
            items[-1] += next(letters, "\\")
        elif letter == ",":
            items.append("")
        else:
            items[-1] += letter
    return [_setting(item) for item in items if item]


def quote(text: str) -> str:
    """Write a value so that `split_list` finds it whole."""
    return text.replace("\\", "\\\\").replace(",", "\\,")


def scan(words: Sequence[str]) -> Arguments:
    """Take the words after `ossfs mount` apart; UserError for what is no word at all."""
    positional: list[str] = []
    settings: list[Setting] = []
    foreground = wants_help = False
    rest = iter(words)
    for word in rest:
        if word == "--":
            positional.extend(rest)
        elif word == "--help":
            wants_help = True
        elif word == "--foreground":
            foreground = True
        elif word.startswith("--") and word[2:] in MADE_OF:
            name = word[2:]
            settings.append(
                Setting(name, _next(rest, f"{word} needs a value: {word} {_SHOWN[name]}"))
            )
        elif word.startswith("--"):
            settings.append(_setting(word[2:]))
        elif word.startswith("-c"):
            settings.append(Setting(CONF, word[2:] or _next(rest, "-c needs a value: -c FILE")))
        elif word.startswith("-") and len(word) > 1:
            switches, has_list, items = word[1:].partition("o")
            for switch in switches:
                if switch not in "dfh":
                    raise UserError(
                        f"unknown switch -{switch}; there are -d, -f, -h, -c FILE and "
                        "-o NAME=VALUE",
                        ExitStatus.USAGE,
                    )
            foreground = foreground or "f" in switches
            if "d" in switches:
                settings.append(Setting("d", None))
            wants_help = wants_help or "h" in switches
            if has_list:
                settings.extend(
                    split_list(items or _next(rest, "-o needs a value: -o NAME=VALUE,..."))
                )
        else:
            positional.append(word)
    return Arguments(tuple(positional), tuple(settings), foreground, wants_help)


def _next(rest: Iterator[str], otherwise: str) -> str:
    for word in rest:
        return word
    raise UserError(otherwise, ExitStatus.USAGE)


def _setting(text: str) -> Setting:
    name, equals, value = text.partition("=")
    return Setting(name.strip(), value if equals else None)
