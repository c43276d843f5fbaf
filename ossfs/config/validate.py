"""From the words of the command line and the environment to the value a mount runs on.

Everything a user can get wrong in an option is refused here, in one line that names the option
and its legal range, before anything is started or connected. Precedence: command line, then
environment, then configuration file, then PAI's JSON, then preset, then the dialect's default, then
ours. Unknown options are refused, never passed on: libfuse answers an unknown one by ending the
mount; only in ossfs 2.0's own dialect, which ignored them, they bring a warning. What may hold a
secret (`ID:SECRET` where no key belongs) is not repeated. Asks the machine nothing but through
`Host`, the working directory apart.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from ossfs.config import derive
from ossfs.config.arguments import MADE_OF, Arguments, Setting
from ossfs.config.layers import Layers
from ossfs.config.option import PROGRAMS, Dialect, Option, Stability
from ossfs.config.options import MountOptions
from ossfs.config.pai import INLINE
from ossfs.config.table import (
    BY_NAME,
    DEFAULTS,
    FOREIGN_KEYS,
    IGNORED_WORDS,
    KERNEL_WORDS,
    OPPOSITES,
    SMALLEST,
    TABLE,
    TARGETS,
    UNITS,
    spelled,
)
from ossfs.config.values import Kind, Value
from ossfs.credentials import KeySettings, process, ram_role
from ossfs.runtime.failure import ExitStatus, UserError
from ossfs.runtime.paths import absolute
from ossfs.store.bucket_name import is_bucket_name, legal_bucket_name

KEY_LIMIT = 1023
"""Bytes of an object key; a prefix needs room for its slash and one more."""

_REGION = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_NAME_OF_OPTION = re.compile(r"[a-z][a-z_.-]{0,39}[0-9]{0,3}")
"""What a mistyped option may look like and still be shown: a key has capitals and digits in it."""
_KEYS_IN_ENDPOINT = re.compile(r"@|:(?!//)(?!\d*(?:/|$))")
"""USER:PASSWORD@, or a port that is no number."""
_HIDDEN = "(not shown: it may hold a secret)"
_NEAR = 0.7
"""How alike a name must be to be meant: use_cache is not use_auth_cache."""
_FUSE_CONF_LINE = 255
"""Bytes, newline included, of the longest line that fusermount3 reads."""
_SCHEMES = ("oss", "s3")
_USAGE = "usage: ossfs mount oss://BUCKET[/PREFIX] MOUNTPOINT -o NAME=VALUE,..."


@dataclass(frozen=True, slots=True)
class Host:
    """What the options' defaults depend on; a value, so that tests choose it."""

    uid: int
    gid: int
    user_allow_other: bool
    """/etc/fuse.conf lets ordinary users mount with allow_other."""

    @staticmethod
    def here(fuse_conf: str = "/etc/fuse.conf") -> Host:
        return Host(os.getuid(), os.getgid(), _allows_other(fuse_conf))


@dataclass(frozen=True, slots=True)
class Resolved:
    """A command line that holds."""

    options: MountOptions
    keys: KeySettings
    notes: tuple[str, ...]
    """Lines the user should see although the mount goes on."""
    origins: Mapping[str, str]
    """Where the value of each option that somebody has set comes from."""


_NOTHING_ELSE = Layers()


