"""What a serving process needs to judge its mount's options once more: see SIGHUP.

The command line and environment of `ossfs mount` are gone by then, for they may hold secrets. What
is kept of them holds none, and names files by absolute paths, since the serving process has another
working directory. Keys are fetched from their source in any case.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from ossfs.config import layers
from ossfs.config.arguments import CONF, MADE_OF, PAI, Arguments, Setting
from ossfs.config.option import Group
from ossfs.config.options import MountOptions
from ossfs.config.table import BY_NAME, TABLE
from ossfs.config.validate import Host, resolve
from ossfs.config.values import Kind
from ossfs.runtime.failure import UserError
from ossfs.runtime.paths import absolute

_PATHS = (Kind.PATH, Kind.LOG)


@dataclass(frozen=True, slots=True)
class Again:
    """The words of a mount, without secrets."""

    positional: tuple[str, ...]
    settings: tuple[tuple[str, str | None], ...]
    environ: Mapping[str, str]
    foreground: bool

    @staticmethod
    def of(asked: Arguments, environ: Mapping[str, str], mountpoint: str) -> Again:
        """Keep what may be kept."""
        kept = {option.environment for option in TABLE if option.group is not Group.CREDENTIALS}
        return Again(
            positional=(*asked.positional[:-1], mountpoint),
            settings=tuple(_kept(setting) for setting in asked.settings if not _secret(setting)),
            environ={name: environ[name] for name in sorted(kept) if environ.get(name)},
            foreground=asked.foreground,
        )

    @property
    def reads(self) -> bool:
        """There is something to read again."""
        return any(name in (CONF, PAI) for name, _ in self.settings)

    def options(self) -> MountOptions:
        """Return the options as they are now; UserError where they cannot be."""
        settings = tuple(Setting(name, value) for name, value in self.settings)
        asked = Arguments(self.positional, settings, self.foreground)
        return resolve(asked, self.environ, Host.here(), layers.gather(settings)).options


def _secret(setting: Setting) -> bool:
    option = BY_NAME.get(setting.name.replace("-", "_")) or BY_NAME.get(setting.name)
    return (
        option is not None
        and option.group is Group.CREDENTIALS
        and option.kind in (Kind.TEXT, Kind.PATH)
    )


def _without_secrets(told: str) -> str:
    """Return a JSON of PAI, judged already, without its keys."""
    fields = json.loads(told)
    return json.dumps(
        {name: value for name, value in fields.items() if not _secret(Setting(name, None))}
    )


def _kept(setting: Setting) -> tuple[str, str | None]:
    name, value = setting.name, setting.value
    if value is None:
        return name, None
    option = BY_NAME.get(name)
    if name in MADE_OF:
        if name == PAI and value.lstrip().startswith("{"):
            value = _without_secrets(value)
        elif name in (CONF, PAI):
            value = absolute(os.path.expanduser(value))
    elif option is not None and option.kind in _PATHS:
        try:
            value = str(option.read(value))
        except ValueError as error:  # judged already
            raise UserError(str(error)) from None
    return name, value
