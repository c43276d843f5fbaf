"""What brings options along besides the command line: a file, a JSON of PAI, a preset, a dialect.

Reading happens here, judging in `validate`. Presets are files of `configs/presets`: in a checkout
beside the package, else where the installed package has put them.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ossfs.config import pai
from ossfs.config.arguments import CONF, DIALECT, MADE_OF, PAI, PRESET, Setting
from ossfs.config.file import ConfigFile, read
from ossfs.config.option import Dialect
from ossfs.runtime.failure import ExitStatus, UserError
from ossfs.runtime.paths import absolute

_PLACES = (
    Path(__file__).resolve().parents[2] / "configs" / "presets",
    Path(sys.prefix) / "share" / "ossfs" / "presets",
)


@dataclass(frozen=True, slots=True)
class Layers:
    """Options by where they come from; the first counts more than the second, and so on."""

    file: ConfigFile | None = None
    pai: ConfigFile | None = None
    preset: ConfigFile | None = None
    dialect: Dialect = Dialect.OSSFS


def gather(settings: Sequence[Setting]) -> Layers:
    """Read what a command line names; UserError with status USAGE where it cannot be."""
    path = named(settings, CONF)
    told = named(settings, PAI)
    preset = named(settings, PRESET)
    dialect = _dialect(named(settings, DIALECT))
    read_told, its_dialect = pai.read(told) if told else (None, None)
    theirs = Dialect.JINDOFUSE in (dialect, its_dialect)
    if dialect is not None and its_dialect is not None and theirs and dialect is not its_dialect:
        raise _refuse(f"dialect={dialect.value} does not go with PAI's {its_dialect.value} options")
    return Layers(
        file=read(absolute(os.path.expanduser(path))) if path else None,
        pai=read_told,
        preset=_preset(preset) if preset else None,
        dialect=dialect or its_dialect or Dialect.OSSFS,
    )


def presets() -> list[str]:
    """Return the names of all presets."""
    return sorted({path.stem for place in _PLACES for path in place.glob("*.conf")})


def _preset(name: str) -> ConfigFile:
    known = presets()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise _refuse(f"unknown preset; {hint}")
    path = next(place / f"{name}.conf" for place in _PLACES if (place / f"{name}.conf").exists())
    return read(str(path), label=f"preset {name}")


def _dialect(name: str) -> Dialect | None:
    if not name:
        return None
    known = {dialect.value: dialect for dialect in Dialect}
    if name not in known:
        raise _refuse(f"unknown dialect; there are {', '.join(known)}")
    return known[name]


def named(settings: Sequence[Setting], name: str) -> str:
    """Return what the command line says, "" for nothing; UserError when it says two things."""
    assert name in MADE_OF
    said = {setting.value or "" for setting in settings if setting.name == name}
    if not said:
        return ""
    if len(said) > 1:
        if name == CONF:
            raise _refuse("one configuration file a mount: conf is given twice")
        raise _refuse(f"{name} is given twice")
    (value,) = said
    if not value:
        raise _refuse(f"{name} needs a value" + (": -c FILE" if name == CONF else ""))
    return value


def _refuse(message: str) -> UserError:
    return UserError(message, ExitStatus.USAGE)