class _Sorted:
    """The settings of one place, by the option's own name; UserError for an unknown one."""

    def __init__(self, settings: Iterable[Setting], dialect: Dialect) -> None:
        self.found: dict[str, Setting] = {}
        self.kernel: list[tuple[str, bool]] = []
        """Words for the kernel, and whether they are given or taken back."""
        self.notes: list[str] = []
        self._targets = TARGETS.get(dialect, {})
        self._lenient = dialect is Dialect.OSSFS2
        self._clamps = dialect is Dialect.JINDOFUSE
        self._smallest: dict[str, str] = {}
        for setting in settings:
            if setting.name not in MADE_OF:
                self._take(setting)

    def _take(self, setting: Setting) -> None:
        written, value = spelled(setting.name), setting.value
        name = self._targets.get(written, written)
        option = BY_NAME.get(name)
        if option is not None:
            self._option(option, Setting(written, value, setting.place))
        elif name == "rw":
            self.found["ro"] = Setting("ro", "false", setting.place)
        elif name == "uri":
            self._uri(setting)
        elif name == "remount":
            raise _refuse("remount is not possible; unmount and mount again")
        elif value is None and name in KERNEL_WORDS:
            self.kernel.append((name, True))
        elif value is None and name in OPPOSITES:
            self.kernel.append((OPPOSITES[name], False))
        elif name.startswith(FOREIGN_KEYS):
            self.notes.append(f"{_placed(setting)}{name} has no effect: it is not about OSS")
        elif not _is_ignored(setting.name, value):
            unknown = _placed(setting) + _unknown(setting.name)
            if not self._lenient:
                raise _refuse(unknown)
            self.notes.append(f"warning: {unknown} (ignored, as ossfs2 does)")

    def _option(self, option: Option, setting: Setting) -> None:
        text = _text(option, setting)
        if text.isdigit():
            text += UNITS.get(setting.name, "")
        if setting.name in SMALLEST:
            self._smallest[setting.name] = text
            text = min(self._smallest.values(), key=_number)
        if self._clamps and setting.name.startswith("fs.oss."):
            text = self._clamped(option, setting, text)
        written = setting.name if setting.name != option.name else ""
        self.found[option.name] = Setting(option.name, text, setting.place, written)

    def _clamped(self, option: Option, setting: Setting, text: str) -> str:
        """Return a value that JindoFuse takes and we do not as the nearest that we take."""
        nearest = option.nearest(text)
        if nearest is None:
            return text
        self.notes.append(
            f"{_placed(setting)}{setting.name}={setting.value} is taken for {nearest}; "
            f"legal: {option.legal}"
        )
        return nearest

    def _uri(self, setting: Setting) -> None:
        """Take JindoFuse's oss://BUCKET[.ENDPOINT]/PREFIX apart."""
        scheme, rest = _source(setting.value or "")
        source, endpoint = _without_endpoint(f"{scheme or 'oss'}://{rest}")
        bucket, _, prefix = source.partition("://")[2].partition("/")
        for name, text in (
            ("store", scheme or "oss"),
            ("oss_bucket", bucket),
            ("oss_bucket_prefix", prefix),
            ("oss_endpoint", endpoint),
        ):
            if text:
                self.found[name] = Setting(name, text, setting.place)


