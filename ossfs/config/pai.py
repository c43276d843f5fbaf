"""The JSON in which PAI's DLC and DSW name mount options, as its pages publish it.

    {"mountType": "ossfs", "fs.ossfs.args": "-oattr_timeout=3, -onegative_timeout=0"}
    {"fs.jindo.args": "-oattr_timeout=0-oentry_timeout=0-onegative_timeout=0", "fs.oss...": "32"}

The options of one string have commas, blanks or nothing between them. `fs.oss.*` keys stand beside
it. The pod's memory limit is ours to keep to; the tag of its image has no effect.
"""

from __future__ import annotations

import json
import os
import re

from ossfs.config import derive
from ossfs.config.arguments import MADE_OF, Setting
from ossfs.config.file import ConfigFile
from ossfs.config.option import Dialect
from ossfs.config.table import BY_NAME, FOREIGN_KEYS, IGNORED_WORDS, KERNEL_WORDS, OPPOSITES
from ossfs.config.values import read_size
from ossfs.runtime.failure import ExitStatus, UserError
from ossfs.runtime.paths import absolute
from ossfs.runtime.textfile import read_shared_text

INLINE = "the JSON of PAI on the command line"
ARGUMENTS = {"fs.ossfs.args": Dialect.OSSFS, "fs.jindo.args": Dialect.JINDOFUSE}
_MEMORY = "fs.jindo.fuse.pod.mem.limit"
_TYPES = {
    "ossfs": Dialect.OSSFS,
    "jindo": Dialect.JINDOFUSE,
    "jindofuse": Dialect.JINDOFUSE,
    "oss": Dialect.JINDOFUSE,
}
_BETWEEN = re.compile(r"(?:^|[,\s]+)-o\s*")
_WORDS = {*BY_NAME, *IGNORED_WORDS, *KERNEL_WORDS, *OPPOSITES, "rw", "uri"}
_WORDS -= {"f", "d"}  # bucket-od is a name
_KNOWN = "(?:" + "|".join(sorted(map(re.escape, _WORDS), key=len, reverse=True)) + ")"
_GLUED = re.compile(rf"-o(?={_KNOWN}(?:=|-o|,|$))|,(?={_KNOWN}(?:=|,|-o|$))")
"""Where an option begins that no -o of its own, or nothing at all, separates from the one before:
only a known name tells."""


def read(told: str) -> tuple[ConfigFile, Dialect]:
    """Return the settings of a JSON, or of the file that `told` names, and their dialect."""
    path, shared = "", True
    if not told.lstrip().startswith("{"):
        path = absolute(os.path.expanduser(told))
        try:
            told, shared = read_shared_text(path)
        except ValueError as reason:
            raise _refused(f"{path}: {reason}") from None
    where = path or INLINE
    try:
        fields = json.loads(told)
    except (ValueError, RecursionError):
        raise _refused(f"{path or 'what is given'} is no JSON") from None
    if not isinstance(fields, dict):
        raise _refused(f"{path or 'what is given'} is no JSON object")
    settings, dialect = _settings(fields, where if path else "PAI")
    return ConfigFile(where, settings, shared), dialect


def split_arguments(text: str) -> list[tuple[str, str | None]]:
    """Split `-oNAME=VALUE` options with commas, blanks or nothing between them."""
    text = text.strip().strip(",").strip()
    if text and not text.startswith("-o"):
        raise ValueError("it does not begin with -o")
    found: list[tuple[str, str | None]] = []
    for piece in _BETWEEN.split(text):
        for item in _GLUED.split(piece):
            item = item.strip().strip(",").strip()
            if item:
                name, equals, value = item.partition("=")
                found.append((name.strip(), value.strip() if equals else None))
    return found


def _settings(fields: dict[str, object], where: str) -> tuple[tuple[Setting, ...], Dialect]:
    dialect: Dialect | None = None
    settings: list[Setting] = []
    named = str(fields.get("mountType", "")).lower()
    if named:
        if named not in _TYPES:
            raise _refused(f"mountType {named} is not served; legal: ossfs, jindo")
        dialect = _TYPES[named]
    for key, value in fields.items():
        place = f"{where} {key}"
        text = json.dumps(value) if isinstance(value, bool | int | float) else value
        if not isinstance(text, str):
            raise _refused(f"{key} is no text")
        if key in ARGUMENTS:
            if dialect not in (None, ARGUMENTS[key]):
                raise _refused(f"{key} does not go with the other program's options")
            dialect = ARGUMENTS[key]
            try:
                pairs = split_arguments(text)
            except ValueError as reason:
                raise _refused(f"{key}: {reason}") from None
            for name, said in pairs:
                if name in MADE_OF:
                    raise _refused(f"{key} names another {name}, which is not read")
                settings.append(Setting(name, said, place))
        elif key == _MEMORY:
            # First, for a key of its own counts more than the pod's limit.
            settings.insert(0, Setting("total_mem_limit", _memory(text), place))
        elif key.startswith(("fs.oss.", *FOREIGN_KEYS)):
            settings.append(Setting(key, text, place))
        elif key != "mountType":
            raise _refused(
                f"unknown key {key!r}; there are mountType, {', '.join(ARGUMENTS)}, fs.oss.*"
            )
    if dialect is None:
        dialect = Dialect.JINDOFUSE if settings else Dialect.OSSFS
    return tuple(settings), dialect


def _memory(text: str) -> str:
    try:
        limit = read_size(text)
    except ValueError:
        raise _refused(f"{_MEMORY}={text} is no size such as 10Gi") from None
    return str(derive.pod_memory(limit))


def _refused(reason: str) -> UserError:
    return UserError(f"pai: {reason}", ExitStatus.USAGE)
