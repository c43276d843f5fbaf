"""`ossfs check`: judge the words and the file of a mount without mounting; show what they come to.

Every option is listed with its effective value and where that comes from. Keys are not shown. The
mount point may be left out, and the bucket where the file names it.
"""

from __future__ import annotations

import os
from dataclasses import replace

import click

from ossfs.cli import preflight
from ossfs.cli.mount import MountCommand
from ossfs.cli.terminal import complain
from ossfs.config import arguments, docs, validate

_NOWHERE = "/proc/self/no-mount-point"
_HELP = """\
Usage: ossfs check [oss://BUCKET[/PREFIX]] [MOUNTPOINT] [-c FILE] [-o NAME=VALUE,...]

  Judge the options of a mount without mounting, and show every option with its value and where that
  comes from. Keys are not shown. Nothing is connected to. The words are those of `ossfs mount`.

  -h, --help   Show this page."""


class CheckCommand(MountCommand):
    def get_help(self, ctx: click.Context) -> str:
        return _HELP


@click.command(cls=CheckCommand, add_help_option=False)
@click.pass_context
def check(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Judge options without mounting, and show what they come to."""
    asked = arguments.scan(words)
    if asked.help:
        click.echo(ctx.get_help())
        return
    layers = preflight.layers_of(asked.settings)
    named = asked.positional
    if not named or (len(named) == 1 and "://" in named[0]):
        asked = replace(asked, positional=(*named, _NOWHERE))
    resolved = validate.resolve(asked, os.environ, validate.Host.here(), layers)
    for note in resolved.notes:
        complain(note)
    click.echo(docs.effective(resolved.options, resolved.origins))