class _Said:
    """What has been said about each option, and by whom."""

    def __init__(
        self, settings: Iterable[Setting], environ: Mapping[str, str], layers: Layers
    ) -> None:
        """UserError for an option that does not exist."""
        self._environ = environ
        file = layers.file
        typed = _Sorted(settings, layers.dialect)
        filed = _Sorted(file.settings if file else (), layers.dialect)
        told = _Sorted(layers.pai.settings if layers.pai else (), layers.dialect)
        preset = _Sorted(layers.preset.settings if layers.preset else (), Dialect.OSSFS)
        # A preset knows all kernel time-outs that it sets, so a dialect's do not go under it.
        defaults = DEFAULTS.get(layers.dialect, {}) if layers.preset is None else {}
        usual = _Sorted(
            (
                Setting(name, text, f"default of {PROGRAMS[layers.dialect]}")
                for name, text in defaults.items()
            ),
            Dialect.OSSFS,
        )
        self._typed = typed.found
        self._under = (filed.found, told.found, preset.found, usual.found)
        inline = layers.pai is not None and layers.pai.path == INLINE
        self._read_again = (filed.found,) if inline else (filed.found, told.found)
        words: dict[str, None] = {}
        for word, given in (*preset.kernel, *told.kernel, *filed.kernel, *typed.kernel):
            if given:
                words[word] = None
            else:
                words.pop(word, None)
        self.kernel_words = tuple(words)
        self._notes = [*typed.notes, *filed.notes, *told.notes]
        self._seen = [
            layer.path
            for layer, found in ((file, filed.found), (layers.pai, told.found))
            if layer is not None and layer.shared and _SECRET in found
        ]

    def about(self, option: Option) -> tuple[str, str] | None:
        """Return the text that counts and where it comes from; None if nobody has said anything."""
        typed = self._typed.get(option.name)
        if typed is not None:
            return str(typed.value), "command line"
        told = self._environ.get(option.environment) if option.environment else None
        if told:
            return told, option.environment
        for layer in self._under:
            found = layer.get(option.name)
            if found is not None:
                return str(found.value), found.place
        return None

    def chosen(self, name: str) -> bool:
        """Say whether anybody but a dialect's default has said something about an option."""
        said = self.about(BY_NAME[name])
        return said is not None and not said[1].startswith("default of ")

    def typed(self, name: str) -> str:
        """Return what the command line says; "" where it says nothing."""
        return _in(self._typed, name)

    def pair(self) -> tuple[str, str, str]:
        """Return ID, secret and token; "" for what the environment is to give.

        The secret that counts most brings its ID along, unless the command line has one.
        """
        typed_id = self.typed(_ID)
        if self.typed(_SECRET):
            below = "" if self._environ.get(_ENVIRONMENT_ID) else self._filed_id()
            return typed_id or below, self.typed(_SECRET), self.typed(_TOKEN)
        if self._environ.get(_ENVIRONMENT_SECRET):
            below = "" if self._environ.get(_ENVIRONMENT_ID) else self._filed_id()
            return typed_id or below, "", self.typed(_TOKEN)
        for layer in self._under:
            if _in(layer, _SECRET):
                return typed_id or _in(layer, _ID), _in(layer, _SECRET), _in(layer, _TOKEN)
        return typed_id or self._filed_id(), "", ""

    def keyed_below(self) -> bool:
        """Say whether the keys come from a file of options or from a file of PAI's JSON."""
        if any(self.typed(name) for name in _SOURCES):
            return False
        below = [name for name in _SOURCES if any(_in(layer, name) for layer in self._read_again)]
        return bool(below) and not (
            below == [_SECRET] and bool(self._environ.get(_ENVIRONMENT_SECRET))
        )

    def _filed_id(self) -> str:
        return next((_in(layer, _ID) for layer in self._under if _in(layer, _ID)), "")

    def label(self, name: str) -> str:
        """Name an option, and where its value has come from if that is not the command line."""
        said = self.about(BY_NAME[name])
        if name in self._typed:
            return self._typed[name].written or name
        if said is None:
            return name
        layer = next((layer for layer in self._under if name in layer), {})
        written = layer[name].written if layer and layer[name].place == said[1] else ""
        return f"{written or name} (from {said[1]})"

    def warnings(self) -> tuple[str, ...]:
        """Say where others can read a secret, or could have."""
        found = list(self._notes)
        if self._typed.get(_SECRET):
            found.append(
                "warning: other users could read the secret on the command line; "
                "use passwd_file or OSS_ACCESS_KEY_SECRET"
            )
        found += [
            f"warning: other users could read the secret in {path}; "
            + ("use passwd_file" if path == INLINE else "run chmod 600 on it, or use passwd_file")
            for path in self._seen
        ]
        return tuple(found)


def _in(layer: Mapping[str, Setting], name: str) -> str:
    setting = layer.get(name)
    return "" if setting is None else str(setting.value).strip()


