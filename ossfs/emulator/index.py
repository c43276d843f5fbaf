"""The sqlite index: which objects, uploads and parts exist, and in which files their bytes are.

A row's commit is the moment a mutation takes effect. Commits are not synced to the disk: what
was acknowledged survives a kill of the process, not of the machine. Every call is made from
the one thread that serves, so no two of them overlap; a single statement is a transaction
unless `batch` holds one open.

Listings seek: rows that fall under a common prefix are skipped by a new descent of the B-tree,
so a prefix of a million keys costs one step.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ossfs.emulator.records import (
    Metadata,
    Part,
    Record,
    Upload,
    dump_segments,
    load_segments,
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE NOT NULL, created INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS objects (
    bucket INTEGER NOT NULL, key BLOB NOT NULL, type TEXT NOT NULL, size INTEGER NOT NULL,
    mtime INTEGER NOT NULL, etag TEXT NOT NULL, crc64 TEXT NOT NULL, metadata TEXT NOT NULL,
    segments TEXT NOT NULL, target BLOB, class TEXT NOT NULL,
    PRIMARY KEY (bucket, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uploads (
    bucket INTEGER NOT NULL, key BLOB NOT NULL, id TEXT NOT NULL, initiated INTEGER NOT NULL,
    metadata TEXT NOT NULL, forbid_overwrite INTEGER NOT NULL,
    PRIMARY KEY (bucket, key, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (
    upload TEXT NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL, mtime INTEGER NOT NULL,
    etag TEXT NOT NULL, crc64 TEXT NOT NULL, segments TEXT NOT NULL,
    PRIMARY KEY (upload, number)
) WITHOUT ROWID;
"""

_STROLL = 5
"""Rows of a common prefix that a listing steps over before it seeks past them: a step costs
1 us, a seek 6."""

_BEYOND = b"\xff\xff"
"""Sorts after every UTF-8 key."""


class Entry(NamedTuple):
    """One object of a listing."""

    key: bytes
    type: str
    size: int
    mtime: int
    etag: str
    storage_class: str


class Listing(NamedTuple):
    """A page: entries and common prefixes, each in order, and where the next page begins."""

    entries: list[Entry]
    prefixes: list[bytes]
    next_start: bytes | None
    """First key the next page may look at; None when there is nothing more."""
    last: bytes
    """The last key or prefix of this page."""


