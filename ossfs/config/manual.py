"""The manual page ossfs(1), made from the option table."""

from __future__ import annotations

from collections.abc import Mapping

from ossfs.config.docs import groups, sentence, spelling
from ossfs.config.layers import presets
from ossfs.config.option import Dialect

_STATUSES = {
    "0": "Done.",
    "1": "Anything not below; the log tells more.",
    "2": "Bad command line, option or configuration.",
    "3": "Mount point missing, no directory, not empty, busy, or not mounted.",
    "4": "FUSE cannot be used here.",
    "5": "Keys missing, malformed, refused, or their file readable by others.",
    "6": "No such bucket.",
    "7": "Endpoint not reachable, or no answer in time.",
    "128+N": "Ended by signal N.",
}
_SIGNALS = {
    "SIGTERM, SIGINT": "Unmount, save what was written, end.",
    "SIGHUP": "Fetch the keys afresh and read the file of options again: time-outs, limits and the "
    "log level change, what cannot change while mounted is named in the log. In the foreground of "
    "a terminal the same as SIGTERM.",
    "SIGUSR1": "Write a line of statistics to the log.",
}
_FILES = {
    "/etc/ossfs/NAME.conf": "Options of the unit ossfs@NAME.service, a line --NAME=VALUE each.",
    "/tmp/ossfs/ossfs.log, /tmp/ossfs-UID/ossfs.log": "The log of mounts in the background.",
}


def manual(commands: Mapping[str, str]) -> str:
    """Return the page's source; `commands` are the subcommands with a line on each."""
    lines = [
        '.\\" Generated from the option table by python -m ossfs.cli.pages. Do not edit.',
        '.TH OSSFS 1 "" "ossfs" "User Commands"',
        ".SH NAME",
        "ossfs \\- mount an Alibaba Cloud OSS bucket, or an S3 one, as a directory",
        ".SH SYNOPSIS",
        *_synopsis("ossfs mount", "oss://BUCKET[/PREFIX] MOUNTPOINT [-f] [-o NAME=VALUE,...]"),
        *_synopsis("ossfs umount", "[-l] MOUNTPOINT"),
        *_synopsis("ossfs", "COMMAND [ARGUMENT]..."),
        ".SH COMMANDS",
        *_list(commands),
        ".PP",
        _text("Each has a --help."),
        ".SH OPTIONS OF MOUNT",
        *_list(
            {
                "-o NAME=VALUE,...": "Options, separated by commas; a comma inside a value has a "
                "backslash before it. Words of mount(8) are understood.",
                "--NAME=VALUE": "The same option on its own.",
                "-c, --conf=FILE": "Take options from a file too.",
                "--preset=NAME": f"Take options for a purpose: {', '.join(presets())}.",
                "--pai=FILE|JSON": "Take options from the JSON of PAI's DLC and DSW.",
                "--dialect=NAME": "Take names and defaults as a program does: "
                + ", ".join(dialect.value for dialect in Dialect)
                + ".",
                "-f, -d": "Serve in the foreground; -d logs more besides.",
            }
        ),
        ".PP",
        _text(
            "The command line counts more than the environment, this more than a file, then come "
            "PAI's JSON, a preset, a dialect's defaults and those below."
        ),
    ]
    for group, options in groups():
        lines += [f".SS {_text(group.value)}"]
        lines += _list({spelling(option): sentence(option) for option in options})
    lines += [".SH SIGNALS", *_list(_SIGNALS), ".SH EXIT STATUS", *_list(_STATUSES)]
    lines += [".SH FILES", *_list(_FILES)]
    lines += [".SH SEE ALSO", ".BR mount (8),", ".BR fstab (5),", ".BR fusermount3 (1)"]
    return "\n".join(lines) + "\n"


def _synopsis(command: str, words: str) -> list[str]:
    return [f".B {_text(command)}", _text(words), ".br"]


def _list(items: Mapping[str, str]) -> list[str]:
    return [
        line for name, told in items.items() for line in (".TP", f".B {_text(name)}", _text(told))
    ]


def _text(text: str) -> str:
    """Escape what troff takes for its own."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