def resolve(
    arguments: Arguments,
    environ: Mapping[str, str],
    host: Host,
    layers: Layers = _NOTHING_ELSE,
) -> Resolved:
    """Judge the command line of a mount; UserError with status USAGE for whatever is wrong."""
    words = arguments.positional
    settings = arguments.settings
    if len(words) == 2:
        source, more = _settled(words[0])
        words, settings = (source, words[1]), (*more, *settings)
    said = _Said(settings, environ, layers)
    values, notes = _values(said)
    store, bucket, prefix, mountpoint = _place(words, values)
    endpoint, region = _endpoint(store, values, said)
    _check_writing(values, mountpoint)
    _check_outside("disk_data_cache_dir", str(values["disk_data_cache_dir"]), mountpoint)
    given = [name for name in ("disk_data_cache_dir", "disk_data_cache_size") if values[name]]
    if len(given) == 1:
        notes.append(f"{given[0]} has no effect: a disk cache takes a directory and a size")
    if layers.dialect is Dialect.JINDOFUSE and not said.chosen("attr_timeout"):
        values["attr_timeout"] = derive.jindo_attr_timeout(float(values["fuse_attr_timeout"]))
    if values["close_to_open"] and not values["sync_upload"] and said.chosen("sync_upload"):
        notes.append("close_to_open turns sync_upload on: close() waits for the upload")
    allow_other = bool(values["allow_other"])
    if allow_other and host.uid != 0 and not host.user_allow_other:
        allow_other = False
        notes.append(
            "allow_other is off: only you will see the mount, "
            "until /etc/fuse.conf has the line user_allow_other"
        )
    keys = _keys(values, said)
    fields: dict[str, Any] = {
        name: value for name, value in values.items() if name not in _NOT_FIELDS
    }
    fields |= {
        "store": store,
        "oss_bucket_prefix": prefix,
        "oss_endpoint": endpoint,
        "oss_region": region,
        "path_style": _path_style(store, endpoint, values),
        "upload_concurrency": values["upload_concurrency"] or derive.upload_concurrency(store),
        "allow_other": allow_other,
        "uid": host.uid if values["uid"] == "" else values["uid"],
        "gid": host.gid if values["gid"] == "" else values["gid"],
        "log_dir": values["log_dir"] or derive.log_directory(host.uid),
        "kernel_words": said.kernel_words,
        "foreground": bool(arguments.foreground or values["f"] or values["d"]),
        "log_level": "debug" if values["d"] else values["log_level"],
    }
    options = derive.effective(MountOptions(bucket=bucket, mountpoint=mountpoint, **fields))
    _check_lacks(options)
    return Resolved(options, keys, (*notes, *said.warnings()), _origins(said))


def resolve_bucket(
    source: str,
    settings: tuple[Setting, ...],
    environ: Mapping[str, str],
    layers: Layers = _NOTHING_ELSE,
) -> Resolved:
    """Judge a bucket named as for a mount, where nothing is mounted; UserError as `resolve`.

    All options of a mount are understood, so that its list can be given as it is. Only those that
    tell how to reach the bucket are in the result; the mount point is empty.
    """
    source, more = _settled(source)
    said = _Said((*more, *settings), environ, layers)
    values, notes = _values(said)
    store, bucket, prefix = _bucket(source, values)
    endpoint, region = _endpoint(store, values, said)
    keys = _keys(values, said)
    requests: dict[str, Any] = {name: values[name] for name in _OF_REQUESTS}
    options = MountOptions(
        bucket=bucket,
        mountpoint="",
        store=store,
        oss_bucket_prefix=prefix,
        oss_endpoint=endpoint,
        oss_region=region,
        path_style=_path_style(store, endpoint, values),
        **requests,
    )
    return Resolved(options, keys, (*notes, *said.warnings()), _origins(said))


_ID = "oss_access_key_id"
_SECRET = "oss_access_key_secret"
_TOKEN = "oss_session_token"
_SOURCES = ("ram_role", "credential_process", "credentials_file", "passwd_file", _SECRET)
_ENVIRONMENT_ID = BY_NAME[_ID].environment
_ENVIRONMENT_SECRET = BY_NAME[_SECRET].environment
_NOT_FIELDS = frozenset(
    {
        *("oss_bucket", _ID, _SECRET, _TOKEN, "passwd_file"),
        *("credentials_file", "credential_process", "ram_role", "f", "d"),
    }
)
_OF_REQUESTS = (
    *("oss_request_timeout_ms", "connect_timeout_ms", "io_timeout_ms", "retry_count"),
    *("retry_interval_ms", "http_proxy", "bind_ips", "enable_ipv6", "anonymous"),
)


