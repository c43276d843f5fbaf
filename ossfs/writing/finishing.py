"""What every writer does around the moment its object is made."""

from __future__ import annotations

import logging

from ossfs.store.client import StoreClient
from ossfs.store.errors import Changed, Corrupt, NotFound, StoreError
from ossfs.writing.api import Version

log = logging.getLogger(__name__)


async def check_base(client: StoreClient, key: bytes, base: Version) -> None:
    """Raise Changed unless the bucket still holds the version that is gone on from."""
    try:
        there = await client.head(key, full=True)
    except NotFound as error:
        raise Changed("the object was removed meanwhile", key=key) from error
    if there.etag != base.etag:
        raise Changed("the object was replaced meanwhile", key=key)


async def remove_wrong(client: StoreClient, key: bytes, error: Corrupt) -> None:
    """Leave no object whose bytes are not those that were written."""
    if not error.etag:
        return
    try:
        if (await client.head(key, full=True)).etag == error.etag:
            await client.delete(key)
            log.error("removed %r: the store did not hold what was written", key)
    except StoreError as other:
        log.error("%r may hold other bytes than were written: %s", key, other)
