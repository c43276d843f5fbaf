"""`ossfs cleanup`: abort the multipart uploads that a dead mount has left in the bucket.

An upload that nobody completes is invisible as a file and its parts cost money until it is
aborted. Nothing tells one that was left behind from one that a mount somewhere is filling right
now, except its age: so only those begun long enough ago go, and mounting never does this.
Whole objects are never touched, and an upload that is completed meanwhile is an object like any
other.

Several aborts are under way at once, on one trio loop. Nothing has to be undone when the command
is ended: Ctrl-C and signals end it at once, and the next run goes on where it stopped.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

import click
import trio

from ossfs import bucket
from ossfs.cli import preflight
from ossfs.cli.terminal import complain, one_line, say
from ossfs.config import arguments, validate
from ossfs.config.options import MountOptions
from ossfs.config.values import read_duration, show_duration
from ossfs.credentials import CredentialsProvider, sources
from ossfs.credentials.renewed import Renewed
from ossfs.runtime.failure import ExitStatus, UserError
from ossfs.store.api import PendingUpload
from ossfs.store.client import StoreClient
from ossfs.store.errors import Denied, NoBucket, StoreError, Transient

_AT_ONCE = 16
"""Aborts under way; each is one small request."""
_USAGE = "usage: ossfs cleanup oss://BUCKET[/PREFIX] [-o NAME=VALUE,...] [--older-than AGE]"


def _age(ctx: click.Context, option: click.Parameter, text: str) -> int:
    try:
        return read_duration(text)
    except ValueError as reason:
        raise UserError(
            f"--older-than={text}: {reason}; legal: 0, or a whole number of s, m, h or d such as "
            "30m, 24h or 7d",
            ExitStatus.USAGE,
        ) from None


# The words are counted here and not by click, which would repeat those that it finds too many.
@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    options_metavar="[-o NAME=VALUE,...] [--older-than AGE] [--dry-run]",
)
@click.argument("words", nargs=-1, metavar="oss://BUCKET[/PREFIX]|s3://BUCKET[/PREFIX]")
@click.option(
    "-o",
    "lists",
    multiple=True,
    metavar="NAME=VALUE,...",
    help="Options of `ossfs mount`; endpoint, region and keys are used, the others change nothing.",
)
@click.option(
    "--older-than",
    callback=_age,
    default="24h",
    show_default=True,
    metavar="AGE",
    help="Leave uploads alone that were begun more recently, for a mount may be at work on them. "
    "30m, 24h, 7d; 0 aborts all.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be aborted, and abort nothing.")
def cleanup(words: tuple[str, ...], lists: tuple[str, ...], older_than: int, dry_run: bool) -> None:
    """Abort multipart uploads that were left unfinished below oss://BUCKET[/PREFIX]."""
    if len(words) != 1:
        raise UserError(_USAGE, ExitStatus.USAGE)
    settings = tuple(setting for text in lists for setting in arguments.split_list(text))
    layers = preflight.layers_of(settings)
    resolved = validate.resolve_bucket(words[0], settings, os.environ, layers)
    preflight.check_key_files(resolved.keys)
    options = resolved.options
    provider = Renewed(sources.find(resolved.keys, options.bucket, os.environ, options.store))
    # What fails is told in one line, here; without a handler Python would print warnings as well.
    logging.getLogger().addHandler(logging.NullHandler())
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # not only when the request under way is over
    trio.run(_clean_up, options, provider, older_than, dry_run)
    for note in resolved.notes:
        complain(note)


async def _clean_up(
    options: MountOptions, provider: CredentialsProvider, older_than: int, dry_run: bool
) -> None:
    """Abort what is older than `older_than` seconds; UserError when the bucket does not let us."""
    prefix = options.oss_bucket_prefix.encode()
    if prefix:
        prefix += b"/"
    store = bucket.open_store(options, provider)
    client = StoreClient(
        store,
        request_timeout=options.oss_request_timeout_ms / 1000,
        refresh=provider.refresh,
        control_threads=_AT_ONCE,
    )
    try:
        await bucket.probe(store, prefix, options)
        now = int(time.time())
        try:
            uploads = [_Found.at(now, upload) for upload in await client.list_uploads(prefix)]
        except StoreError as error:
            raise _refusal(error, options) from error
        old = [found for found in uploads if found.age >= older_than]
        for found in uploads:
            if found.age < older_than:
                _tell(f"kept {found.shown}", wanted=dry_run)
        if dry_run:
            for found in old:
                _tell(f"would abort {found.shown}", wanted=True)
            _tell(f"would abort {len(old)} of {len(uploads)} uploads in progress", wanted=True)
            return
        done, failure = await _abort(client, old)
        if failure is not None:
            trouble = _refusal(failure, options)
            raise UserError(
                f"{trouble.message}; aborted {done} of {len(uploads)} uploads before that",
                trouble.status,
            ) from failure
        say(f"aborted {done} of {len(uploads)} uploads in progress")
    finally:
        client.close()


@dataclass(frozen=True, slots=True)
class _Found:
    """An upload in progress, and how long ago it was begun."""

    upload: PendingUpload
    age: int
    """Seconds."""

    @classmethod
    def at(cls, now: int, upload: PendingUpload) -> _Found:
        """Tell the age at `now`; never under 0, though the store's clock may be ahead of ours."""
        return cls(upload, max(0, now - upload.initiated))

    @property
    def shown(self) -> str:
        key = self.upload.key.decode("utf-8", "backslashreplace")
        return f"{key}, begun {show_duration(self.age)} ago"


def _tell(line: str, *, wanted: bool) -> None:
    """Print a line; where it is all that is wanted, not being able to is an error."""
    if wanted:
        click.echo(f"ossfs: {one_line(line)}")
    else:
        say(line)


async def _abort(client: StoreClient, found: Sequence[_Found]) -> tuple[int, StoreError | None]:
    """Abort uploads, several at once, until one fails; return how many went, and why not all."""
    done = 0
    failures: list[StoreError] = []
    rest = iter(found)

    async def work() -> None:
        nonlocal done
        for one in rest:
            try:
                await client.abort_upload(one.upload.key, one.upload.upload_id)
            except StoreError as error:
                failures.append(error)
                nursery.cancel_scope.cancel()
                return
            done += 1
            say(f"aborted {one.shown}")

    async with trio.open_nursery() as nursery:
        for _ in range(_AT_ONCE):
            nursery.start_soon(work)
    return done, failures[0] if failures else None


def _refusal(error: StoreError, options: MountOptions) -> UserError:
    """Say in one line why uploads cannot be listed or aborted in a bucket that has answered."""
    where = f"bucket {options.bucket!r} at {options.oss_endpoint}"
    if isinstance(error, Denied):
        return UserError(
            f"{where} does not let these credentials clean up: {error}; "
            "grant oss:ListMultipartUploads and oss:AbortMultipartUpload",
            ExitStatus.CREDENTIALS,
        )
    if isinstance(error, NoBucket):
        return UserError(f"{where} does not exist any more", ExitStatus.NO_BUCKET)
    if isinstance(error, Transient):
        return UserError(f"{where} cannot be reached: {error}", ExitStatus.UNREACHABLE)
    return UserError(f"{where} cannot be cleaned up: {error}", ExitStatus.FAILURE)