def _refuse(message: str) -> UserError:
    return UserError(message, ExitStatus.USAGE)


def _placed(setting: Setting) -> str:
    return f"{setting.place}: " if setting.place else ""


def _text(option: Option, setting: Setting) -> str:
    if setting.value is not None:
        return setting.value
    if option.kind is Kind.FLAG:
        return "true"
    raise _refuse(
        f"{_placed(setting)}{option.name} needs a value: {option.name}={option.kind.value}"
    )


def _is_ignored(name: str, value: str | None) -> bool:
    # user=NAME is what mount(8) makes of fstab's user for its helper.
    if name.lower().startswith("x-") or name in ("comment", "user"):
        return True
    return value is None and name in IGNORED_WORDS


def _unknown(name: str) -> str:
    before, colon, _ = name.partition(":")
    if colon:
        named = f'"{before}:"' if before in BY_NAME else _HIDDEN
        return f"an option is NAME or NAME=VALUE, not {named}; keys: -o passwd_file=FILE"
    near = difflib.get_close_matches(spelled(name), BY_NAME, n=1, cutoff=_NEAR)
    shown = f'"{name}"' if near or _NAME_OF_OPTION.fullmatch(name) else _HIDDEN
    hint = f"did you mean {near[0]}?" if near else "ossfs mount --help lists all"
    return f"unknown option {shown}; {hint}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -inf  # judged with its option


def _value(option: Option, said: _Said) -> Value:
    found = said.about(option)
    if found is None:
        return option.read(option.default) if option.default else ""
    text, _ = found
    try:
        return option.read(text)
    except ValueError as reason:
        hides = option.kind is Kind.PROXY or (
            option.kind is Kind.ENDPOINT and _KEYS_IN_ENDPOINT.search(text)
        )
        shown = _HIDDEN if hides else text
        raise _refuse(
            f"{said.label(option.name)}={shown}: {reason}; "
            f"legal: {option.legal} (default {option.shown_default})"
        ) from None


def _values(said: _Said) -> tuple[dict[str, Value], list[str]]:
    """Return the options' values, and a line for each that was given and changes nothing."""
    values: dict[str, Value] = {}
    notes = []
    for option in TABLE:
        value = _value(option, said)
        if option.effective:
            values[option.name] = value
        elif value != (option.read(option.default) if option.default else ""):
            if option.stability is Stability.LATER:
                raise _refuse(f"{said.label(option.name)} is not served: {option.help}")
            notes.append(f"{said.label(option.name)} has no effect: {option.help}")
    return values, notes


def _origins(said: _Said) -> dict[str, str]:
    found = ((option.name, said.about(option)) for option in TABLE)
    return {name: about[1] for name, about in found if about is not None}


def _place(words: tuple[str, ...], values: Mapping[str, Value]) -> tuple[str, str, str, str]:
    """Find store, bucket, prefix and mount point; the bucket may come as an option instead."""
    if len(words) == 1 and values["oss_bucket"]:
        source, target = "", words[0]
    elif len(words) == 2:
        source, target = words
    else:
        raise _refuse(("no bucket is named; " if len(words) == 1 else "") + _USAGE)
    store, bucket, prefix = _bucket(source, values)
    if not target:
        raise _refuse("the mount point is empty; " + _USAGE)
    return store, bucket, prefix, absolute(target)


def _bucket(source: str, values: Mapping[str, Value]) -> tuple[str, str, str]:
    """Return store, bucket and prefix, which may come as options as well as in `source`."""
    scheme, rest = _source(source)
    store = _same("store", scheme, str(values["store"])) or "oss"
    named, _, below = rest.partition("/")
    bucket = _same("bucket", named, str(values["oss_bucket"]))
    prefix = _same("prefix", below.strip("/"), str(values["oss_bucket_prefix"]).strip("/"))
    dotted = store == "s3"
    if not is_bucket_name(bucket, dotted=dotted):
        raise _refuse(
            f"{_quoted(bucket)} is no bucket name; legal: {legal_bucket_name(dotted=dotted)}"
        )
    _check_prefix(prefix)
    return store, bucket, prefix


