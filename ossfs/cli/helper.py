"""What mount(8) calls for the type ossfs: its grammar, turned into that of `ossfs mount`.

    mount.ossfs SOURCE MOUNTPOINT [-sfnv] [-o NAME=VALUE,...] [-t TYPE]

as in mount(8), EXTERNAL HELPERS. Started by `cmd/mount.ossfs`, which is /sbin/mount.ossfs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ossfs.cli.main import run_as
from ossfs.config.arguments import quote, split_list
from ossfs.runtime.failure import ExitStatus, UserError


def translated(words: Sequence[str]) -> list[str]:
    """Return the words for `ossfs`; UserError with status USAGE for what mount(8) never says."""
    named: list[str] = []
    lists: list[str] = []
    fake = False
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word == "-":
            named.append(word)
        elif word in ("-o", "-t"):
            value = next(rest, None)
            if value is None:
                raise _refuse(f"{word} needs a value")
            if word == "-o":
                lists.append(value)
        elif set(word[1:]) <= set("sfnv"):
            # Sloppy, no mtab, verbose: nothing that we do otherwise.
            fake = fake or "f" in word
        else:
            raise _refuse(f"{word} is not understood")
    if len(named) != 2:
        raise _refuse("usage: mount -t ossfs oss://BUCKET[/PREFIX] MOUNTPOINT [-o NAME=VALUE,...]")
    # rw is what mount(8) says where nobody has said anything: a file may say ro all the same.
    settings = [
        setting
        for text in lists
        for setting in split_list(text)
        if (setting.name, setting.value) != ("rw", None)
    ]
    items = [
        quote(each.name if each.value is None else f"{each.name}={each.value}") for each in settings
    ]
    more = ["-o", ",".join(items)] if items else []
    return ["check" if fake else "mount", *more, "--", *named]


def _refuse(message: str) -> UserError:
    return UserError(message, ExitStatus.USAGE)


if __name__ == "__main__":
    run_as(translated, sys.argv[1:])
