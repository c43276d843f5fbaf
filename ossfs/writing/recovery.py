"""What a new mount does with files that a former one acknowledged and did not finish.

Each is uploaded if its object is still what it was when the file was written; else nothing is
overwritten: the file is kept in the stage's directory of conflicts, and the log names it. One that
is in the bucket already (the daemon died after the upload) is done. What cannot be decided for want
of the store stays for the next mount.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import ObjectInfo
from ossfs.store.errors import Changed, NotFound, StoreError
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
    """For the next mount: the store did not answer."""


async def recover(staging: Staging, writing: Writing) -> Recovered:
    """Finish what is recorded in the stage's directory; never fails for one file's sake."""
    counts = Recovered()
    for record in list(staging.records()):
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
        key = writer.target.key
    except (KeyError, TypeError, ValueError) as error:
        aside = staging.aside(record.stage, b"damaged")
        log.error("%s makes no sense (%r): kept as %s", record.stage, error, aside)
        return False
    try:
        there = await _described(writing, key)
        if writer.fits(there):
            await writer.complete()
            writer.finished()
            log.info("%r, which a former mount acknowledged, is in the bucket now", key)
            return True
        if there is not None and await writer.equals(there):
            writer.finished()
            return True
    except Changed:
        log.info("%r changed while it was being recovered", key)
    finally:
        writer.let_go()
    aside = staging.aside(record.stage, key)
    log.error(
        "%r was changed by somebody else since a former mount acknowledged bytes of it: these are "
        "kept as %s, nothing is overwritten",
        key,
        aside,
    )
    return False


async def _described(writing: Writing, key: bytes) -> ObjectInfo | None:
    try:
        return await writing.client.head(key, full=True)
    except NotFound:
        return None