def _settled(source: str) -> tuple[str, tuple[Setting, ...]]:
    """Take the endpoint out of oss://BUCKET.ENDPOINT/PREFIX; an option beside it wins."""
    source, endpoint = _without_endpoint(source)
    return source, (Setting("oss_endpoint", endpoint),) if endpoint else ()


def _without_endpoint(source: str) -> tuple[str, str]:
    """Return the source and the endpoint within it, as JindoFuse and PAI write it, or ""."""
    scheme, _, rest = source.partition("://")
    named, slash, below = rest.partition("/")
    bucket, _, endpoint = named.partition(".")
    if scheme != "oss" or not is_bucket_name(bucket, dotted=False) or "." not in endpoint:
        return source, ""
    return f"oss://{bucket}{slash}{below}", endpoint


def _source(word: str) -> tuple[str, str]:
    """Return the scheme, if one is named, and BUCKET[/PREFIX].

    fstab and ossfs 1 write the bucket as BUCKET or BUCKET:/PREFIX.
    """
    scheme, separator, rest = word.partition("://")
    if separator and scheme in _SCHEMES:
        return scheme, rest
    name, _, below = word.partition(":")
    if below.startswith("//"):
        shown = _HIDDEN if _may_hold_keys(below) else f'"{word}"'
        raise _refuse(f"{shown} is no bucket: write oss://BUCKET[/PREFIX]")
    if below and not below.startswith("/"):
        raise _refuse(f"{_HIDDEN} is no bucket: write oss://BUCKET[/PREFIX]")
    return "", f"{name}/{below.lstrip('/')}"


def _same(what: str, named: str, option: str) -> str:
    if named and option and named != option:
        raise _refuse(f"the {what} is given twice: {_quoted(named)} and {_quoted(option)}")
    return named or option


def _quoted(text: str) -> str:
    return _HIDDEN if _may_hold_keys(text) else f'"{text}"'


def _may_hold_keys(text: str) -> bool:
    """Say whether it may be ID:SECRET or ID:SECRET@..., whose signs no bucket's name has."""
    return ":" in text or "@" in text


def _check_passwd_file(text: str) -> None:
    if ":" in text and "/" not in text:
        raise _refuse(
            "passwd_file is the name of a file that holds ID:SECRET, not these themselves"
        )


def _check_sources(keys: KeySettings) -> None:
    """Refuse a command and a role that cannot be one, before either is asked for keys."""
    for option, text, judge in (
        ("credential_process", keys.credential_process, process.words_of),
        ("ram_role", keys.ram_role, ram_role.address_of),
    ):
        if text:
            try:
                judge(text)
            except ValueError as reason:
                raise _refuse(f"{option}: {reason}") from None


def _keys(values: Mapping[str, Value], said: _Said) -> KeySettings:
    """Return what is said about the keys."""
    _check_passwd_file(said.typed("passwd_file"))
    # What the command line names is meant, whatever a file says.
    typed = any(said.typed(name) for name in _SOURCES)
    sources = {
        name: "" if typed and not said.typed(name) else str(values[name])
        for name in ("passwd_file", "credentials_file", "credential_process", "ram_role")
    }
    key_id, key_secret, token = said.pair()
    if typed and not said.typed(_SECRET):
        key_secret = token = ""
    keys = KeySettings(
        key_id=key_id,
        key_secret=key_secret,
        token=token,
        anonymous=bool(values["anonymous"]),
        from_file=said.keyed_below(),
        **sources,
    )
    _check_anonymous(keys)
    _check_sources(keys)
    return keys


