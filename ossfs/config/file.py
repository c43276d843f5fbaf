"""Configuration files: ossfs 2.0's lines `--name=value`, and those of jindosdk.cfg.

    # one option a line; the dashes may be left out, a flag's bare name means true
    --oss_endpoint=https://oss-cn-hangzhou-internal.aliyuncs.com
    --ro

Blanks around names and values are dropped; headings in brackets, as INI files have them, change
nothing. One file a mount, named by `-c FILE`, `--conf=FILE` or `-o conf=FILE`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ossfs.config.arguments import MADE_OF, Setting
from ossfs.runtime.failure import ExitStatus, UserError
from ossfs.runtime.textfile import read_shared_text


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a file says."""

    path: str
    settings: tuple[Setting, ...]
    shared: bool
    """Others than its owner may read it."""


def read(path: str, label: str = "") -> ConfigFile:
    """Read a file; UserError with status USAGE when it is none.

    Its settings stand at a line of `path`, or at `label`.
    """
    try:
        text, shared = read_shared_text(path)
    except ValueError as reason:
        raise _refused(path, str(reason)) from None
    return ConfigFile(path, parse(path, text, label), shared)


def parse(path: str, text: str, label: str = "") -> tuple[Setting, ...]:
    """Return the settings of a file's text, each with the place it stands at."""
    settings = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.strip()
        if not words or words.startswith(("#", ";", "[")):
            continue
        name, equals, value = words.removeprefix("--").partition("=")
        place = label or f"{path} line {number}"
        setting = Setting(name.strip(), value.strip() if equals else None, place)
        if setting.name in MADE_OF:
            raise _refused(path, f"line {number} names another one, which is not read")
        settings.append(setting)
    return tuple(settings)


def _refused(path: str, reason: str) -> UserError:
    return UserError(f"configuration file {path}: {reason}", ExitStatus.USAGE)
