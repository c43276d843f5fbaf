"""What a serving process needs to judge its mount's options once more: see SIGHUP.

The command line and environment of `ossfs mount` are gone by then, for they may hold secrets. What
is kept of them holds no secret of keys, and names files by absolute paths, since the serving
process has another working directory. A proxy's password stays, which the mount needs all along.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ossfs.config import layers
from ossfs.config.arguments import CONF, MADE_OF, PAI, Arguments, Setting
from ossfs.config.file import ConfigFile
from ossfs.config.option import Group
from ossfs.config.options import MountOptions
from ossfs.config.pai import ARGUMENTS, split_arguments
from ossfs.config.table import BY_NAME, TABLE, spelled
from ossfs.config.validate import Host, resolve
from ossfs.config.values import Kind
from ossfs.credentials import KeySettings, sources
from ossfs.runtime.failure import UserError
from ossfs.runtime.logs import SYSLOG
from ossfs.runtime.paths import absolute

_PATHS = (Kind.PATH, Kind.LOG)


@dataclass(frozen=True, slots=True)
class Again:
    """The words of a mount, without secrets."""

    positional: tuple[str, ...]
    settings: tuple[tuple[str, str | None], ...]
    environ: Mapping[str, str]
    foreground: bool
    directory: str
    """Relative paths in files are meant from there."""
    keyed: bool
    """The keys are named by a file that is read again."""

    @staticmethod
    def of(asked: Arguments, environ: Mapping[str, str], mountpoint: str, *, keyed: bool) -> Again:
        """Keep what may be kept."""
        kept = {option.environment for option in TABLE if option.group is not Group.CREDENTIALS}
        kept |= sources.ID_NAMES  # whose secret may be in a file
        return Again(
            positional=(*asked.positional[:-1], mountpoint),
            settings=tuple(
                _kept(setting)
                for setting in asked.settings
                if not _secret(setting) and _known(setting)
            ),
            environ={name: environ[name] for name in sorted(kept) if environ.get(name)},
            foreground=asked.foreground,
            directory=_here(),
            keyed=keyed,
        )

    @property
    def reads(self) -> bool:
        """There is something to read again."""
        return any(name in (CONF, PAI) for name, _ in self.settings)

    def read(self) -> tuple[MountOptions, KeySettings | None]:
        """Return the options as they are now, and the keys if a file names them.

        UserError where they cannot be.
        """
        settings = tuple(Setting(name, value) for name, value in self.settings)
        asked = Arguments(self.positional, settings, self.foreground)
        gathered = layers.gather(settings)
        gathered = replace(
            gathered, file=self._placed(gathered.file), pai=self._placed(gathered.pai)
        )
        found = resolve(asked, self.environ, Host.here(), gathered)
        return found.options, found.keys if self.keyed else None

    def _placed(self, file: ConfigFile | None) -> ConfigFile | None:
        """Return a file's settings with paths as they were meant when the mount began."""
        if file is None:
            return None
        return replace(file, settings=tuple(map(self._absolute, file.settings)))

    def _absolute(self, setting: Setting) -> Setting:
        option, value = BY_NAME.get(spelled(setting.name)), setting.value
        if not value or option is None or option.kind not in _PATHS or value == SYSLOG:
            return setting
        return replace(setting, value=os.path.join(self.directory, os.path.expanduser(value)))


def _here() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"  # gone, so no path was relative to it


def _secret(setting: Setting) -> bool:
    option = BY_NAME.get(spelled(setting.name))
    return (
        option is not None
        and option.group is Group.CREDENTIALS
        and option.name != "oss_access_key_id"  # no secret, and the secret may be in a file
        and option.kind in (Kind.TEXT, Kind.PATH)
    )


def _known(setting: Setting) -> bool:
    """Leave out what ossfs2's dialect ignores, for it may be anything."""
    name = spelled(setting.name)
    return setting.value is None or name in BY_NAME or name in MADE_OF or name == "uri"


def _without_secrets(told: str) -> str:
    """Return a JSON of PAI, judged already, with empty keys: that they are there counts."""

    def kept(name: str, value: Any) -> Any:
        return "" if value is not None and _secret(Setting(name, None)) else value

    fields = {name: kept(name, value) for name, value in json.loads(told).items()}
    for name in ARGUMENTS:
        if name in fields:
            pairs = [
                (option, kept(option, value)) for option, value in split_arguments(fields[name])
            ]
            fields[name] = ", ".join(
                f"-o{option}" if value is None else f"-o{option}={value}" for option, value in pairs
            )
    return json.dumps(fields)


def _kept(setting: Setting) -> tuple[str, str | None]:
    name, value = setting.name, setting.value
    if value is None:
        return name, None
    option = BY_NAME.get(spelled(name))
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