def _check_anonymous(keys: KeySettings) -> None:
    if keys.anonymous and any(
        (
            *(keys.key_id, keys.key_secret, keys.passwd_file, keys.credentials_file),
            *(keys.credential_process, keys.ram_role),
        )
    ):
        raise _refuse("anonymous does not go with keys: leave one of them out")


def _check_prefix(prefix: str) -> None:
    if not prefix:
        return
    try:
        size = len(prefix.encode())
    except UnicodeEncodeError:
        raise _refuse("oss_bucket_prefix is not UTF-8, so no key starts with it") from None
    if size > KEY_LIMIT - 2:
        raise _refuse(f"oss_bucket_prefix is {size} bytes long; keys have at most {KEY_LIMIT}")
    if any(part in ("", ".", "..") for part in prefix.split("/")):
        raise _refuse(f'oss_bucket_prefix="{prefix}": no path can hold "//", "." or ".."')


def _check_writing(values: Mapping[str, Value], mountpoint: str) -> None:
    """Refuse options of writing that contradict each other, or that would change nothing."""
    directory = str(values["temp_dir"])
    appends = bool(values["enable_appendable_object"])
    if directory and appends:
        raise _refuse(
            "temp_dir and enable_appendable_object exclude each other: files are staged or "
            "appended to; leave one of them out"
        )
    if values["appendable_object_autoswitch_threshold"] and not appends:
        raise _refuse(
            "appendable_object_autoswitch_threshold does nothing alone; "
            "add enable_appendable_object or leave it out"
        )
    _check_outside("temp_dir", directory, mountpoint)


def _check_outside(option: str, directory: str, mountpoint: str) -> None:
    """Refuse a directory that the mount itself would have to serve."""
    point = os.path.normpath(mountpoint)
    if directory and f"{directory}/".startswith(point.rstrip("/") + "/"):
        raise _refuse(f"{option}={directory} lies inside the mount point; choose another directory")


def _check_lacks(options: MountOptions) -> None:
    """Refuse what S3 has nothing for, rather than do something else in silence."""
    if options.store != "s3":
        return
    for name, asked, what in (
        (
            "enable_appendable_object",
            options.enable_appendable_object,
            "appendable objects; files are appended to by copied parts",
        ),
        ("enable_symlink", options.enable_symlink, "symlink objects"),
    ):
        if asked:
            raise _refuse(f"{name} takes OSS: S3 has no {what}; leave it out")


def _path_style(store: str, endpoint: str, values: Mapping[str, Value]) -> bool:
    chosen = values["path_style"]
    return derive.path_style(store, endpoint) if chosen == "" else bool(chosen)


def _endpoint(
    store: str,
    values: Mapping[str, Value],
    said: _Said,
) -> tuple[str, str]:
    region = str(values["oss_region"])
    if store == "oss":
        region = region.removeprefix("oss-")
    if region and not _REGION.fullmatch(region):
        raise _refuse(
            f"{said.label('oss_region')}={region}: not a region; legal: a name such as cn-hangzhou"
        )
    endpoint = str(values["oss_endpoint"])
    if ".oss-dls." in endpoint or "/oss-dls." in endpoint:
        raise _refuse(
            f"oss_endpoint={endpoint} is OSS-HDFS's, which is not served: it keeps files in its "
            "own format; mount the bucket at its OSS endpoint, or use JindoFuse"
        )
    if not endpoint:
        if not region:
            usual = (
                "https://HOST:PORT" if store == "s3" else derive.region_endpoint("REGION", store)
            )
            raise _refuse(
                f"oss_endpoint is missing: -o oss_endpoint={usual}, or -o oss_region=REGION"
            )
        endpoint = derive.region_endpoint(region, store)
    return endpoint, region


def _allows_other(fuse_conf: str) -> bool:
    """Read the file as fusermount3 does, which skips over-long lines and a last one unended."""
    try:
        with open(fuse_conf, "rb") as lines:
            return any(
                line.partition(b"#")[0].strip() == b"user_allow_other"
                for line in lines
                if line.endswith(b"\n") and len(line) <= _FUSE_CONF_LINE
            )
    except OSError:
        return False