def successor(prefix: bytes) -> bytes:
    """Return the least string that sorts after every string with this prefix."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return _BEYOND
    return stripped[:-1] + bytes([stripped[-1] + 1])


class Index:
    """Open (and create where missing) the index of a directory."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("PRAGMA cache_size=-65536")
        self._db.executescript(_SCHEMA)
        self._batching = False

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Make everything inside one transaction; nested ones join the outermost."""
        if self._batching:
            yield
            return
        self._batching = True
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        else:
            self._db.execute("COMMIT")
        finally:
            self._batching = False

    # Buckets

    def buckets(self) -> list[tuple[int, str, int]]:
        """Return (id, name, created) of every bucket by name."""
        return self._db.execute("SELECT id, name, created FROM buckets ORDER BY name").fetchall()

    def add_bucket(self, name: str, created: int) -> int:
        """Return the bucket's id, which none before it had."""
        cursor = self._db.execute(
            "INSERT INTO buckets(name, created) VALUES (?, ?)", (name, created)
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def remove_bucket(self, bucket: int) -> None:
        self._db.execute("DELETE FROM buckets WHERE id = ?", (bucket,))

    def is_empty(self, bucket: int) -> bool:
        query = (
            "SELECT 1 FROM objects WHERE bucket = ?1 "
            "UNION ALL SELECT 1 FROM uploads WHERE bucket = ?1 LIMIT 1"
        )
        return self._db.execute(query, (bucket,)).fetchone() is None

    # Objects

    def get(self, bucket: int, key: bytes) -> Record | None:
        row = self._db.execute(
            "SELECT type, size, mtime, etag, crc64, metadata, segments, target "
            "FROM objects WHERE bucket = ? AND key = ?",
            (bucket, key),
        ).fetchone()
        if row is None:
            return None
        kind, size, mtime, etag, crc64, metadata, segments, target = row
        return Record(
            key,
            kind,
            size,
            mtime,
            etag,
            int(crc64),
            Metadata.load(metadata),
            load_segments(segments) if segments else (),
            target,
        )

    def put(self, bucket: int, record: Record) -> None:
        """Add or replace."""
        self._db.execute(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                bucket,
                record.key,
                record.type,
                record.size,
                record.mtime,
                record.etag,
                str(record.crc64),
                record.metadata.dump(),
                dump_segments(record.segments) if record.segments else "",
                record.target,
                record.metadata.storage_class,
            ),
        )

    def remove(self, bucket: int, key: bytes) -> None:
        self._db.execute("DELETE FROM objects WHERE bucket = ? AND key = ?", (bucket, key))

    def page(
        self, bucket: int, prefix: bytes, delimiter: bytes, start: bytes, limit: int
    ) -> Listing:
        """Return up to `limit` entries and common prefixes from key `start` on, inclusive."""
        entries: list[Entry] = []
        prefixes: list[bytes] = []
        end = successor(prefix)
        at: bytes | None = max(start, prefix)
        depth = len(prefix)
        last = b""
        group = b""
        while at is not None:
            rows = self._db.execute(
                "SELECT key, type, size, mtime, etag, class FROM objects "
                "WHERE bucket = ? AND key >= ? AND key < ? ORDER BY key",
                (bucket, at, end),
            )
            at = None
            inside = 0
            for row in rows:
                key = row[0]
                if group and key.startswith(group):
                    inside += 1
                    if inside < _STROLL:
                        continue
                    at = successor(group)
                    break
                if len(entries) + len(prefixes) == limit:
                    return Listing(entries, prefixes, key, last)
                cut = key.find(delimiter, depth) if delimiter else -1
                if cut < 0:
                    entries.append(Entry._make(row))
                    last = key
                else:
                    last = group = key[: cut + len(delimiter)]
                    prefixes.append(group)
                    inside = 0
        return Listing(entries, prefixes, None, last)

    def files(self, bucket: int) -> set[str]:
        """Return every data file that an object or a part of the bucket points at."""
        query = (
            "SELECT segments FROM objects WHERE bucket = ?1 AND segments <> '' UNION ALL "
            "SELECT parts.segments FROM parts JOIN uploads ON uploads.id = parts.upload "
            "WHERE uploads.bucket = ?1 AND parts.segments <> ''"
        )
        return {
            segment.file
            for (text,) in self._db.execute(query, (bucket,))
            for segment in load_segments(text)
        }

    # Uploads

    def add_upload(self, bucket: int, upload: Upload) -> None:
        self._db.execute(
            "INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?)",
            (
                bucket,
                upload.key,
                upload.id,
                upload.initiated,
                upload.metadata.dump(),
                int(upload.forbid_overwrite),
            ),
        )

    def upload(self, bucket: int, key: bytes, upload_id: str) -> Upload | None:
        row = self._db.execute(
            "SELECT initiated, metadata, forbid_overwrite FROM uploads "
            "WHERE bucket = ? AND key = ? AND id = ?",
            (bucket, key, upload_id),
        ).fetchone()
        if row is None:
            return None
        return Upload(upload_id, key, row[0], Metadata.load(row[1]), bool(row[2]))

    def uploads(
        self, bucket: int, prefix: bytes, after: tuple[bytes, str], limit: int
    ) -> list[Upload]:
        """Return up to `limit` uploads under `prefix` that sort after (key, id)."""
        rows = self._db.execute(
            "SELECT key, id, initiated, metadata, forbid_overwrite FROM uploads "
            "WHERE bucket = ? AND key >= ? AND key < ? AND (key, id) > (?, ?) "
            "ORDER BY key, id LIMIT ?",
            (bucket, prefix, successor(prefix), *after, limit),
        ).fetchall()
        return [
            Upload(upload_id, key, initiated, Metadata.load(metadata), bool(forbid))
            for key, upload_id, initiated, metadata, forbid in rows
        ]

    def remove_upload(self, bucket: int, upload: Upload) -> None:
        """Forget an upload and its parts."""
        with self.batch():
            self._db.execute(
                "DELETE FROM uploads WHERE bucket = ? AND key = ? AND id = ?",
                (bucket, upload.key, upload.id),
            )
            self._db.execute("DELETE FROM parts WHERE upload = ?", (upload.id,))

    def put_part(self, upload_id: str, part: Part) -> None:
        """Add or replace."""
        self._db.execute(
            "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                upload_id,
                part.number,
                part.size,
                part.mtime,
                part.etag,
                str(part.crc64),
                dump_segments(part.segments) if part.segments else "",
            ),
        )

    def parts(self, upload_id: str, after: int = 0, limit: int = -1) -> list[Part]:
        """Return up to `limit` parts with a number above `after`, in order; -1: all."""
        rows = self._db.execute(
            "SELECT number, size, mtime, etag, crc64, segments FROM parts "
            "WHERE upload = ? AND number > ? ORDER BY number LIMIT ?",
            (upload_id, after, limit),
        ).fetchall()
        return [
            Part(number, size, mtime, etag, int(crc), load_segments(text) if text else ())
            for number, size, mtime, etag, crc, text in rows
        ]
