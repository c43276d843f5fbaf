"""The command `ossfs`: finds the subcommand, and turns every failure into one line and a status.

Starting quickly is a promise: a subcommand's module is imported only when it is called, so
`ossfs --help` loads neither trio nor an HTTP library.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

import click

from ossfs import __version__
from ossfs.cli.signals import Ended
from ossfs.cli.terminal import complain, finish_output, open_standard_descriptors
from ossfs.runtime.failure import ExitStatus, UserError, in_a_line

_INTERRUPTED = 130
"""What a shell reports for a program ended by Ctrl-C: 128 + SIGINT."""

COMMANDS: dict[str, tuple[str, str]] = {
    "mount": ("ossfs.cli.mount", "Mount a bucket as a directory."),
    "check": ("ossfs.cli.check", "Judge options without mounting, and show what they come to."),
    "umount": ("ossfs.cli.umount", "Unmount, and wait until the serving process is gone."),
    "stats": ("ossfs.cli.stats", "Print what a mount has done: requests, bytes, memory, errors."),
    "warm": ("ossfs.cli.warm", "Bring files to the disk cache before they are read."),
    "cleanup": ("ossfs.cli.cleanup", "Abort multipart uploads that were left unfinished."),
    "demo": ("ossfs.cli.demo", "Show it all at work on this machine, no account needed."),
    "bench": ("ossfs.cli.bench", "Measure a mount: reading, writing, listing, names."),
    "emulator": ("ossfs.emulator.main", "Serve a directory as an OSS endpoint on loopback."),
}
"""Name: module that holds a click command of that name, and the line for the help."""


class LazyGroup(click.Group):
    """A group that imports a command when it is called, and for nothing else."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, "-V", "--version", message="ossfs %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Mount an Alibaba Cloud OSS bucket as a directory."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(ExitStatus.USAGE)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with a documented status."""
    open_standard_descriptors()
    sys.exit(status_of(words))


def run_as(translated: Callable[[Sequence[str]], list[str]], words: Sequence[str]) -> None:
    """Run what another program's words come to, and leave the process with a documented status."""
    try:
        asked = translated(words)
    except UserError as error:
        complain(error.message)
        sys.exit(error.status)
    main(asked)


def status_of(words: Sequence[str] | None = None) -> int:
    """Run the command line and return the status the process should leave with."""
    status = _status_of(words)
    trouble = finish_output()
    if trouble is None or status:
        return status
    return _unwritten(trouble)


def _status_of(words: Sequence[str] | None) -> int:
    try:
        result = cli.main(args=words, prog_name="ossfs", standalone_mode=False)
        return result if isinstance(result, int) else ExitStatus.OK
    except UserError as error:
        complain(error.message)
        return error.status
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "ossfs"
        complain(f"{error.format_message()} ({command} --help tells more)")
        return ExitStatus.USAGE
    except click.ClickException as error:
        complain(error.format_message())
        return ExitStatus.FAILURE
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except Ended as ended:
        return ended.status
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else ExitStatus.FAILURE
    except Exception as error:  # noqa: BLE001  whatever it is, a terminal sees one line of it
        unwritten = finish_output()
        if unwritten is not None:
            return _unwritten(unwritten)
        complain(in_a_line(error))
        return ExitStatus.FAILURE


def _unwritten(trouble: OSError) -> int:
    """Tell why the output is not complete, unless its reader has left, as `head` does."""
    if not isinstance(trouble, BrokenPipeError):
        complain(f"the output cannot be written: {trouble.strerror}")
    return ExitStatus.FAILURE
