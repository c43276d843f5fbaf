"""What a new mount does with files that a former one acknowledged and did not finish.

Each is uploaded if its object is still what it was when the file was written; else nothing is
overwritten: the file is kept in the stage's directory of conflicts, and the log names it. One that
is in the bucket already (the daemon died after the upload) is done. What cannot be decided for want
of the store, and what belongs to another bucket, stays for a next mount.

The mount is in use meanwhile. What is uploaded here replaces only the version the file was written
over, or nothing where there was none: the store is asked again right before, as any writer does.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import ObjectInfo
from ossfs.store.errors import Changed, Exists, NotFound, StoreError
from ossfs.writing.context import Writing
from ossfs.writing.staged import StagedWriter
from ossfs.writing.staging import Record, Staging

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Recovered:
    """Counts of files."""

    uploaded: int = 0
    conflicts: int = 0
    left: int = 0
    """For a next mount: the store did not answer, or it is not this bucket's."""


async def recover(staging: Staging, writing: Writing) -> Recovered:
    """Finish what is recorded in the stage's directory; never fails for one file's sake."""
    counts = Recovered()
    for record in list(staging.records()):
        owner = record.content.get("bucket")
        if owner != staging.bucket:
            log.error("%s is left alone: it belongs to the bucket %s", record.stage, owner)
            counts.left += 1
            continue
        try:
            done = await _finish(staging, writing, record)
        except (StoreError, OSError, FileSystemError) as error:
            log.error("%s is left for the next mount: %s", record.stage, error)
            counts.left += 1
            continue
        if done:
            counts.uploaded += 1
        else:
            counts.conflicts += 1
    return counts


async def _finish(staging: Staging, writing: Writing, record: Record) -> bool:
    """Upload one file; False where it had to be kept as a conflict."""
    try:
        writer = StagedWriter.recovered(writing, staging, record.stage, record.content)
    except (KeyError, TypeError, ValueError) as error:
        staging.aside_damaged(record.stage, error)
        return False
    key = writer.target.key
    try:
        there = await _described(writing, key)
        if writer.fits(there):
            try:
                await writer.complete()
            except (Changed, Exists) as error:
                log.info("%r changed while it was being recovered: %s", key, error)
                there = await _described(writing, key)
            else:
                await writer.finished()
                log.info("%r, which a former mount acknowledged, is in the bucket now", key)
                return True
        if there is not None and await writer.equals(there):
            await writer.finished()
            return True
        plain = writer.whole
        if plain:
            writer.make_plain()
    finally:
        writer.let_go()
    aside = staging.aside(record.stage, key, plain=plain)
    log.error(
        "%r was changed by somebody else since a former mount acknowledged bytes of it: these are "
        "kept as %s%s, nothing is overwritten",
        key,
        aside,
        "" if plain else f" (only the ranges that {aside}.json tells)",
    )
    return False


async def _described(writing: Writing, key: bytes) -> ObjectInfo | None:
    try:
        return await writing.client.head(key, full=True)
    except NotFound:
        return None
