"""What a shell may put where an option is being typed: names, and values where they are few."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ossfs.config.arguments import DIALECT, PRESET
from ossfs.config.layers import presets
from ossfs.config.option import Dialect, Option
from ossfs.config.table import BY_NAME, TABLE
from ossfs.config.values import Kind

_SWITCHES = {
    "-o": "options in a list",
    "-c": "take options from a file",
    "-f": "serve in the foreground",
    "-d": "serve in the foreground and log more",
    "-h": "show the help",
}
_PATHS = {Kind.PATH: "file", Kind.LOG: "dir"}


def completions(words: Sequence[str], incomplete: str) -> Iterator[tuple[str, str, str]]:
    """Yield text, what it is (plain, file or dir) and a word on it, for what is being typed.

    `words` are those before it.
    """
    before = words[-1] if words else ""
    if before == "-c" or (incomplete.startswith("-c") and not incomplete.startswith("--")):
        yield incomplete, "file", ""
    elif before in ("--preset", "--dialect"):
        yield from _values(before[2:], "", incomplete)
    elif before == "-o":
        done, comma, item = incomplete.rpartition(",")
        yield from _option(done + comma, item)
    elif incomplete.startswith("--"):
        yield from _option("--", incomplete[2:])
    elif incomplete.startswith("-o"):
        done, comma, item = incomplete[2:].rpartition(",")
        yield from _option("-o" + done + comma, item)
    elif incomplete.startswith("-"):
        for switch, told in _SWITCHES.items():
            yield switch, "plain", told
    else:
        yield incomplete, "dir", ""


def _option(head: str, item: str) -> Iterator[tuple[str, str, str]]:
    name, equals, value = item.partition("=")
    if equals:
        yield from _values(name, f"{head}{name}=", value)
        return
    for option in TABLE:
        if option.effective and option.name.startswith(item):
            yield head + option.name + _tail(option), "plain", option.help
    for word in ("conf", "pai", PRESET, DIALECT):
        if word.startswith(item):
            yield f"{head}{word}=", "plain", "brings options along"


def _tail(option: Option) -> str:
    return "" if option.kind is Kind.FLAG else "="


def _values(name: str, head: str, value: str) -> Iterator[tuple[str, str, str]]:
    option = BY_NAME.get(name)
    legal: Sequence[str] = ()
    if name == PRESET:
        legal = presets()
    elif name == DIALECT:
        legal = [dialect.value for dialect in Dialect]
    elif option is not None and option.kind is Kind.FLAG:
        legal = ("true", "false")
    elif option is not None:
        legal = option.choices
        if option.kind in _PATHS:
            yield value, _PATHS[option.kind], ""
    for word in legal:
        if word.startswith(value):
            yield head + word, "plain", ""
