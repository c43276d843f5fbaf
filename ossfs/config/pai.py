"""The JSON in which PAI's DLC and DSW name mount options, as its pages publish it.

    {"mountType": "ossfs", "fs.ossfs.args": "-oattr_timeout=3, -onegative_timeout=0"}
    {"fs.jindo.args": "-oattr_timeout=0-oentry_timeout=0-onegative_timeout=0", "fs.oss...": "32"}

The options of one string have commas, blanks or nothing between them. `fs.oss.*` keys stand beside
it. The pod's memory limit is ours to keep to; the tag of its image has no effect.
"""

from __future__ import annotations

import json
import re

from ossfs.config import derive
from ossfs.config.arguments import CONF, MADE_OF, Setting
from ossfs.config.file import ConfigFile
from ossfs.config.option import Dialect
from ossfs.config.table import BY_NAME, FOREIGN_KEYS
from ossfs.config.values import read_size
from ossfs.runtime.failure import ExitStatus, UserError
from ossfs.runtime.textfile import read_text

_ARGS = {"fs.ossfs.args": Dialect.OSSFS, "fs.jindo.args": Dialect.JINDOFUSE}
_MEMORY = "fs.jindo.fuse.pod.mem.limit"
_TYPES = {
    "ossfs": Dialect.OSSFS,
    "jindo": Dialect.JINDOFUSE,
    "jindofuse": Dialect.JINDOFUSE,
    "oss": Dialect.JINDOFUSE,
}
_BETWEEN = re.compile(r"(?:^|[,\s]+)-o\s*")
_GLUED = re.compile(
    "-o(?=(?:" + "|".join(sorted(map(re.escape, BY_NAME), key=len, reverse=True)) + r")(?:=|-o|$))"
)
"""Where an option begins that nothing separates from the one before: only a known name tells."""


def read(told: str) -> tuple[ConfigFile, Dialect]:
    """Return the settings of a JSON, or of the file that `told` names, and their dialect."""
    path = ""
    if not told.lstrip().startswith("{"):
        path = told
        try:
            told = read_text(path)
        except ValueError as reason:
            raise _refused(f"{path}: {reason}") from None
    where = path or "PAI"
    try:
        fields = json.loads(told)
    except ValueError:
        raise _refused(f"{path or 'what is given'} is no JSON") from None
    if not isinstance(fields, dict):
        raise _refused(f"{path or 'what is given'} is no JSON object")
    return _settings(fields, where)


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


def _settings(fields: dict[str, object], where: str) -> tuple[ConfigFile, Dialect]:
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
        if key in _ARGS:
            if dialect not in (None, _ARGS[key]):
                raise _refused(f"{key} does not go with the other program's options")
            dialect = _ARGS[key]
            try:
                pairs = split_arguments(text)
            except ValueError as reason:
                raise _refused(f"{key}: {reason}") from None
            for name, said in pairs:
                if name in MADE_OF:
                    raise _refused(f"{key} names another {name}, which is not read")
                settings.append(Setting(name, said, place))
        elif key == _MEMORY:
            settings.append(Setting("total_mem_limit", _memory(text), place))
        elif key.startswith(("fs.oss.", *FOREIGN_KEYS)):
            settings.append(Setting(key, text, place))
        elif key != "mountType":
            raise _refused(
                f"unknown key {key!r}; there are mountType, {', '.join(_ARGS)}, fs.oss.*"
            )
    if dialect is None:
        dialect = Dialect.JINDOFUSE if settings else Dialect.OSSFS
    assert CONF not in {setting.name for setting in settings}
    return ConfigFile(where, tuple(settings), shared=False), dialect


def _memory(text: str) -> str:
    try:
        limit = read_size(text)
    except ValueError:
        raise _refused(f"{_MEMORY}={text} is no size such as 10Gi") from None
    return str(derive.pod_memory(limit))


def _refused(reason: str) -> UserError:
    return UserError(f"pai: {reason}", ExitStatus.USAGE)
