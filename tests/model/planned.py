"""Random numbers made operations that have something to do.

What is chosen depends on the model, so that mostly something comes of it: on names that are there,
on handles that may write, on sizes around the limits, on empty directories.
"""

from __future__ import annotations

import random

from tests.model.operations import Operation, apart, below, parent_of
from tests.model.writes import DIRECTORY, Handle, Model

NAMES = [b"a", b"b", b"d", b"e"]
"""Of files and of directories: one may stand in another's place."""
DEEPEST = 3
MOST_OPEN = 6
OPENINGS = ["r", "r+", "w", "w", "a", "a", "x"]
WHATS = [
    *["open"] * 12,
    *["write"] * 14,
    *["close"] * 6,
    *["read"] * 5,
    *["flush"] * 3,
    *["fsync"] * 2,
    *["cut handle"] * 2,
    *["cut"] * 2,
    *["unlink"] * 3,
    *["rename"] * 5,
    *["mkdir"] * 3,
    *["rmdir"] * 2,
    *["outside put"] * 4,
    *["outside put open"] * 2,
    *["outside delete"] * 3,
    *["outside append"] * 1,
    "stat",
    "forget",
    "pass time",
]
"""Each as often as it is to come."""


class Planner:
    """Makes operations for one model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._serial = 0

    def operation(self, what: str, pick: int, other: int) -> Operation | None:
        """Make an operation of two random numbers; None where there is nothing to do it to."""
        made = self._any(what, pick, other)
        if made is None or self._is_uncertain(made):
            return None
        if not self.model.mode.timeout:
            return made
        if made.what.startswith("outside"):
            related = any(not apart(file.path, made.path.rstrip(b"/")) for file in self.model.files)
            return None if related else made
        return None if self.model.clouded(made.path) or self.model.clouded(made.to) else made

    def _is_uncertain(self, operation: Operation) -> bool:
        """Whether what comes of it on a real mount depends on what goes on by itself."""
        model, path = self.model, operation.path
        if not model.mode.cached:
            return False
        file = model.file_at(path)
        if operation.what in ("cut", "rename") and file is not None and model.unsure(file):
            return file.unfinished  # a kernel does it twice, or not
        return model.mode.grows and self._may_vanish(operation)

    def _may_vanish(self, operation: Operation) -> bool:
        """Whether a directory may be gone for the moment between the deletion of its only object,
        which cannot be appended to, and the append that makes another in its place.
        """
        model, path = self.model, operation.path
        match operation.what:
            case "open" if operation.mode != "r":
                directory = parent_of(path)
            case "cut handle" | "write":
                directory = parent_of(model.handles[operation.handle].file.path)
            case "cut":
                directory = parent_of(path)
            case "rename":
                directory = parent_of(operation.to)
            case "outside delete" if path.endswith(b"/"):
                return any(file.grows for file in model.writing_in(path.rstrip(b"/")))
            case _:
                return False
        return bool(directory) and below(directory) not in model.bucket

    def _any(self, what: str, pick: int, other: int) -> Operation | None:
        pieces = self.model.mode.pieces
        match what:
            case "open":
                if len(self.model.handles) == MOST_OPEN:
                    return None
                mode = OPENINGS[other % len(OPENINGS)]
                path = self._path(pick, new=other % 3 == 0)
                if mode == "r" and self.model.stands_for(path) is DIRECTORY:
                    return None  # a kernel would not ask us
                return Operation(what, path, mode=mode)
            case "write":
                return self._write(pick, other)
            case "read" | "close" | "flush" | "fsync" | "stat":
                handle = self._handle(pick, writable=other % 3 > 0)
                if handle is None:
                    return None
                at = other % (len(handle.file.data) + 2) if pick % 2 else 0
                return Operation(what, handle=handle.number, offset=at, size=self.model.mode.most)
            case "cut handle":
                handle = self._handle(pick, writable=True)
                if handle is None or not handle.writable:
                    return None
                size = self._cut(len(handle.file.data), other)
                return Operation(what, handle=handle.number, size=size)
            case "cut":
                path = self._path(pick)
                thing = self.model.stands_for(path)
                size = self._cut(len(thing) if isinstance(thing, bytes) else 0, other)
                return Operation(what, path, size=size)
            case "mkdir":
                return Operation(what, self._path(pick, new=True))
            case "unlink":
                files = [
                    path for path, thing in self.model.tree().items() if thing is not DIRECTORY
                ]
                return Operation(what, self._one_of(files, pick, other))
            case "rmdir":
                found = [
                    one for one in self.model.directories() if one and self.model.is_empty(one)
                ]
                return Operation(what, self._one_of(found, pick, other))
            case "rename":
                return self._rename(pick, other)
            case "outside put" | "outside put open" | "outside append":
                path = self._path(pick, new=other % 2 == 0)
                if what == "outside put open":
                    handle = self._handle(pick, writable=True)
                    path = handle.file.path if handle is not None else path
                if self._grows_by_itself(path):
                    return None
                size = pieces[other % len(pieces)] + 17
                return Operation(what, path, data=self._bytes(size))
            case "outside delete":
                keys = sorted(self.model.bucket)
                if not keys or self._grows_by_itself(keys[pick % len(keys)]):
                    return None
                claimed = self.model.file_at(keys[pick % len(keys)])
                if self.model.mode.cached and claimed is not None and claimed.exclusive:
                    return None  # it may or may not have failed by now
                return Operation(what, keys[pick % len(keys)])
            case "pass time":
                return Operation(what, size=[1, 4, 11][pick % 3])
        return Operation(what)

    def _write(self, pick: int, other: int) -> Operation | None:
        handle = self._handle(pick, writable=True)
        if handle is None or not handle.writable:
            return None
        size = len(handle.file.data)
        data = self._bytes(self.model.mode.pieces[other % len(self.model.mode.pieces)])
        at: int | None = size
        if handle.mode == "a":
            at = None
        elif pick % 16 == 0 or (self.model.mode.random and pick % 3):
            at = (other * 7919) % (size + self.model.mode.part // 3 + 1)
        if (at or size) + len(data) > self.model.mode.most:
            return None
        return Operation("write", handle=handle.number, offset=at, data=data)

    def _rename(self, pick: int, other: int) -> Operation | None:
        path, to = self._path(pick), self._path(other, new=other % 3 > 0)
        if not apart(path, to):
            return None  # a kernel says so itself
        moving = [] if self.model.stands_for(path) is not DIRECTORY else self.model.writing_in(path)
        if any(
            file.dirty and (self.model.lost(file) or self.model.unsure(file)) for file in moving
        ):
            return None  # which of them were completed before it failed is nobody's business
        if len((to + b"/").split(b"/")) > DEEPEST and self.model.stands_for(path) is DIRECTORY:
            return None
        return Operation("rename", path, to)

    def _grows_by_itself(self, key: bytes) -> bool:
        """Whether a real mount may be appending to an object at this moment."""
        if not self.model.mode.cached:
            return False
        return any(one.grows and one.unfinished and one.path == key for one in self.model.files)

    def _cut(self, size: int, other: int) -> int:
        return [0, size, other % (size + self.model.mode.part)][other % 3]

    def _path(self, pick: int, *, new: bool = False) -> bytes:
        """A path: one that leads somewhere, or any name in a directory."""
        there = list(self.model.tree())
        if there and not new:
            return there[pick % len(there)]
        found = [one for one in self.model.directories() if one.count(b"/") < DEEPEST - 1]
        return below(found[pick // len(NAMES) % len(found)]) + NAMES[pick % len(NAMES)]

    def _one_of(self, paths: list[bytes], pick: int, other: int) -> bytes:
        """One of those mostly, else any."""
        return paths[pick % len(paths)] if paths and other % 4 else self._path(pick)

    def _handle(self, pick: int, *, writable: bool) -> Handle | None:
        handles = list(self.model.handles.values())
        if writable:
            handles = [one for one in handles if one.writable] or handles
        return handles[pick % len(handles)] if handles else None

    def _bytes(self, size: int) -> bytes:
        self._serial += 1
        return random.Random(self._serial).randbytes(size)
