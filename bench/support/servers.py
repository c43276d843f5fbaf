"""The stores benchmarks run on, their files in memory: the OSS emulator, or SeaweedFS.

Requests and the bytes they moved are counted by the server itself: by the emulator's log of
requests, by SeaweedFS's metrics.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ossfs.credentials import Credentials, StaticCredentials
from ossfs.emulator.storage import Bucket, Storage
from ossfs.store.api import Store, UploadPart
from ossfs.store.oss import OssStore
from ossfs.store.s3 import DEFAULT_REGION, S3Store
from ossfs.store.signing import S3Signer, Signer, make_signer
from tests.support.emulator import EmulatorProcess
from tests.support.weed import WeedProcess

MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Where files are kept in memory; None: wherever temporary files are."""
Server = EmulatorProcess | WeedProcess
Put = Callable[[bytes, bytes], str]
"""(key, bytes) -> ETag: puts an object."""
_PART = 8 << 20
_PUTTERS = 8
_SETTLING_S = 0.1
"""SeaweedFS counts a request some milliseconds after it has answered."""


@contextmanager
def stored(load: Callable[[Bucket], None]) -> Iterator[str]:
    """Give the directory, in memory, of what `load` puts into the bucket, for one emulator."""
    with _directory() as directory:
        with Storage(directory, fast_etags=True) as storage:
            bucket = storage.bucket("test-bucket", create=True)
            with bucket.batch():
                load(bucket)
        yield directory


@contextmanager
def emulated(load: Callable[[Bucket], None]) -> Iterator[EmulatorProcess]:
    """Serve what `load` puts into the bucket by the OSS emulator."""
    with stored(load) as directory, EmulatorProcess(directory, fast_etags=True) as emulator:
        yield emulator


@contextmanager
def on_seaweed(load: Callable[[Put], None]) -> Iterator[WeedProcess]:
    """Serve what `load` puts into the bucket by SeaweedFS."""
    with _directory() as directory, WeedProcess(directory) as weed:
        with closing(store_on(weed)) as store:
            load(lambda key, data: put(store, key, data))
        yield weed


@contextmanager
def serving(kind: str, load: Callable[[Put], None]) -> Iterator[Server]:
    """Serve what `load` puts into the bucket by the emulator ("oss") or SeaweedFS ("s3")."""
    if kind == "s3":
        with on_seaweed(load) as weed:
            yield weed
    else:
        with emulated(lambda bucket: load(lambda *it: bucket.put_bytes(*it).etag)) as emulator:
            yield emulator


@contextmanager
def _directory() -> Iterator[str]:
    directory = tempfile.mkdtemp(prefix="ossfs-bench-", dir=MEMORY)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def put(store: Store, key: bytes, data: bytes) -> str:
    """Put an object through the store layer, a large one by parts; return its ETag."""
    if len(data) <= 2 * _PART:
        return store.put(key, [data], deadline=soon()).etag
    upload = store.create_upload(key, deadline=soon())
    parts = []
    for number, start in enumerate(range(0, len(data), _PART), 1):
        body = memoryview(data)[start : start + _PART]
        reply = store.upload_part(key, upload, number, [body], deadline=soon())
        parts.append(UploadPart(number, reply.etag))
    return store.complete_upload(key, upload, parts, deadline=soon()).etag


def put_many(put_one: Put, objects: Iterable[tuple[bytes, bytes]]) -> None:
    """Put many objects, several at once: SeaweedFS takes milliseconds for each."""
    with ThreadPoolExecutor(_PUTTERS) as pool:
        for _ in pool.map(lambda each: put_one(*each), objects):
            pass


def store_on(server: Server) -> OssStore | S3Store:
    """Return the store layer on a server, without a mount."""
    made = S3Store if isinstance(server, WeedProcess) else OssStore
    return made(server.bucket, server.endpoint, _keys(server))


def url_of(server: Server, key: str) -> str:
    """Return where an object is; the key must need no quoting."""
    return f"{server.endpoint}/{server.bucket}/{key}"


def curl_headers(server: Server, key: bytes, method: bytes = b"GET") -> list[str]:
    """Return the header lines that let curl GET or PUT `key`, or list the bucket without one.

    Good for a quarter of an hour, and for a PUT without a Content-Type, such as `curl -T` sends.
    """
    signer: Signer | S3Signer
    if isinstance(server, WeedProcess):
        place = urlsplit(server.endpoint)
        path = f"/{server.bucket}/"
        signer = S3Signer(_keys(server), place.netloc, path, DEFAULT_REGION)
    else:
        signer = make_signer(_keys(server), server.bucket, "")
    return signer.sign(method, key, (), ()).decode().splitlines()


class Traffic(NamedTuple):
    """What a server has answered."""

    gets: int = 0
    """GETs of objects."""
    fetched: int = 0
    """Bytes those GETs brought."""
    heads: int = 0
    lists: int = 0
    puts: int = 0
    """Of objects and parts, and copies."""
    posts: int = 0
    """Uploads begun and completed, appends."""
    deletes: int = 0
    """A DELETE of many is one; aborted uploads."""
    stored: int = 0
    """Bytes that PUTs and POSTs of objects brought."""


def counting(server: Server) -> Callable[[], Traffic]:
    """Count from now on; calling what is returned tells what has been answered since."""
    if isinstance(server, WeedProcess):
        time.sleep(_SETTLING_S)
        before = _seaweed_has_answered(server)

        def since() -> Traffic:
            time.sleep(_SETTLING_S)
            pairs = zip(_seaweed_has_answered(server), before, strict=True)
            return Traffic(*(now - then for now, then in pairs))

        return since
    emulator = server
    emulator.clear_requests()
    return lambda: _emulator_has_answered(emulator)


def _emulator_has_answered(emulator: EmulatorProcess) -> Traffic:
    records = [(_kind_of(record), record) for record in emulator.requests()]
    kinds = Counter(kind for kind, _ in records)
    return Traffic(
        kinds["GET"],
        sum(record["bytes"] for kind, record in records if kind == "GET"),
        kinds["HEAD"],
        kinds["LIST"],
        kinds["PUT"],
        kinds["POST"],
        kinds["DELETE"],
        sum(record["received"] for kind, record in records if kind != "DELETE"),
    )


def _kind_of(record: Mapping[str, Any]) -> str:
    """Return the method, but of listings and deletes of many what SeaweedFS counts them as."""
    named = {"list-type": "LIST", "delete": "DELETE"}
    return named.get(record["sub"], str(record["method"]))


def _seaweed_has_answered(weed: WeedProcess) -> Traffic:
    """Read SeaweedFS's counters; it counts HEADs among the GETs, which alone have a first byte."""
    told = weed.metrics()
    kinds: Counter[str] = Counter()
    for (name, labels), value in told.items():
        if name == "s3_request_total" and f'bucket="{weed.bucket}"' in labels:
            kinds[labels.partition('type="')[2].partition('"')[0]] += int(value)

    def total(name: str) -> int:
        return int(sum(value for (each, _), value in told.items() if each == name))

    gets = total("s3_time_to_first_byte_millisecond_count")
    return Traffic(
        gets,
        total("s3_bucket_traffic_sent_bytes_total"),
        kinds["GET"] - gets,
        kinds["LIST"],
        kinds["PUT"] + kinds["COPY"],
        kinds["POST"],
        kinds["DELETE"],
        total("s3_bucket_traffic_received_bytes_total"),
    )


def soon() -> float:
    """Return the deadline of a request that must not hang for ever."""
    return time.monotonic() + 60


def _keys(server: Server) -> StaticCredentials:
    return StaticCredentials(Credentials(server.key_id, server.key_secret))
