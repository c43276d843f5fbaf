"""What a mount that is written promises, as a plain model of it.

Two tests drive it, one through the vfs and one on a real mount: each performs an `Operation` (see
`planned`) and lets the model judge the outcome (`happened`), which takes over what the outcome
changes. The model has two views: `bucket`, the objects; and the files that are open, each with its
own bytes. What a name stands for is its unfinished file, else what the bucket holds.

A file goes on from a version, its `base`, or replaces whatever is there (None). It is `lost` once
completing it must fail: its base has been replaced or removed by somebody else, or it must not
replace anything and would have to. That may be found out at any call before the completion, at
the latest by it; while it is not, the name stands for the file.

Contents are random, so bytes that are equal are the same version. The module is long because every
operation is judged by the same few views.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.model.operations import Mode, Operation, Outcome, Seen, apart, below, parent_of

KEPT = 1 << 20
"""Bytes up to which a file that nobody writes stays readable after it is removed."""


@dataclass(eq=False)
class Handle:
    number: int
    file: File
    mode: str

    @property
    def writable(self) -> bool:
        return self.mode != "r"


@dataclass(eq=False)
class File:
    """A file somebody has open: one inode."""

    path: bytes
    """Its key; the name is gone from it once it is not attached."""
    data: bytes
    base: bytes | None = None
    writer: bool = False
    """Somebody has it open for writing."""
    dirty: bool = False
    exclusive: bool = False
    attached: bool = True
    """The name stands for this file."""
    gone: bool = False
    """Unlinked or replaced by us: nothing is sent any more."""
    kept: bool = True
    """Those who have it open can still read all of it."""
    whole: bool = False
    """All of it is in the writer's hands: one part that was written from the beginning."""
    failed: int = 0
    """The error of every further call."""
    grows: bool = False
    """It is an object that is appended to, or may be made one."""
    cut: bytes = b""
    """Its bytes before it was cut to nothing: some of them may still be on their way then."""
    doubt: int = 0
    """It was lost when a call failed with this: it may have failed for good."""
    owner: Handle | None = None
    flushed: bool = False
    handles: list[Handle] = field(default_factory=list)

    def __repr__(self) -> str:
        names = ["writer", "dirty", "exclusive", "attached", "gone", "whole", "failed", "doubt"]
        true = " ".join(name for name in names if getattr(self, name))
        handles = "".join(f" {one.number}{one.mode}" for one in self.handles)
        base = len(self.base) if self.base is not None else None
        return f"<{self.path!r}, {len(self.data)} bytes on {base}, {true}:{handles}>"

    @property
    def unfinished(self) -> bool:
        return self.dirty and not self.gone and not self.failed


class _Directory:
    def __repr__(self) -> str:
        return "a directory"


DIRECTORY = _Directory()
Thing = bytes | _Directory | None


class Model:
    """The mount and its bucket."""

    def __init__(self, mode: Mode, now: Callable[[], float]) -> None:
        self.mode = mode
        self.bucket: dict[bytes, bytes] = {}
        self.files: list[File] = []
        self.handles: dict[int, Handle] = {}
        self.growing: set[bytes] = set()
        """Keys of appendable objects, and of some that may be."""
        self.touched: set[bytes] = set()
        """Names whose object is another since they were last looked up: `settled` takes note."""
        self.perhaps: set[bytes] = set()
        """Markers that were not needed if an object came just then that is appended to."""
        self._now = now
        self._recent: dict[bytes, float] = {}
        """Until when a change from outside may go unnoticed."""
        self._numbers = 0

    # -- views ----------------------------------------------------------------------------------

    def file_at(self, path: bytes) -> File | None:
        """The open file that a name stands for."""
        for file in self.files:
            if file.attached and file.path == path:
                return file
        return None

    def stands_for(self, path: bytes) -> Thing:
        """What a lookup of a path finds."""
        if not path:
            return DIRECTORY
        if self.stands_for(parent_of(path)) is not DIRECTORY:
            return None
        file = self.file_at(path)
        if file is not None and file.unfinished:
            return file.data
        return self.stored_at(path)

    def stored_at(self, path: bytes) -> Thing:
        """What the bucket alone makes of a name."""
        if path in self.bucket:
            return self.bucket[path]
        return DIRECTORY if self._anything_in(path) else None

    def tree(self) -> dict[bytes, Thing]:
        """Every path that leads somewhere, and to what."""
        paths = {file.path for file in self.files if file.attached and file.unfinished}
        for key in self.bucket:
            parts = key.rstrip(b"/").split(b"/")
            paths.update(b"/".join(parts[:count]) for count in range(1, len(parts) + 1))
        things = {path: self.stands_for(path) for path in sorted(paths)}
        return {path: thing for path, thing in things.items() if thing is not None}

    def directories(self) -> list[bytes]:
        return [b"", *(path for path, thing in self.tree().items() if thing is DIRECTORY)]

    def lost(self, file: File) -> int:
        """The errno that completing a file must fail with, 0 if it must succeed."""
        if not file.writer or file.gone:
            return 0
        if file.base is not None:
            return 0 if self.bucket.get(file.path) == file.base else errno.ESTALE
        return errno.EEXIST if file.exclusive and file.path in self.bucket else 0

    def unsure(self, file: File) -> bool:
        """Whether a file goes on from an empty object that is gone: bytes do not tell such apart.

        One that is appended to goes on as if it had never been made.
        """
        return file.grows and file.base == b"" and not (file.attached and file.path in self.bucket)

    def _anything_in(self, directory: bytes) -> bool:
        return any(key.startswith(below(directory)) for key in self.bucket)

    def writing_in(self, directory: bytes) -> Iterator[File]:
        """Files in a directory that somebody has open for writing."""
        for file in self.files:
            if file.attached and file.writer and file.path.startswith(below(directory)):
                yield file

    def is_empty(self, directory: bytes) -> bool:
        marker = below(directory)
        if any(file.unfinished for file in self.writing_in(directory)):
            return False
        return not any(key.startswith(marker) and key != marker for key in self.bucket)

    def ships(self, file: File) -> bool:
        """Whether bytes of an unfinished file may be on their way already."""
        return not self.mode.random and not file.whole and len(file.data) > self.mode.part

    # -- outcomes -------------------------------------------------------------------------------

    def happened(self, operation: Operation, outcome: Outcome) -> int:
        """Judge an outcome and take over what it changes; return the number of a new handle."""
        match operation.what:
            case "open":
                return self._opened(operation, outcome)
            case "write":
                self._written(operation, outcome)
            case "read":
                self._read(operation, outcome)
            case "close" | "flush":
                self._flushed(self.handles[operation.handle], outcome)
                if operation.what == "close":
                    self._closed(self.handles.pop(operation.handle))
            case "fsync":
                self._saved(self.handles[operation.handle].file, outcome)
            case "stat":
                file = self.handles[operation.handle].file
                if not file.failed and not self.lost(file) and file.attached:
                    assert outcome == Outcome(size=len(file.data))
            case "cut handle":
                self._cut_by_handle(operation, outcome)
            case "cut":
                self._cut_by_name(operation, outcome)
            case "unlink":
                self._unlinked(operation.path, outcome)
            case "mkdir":
                self._made_directory(operation.path, outcome)
            case "rmdir":
                self._removed_directory(operation.path, outcome)
            case "rename":
                self._renamed(operation, outcome)
            case "outside put":
                self._changed_outside(operation.path, operation.data)
            case "outside put open":
                self._changed_outside(operation.path, operation.data)
            case "outside append" if not outcome.errno:
                before = self.bucket.get(operation.path, b"")
                self._changed_outside(operation.path, before + operation.data)
                self.growing.add(operation.path)
            case "outside delete":
                self._changed_outside(operation.path, None)
        return 0

    def _changed_outside(self, key: bytes, data: bytes | None) -> None:
        self.growing.discard(key)
        if data is None:
            self.bucket.pop(key, None)
        else:
            self.bucket[key] = data
        self.touched.add(key.rstrip(b"/"))
        self._recent[key.rstrip(b"/")] = self._now() + self.mode.timeout

    def clouded(self, path: bytes) -> bool:
        """Whether a change from outside may still go unnoticed there."""
        if not path:
            return False
        parent = parent_of(path)
        return any(
            self._now() <= until and (not apart(path, key) or (parent and not apart(parent, key)))
            for key, until in self._recent.items()
            if self.mode.timeout
        )

    # Opening and closing

    def _opened(self, operation: Operation, outcome: Outcome) -> int:
        path, mode = operation.path, operation.mode
        there, file = self.stands_for(path), self.file_at(path)
        if self._refused(self._open_error(path, mode), outcome):
            return 0
        if file is None:
            assert not isinstance(there, _Directory)
            file = File(path, there or b"")
            self.files.append(file)
        self._numbers += 1
        handle = self.handles[self._numbers] = Handle(self._numbers, file, mode)
        file.handles.append(handle)
        if mode == "r":
            return handle.number
        if not file.writer:
            file.writer, file.failed, file.doubt = True, 0, 0
            file.base = None if mode == "w" or not isinstance(there, bytes) else there
            file.dirty = file.whole = file.base is None
            file.exclusive = mode == "x"
            appends = self.mode.grows or (file.base is not None and path in self.growing)
            file.grows = appends and not self.mode.random
            if file.dirty:
                file.data = b""
        elif mode == "w":
            self._resize(file, 0)
        file.owner, file.flushed = handle, False
        return handle.number

    def _open_error(self, path: bytes, mode: str) -> int:
        there, file = self.stands_for(path), self.file_at(path)
        around = self.stands_for(parent_of(path))
        if around is not DIRECTORY:
            return errno.ENOENT if around is None else errno.ENOTDIR
        if there is None:
            return errno.ENOENT if mode in ("r", "r+") else 0
        if mode == "x":
            return errno.EEXIST
        if there is DIRECTORY:
            return errno.EISDIR
        return errno.EBUSY if mode != "r" and file is not None and self._busy(file) else 0

    def _busy(self, file: File) -> bool:
        if self.mode.random or not file.writer or file.owner is None:
            return False
        return not file.flushed or file.dirty

    def _closed(self, handle: Handle) -> None:
        file = handle.file
        file.handles.remove(handle)
        if file.owner is handle:
            file.owner = None
        if file.attached and not any(one.writable for one in file.handles):
            file.writer = file.exclusive = False
        if not file.handles:
            self.files.remove(file)

    # Bytes

    def _may_write(self, handle: Handle) -> bool:
        return self.mode.random or handle.file.owner is handle

    def _written(self, operation: Operation, outcome: Outcome) -> None:
        handle = self.handles[operation.handle]
        file, at = handle.file, operation.offset
        if not self._may_write(handle):
            assert outcome.errno == errno.EBUSY, outcome
            return
        if file.failed:
            assert outcome.errno == file.failed, outcome
            return
        if self._excused(file, outcome):
            return
        if not self.mode.random and at not in (None, len(file.data)):
            assert outcome.errno == errno.EINVAL, outcome
            return
        assert outcome == Outcome(size=len(operation.data)), outcome
        at = len(file.data) if at is None else at
        padded = file.data.ljust(at, b"\0")
        file.data = padded[:at] + operation.data + padded[at + len(operation.data) :]
        file.dirty, file.flushed = True, False
        file.whole = file.whole and len(file.data) <= self.mode.part

    def _read(self, operation: Operation, outcome: Outcome) -> None:
        file = self.handles[operation.handle].file
        assert operation.offset is not None
        wanted = file.data[operation.offset : operation.offset + operation.size]
        if file.failed and not self.mode.cached and file.writer:
            assert outcome.errno, "a file that could not be saved was read"
            return
        self._judge_bytes(file, wanted, outcome.data, outcome.errno)

    def _judge_bytes(self, file: File, wanted: bytes, data: bytes, error: int) -> None:
        """Check what was read of a file; `data` came before the error, if there was one."""
        if not error:
            assert data == wanted, difference(data, wanted)
            return
        assert wanted.startswith(data), difference(data, wanted)
        lost = self.lost(file)
        if file.failed or lost:
            assert error in (file.failed, lost, errno.ESTALE)
            file.doubt = lost
            return
        assert error == errno.ESTALE, errno.errorcode[error]
        if file.gone:
            if file.writer:
                lossy = not self.mode.random and not file.whole
                assert lossy or not file.kept, "a removed file lost its bytes"
            else:
                assert not file.kept, "a removed file lost its bytes"
        else:
            assert not file.attached, "a file that nobody changed is stale"

    def _flushed(self, handle: Handle, outcome: Outcome) -> None:
        file = handle.file
        if not file.writer or not handle.writable or not self._may_write(handle):
            assert outcome.errno == 0, outcome
            return
        file.flushed = True
        self._saved(file, outcome)

    def _saved(self, file: File, outcome: Outcome) -> None:
        """Judge a completion."""
        if not file.writer:
            assert outcome.errno == 0, outcome
            return
        if file.failed:
            assert outcome.errno == file.failed, outcome
            return
        lost = self.lost(file)
        if self._excused(file, outcome):
            self._fail(file, outcome.errno)
            return
        if not file.unfinished:
            assert outcome.errno == 0, (outcome, file)
            return
        if lost and (outcome.errno or not self.unsure(file)):
            assert outcome.errno == lost, (outcome, "somebody else's object was overwritten")
            self._fail(file, lost)
            return
        assert outcome.errno == 0, outcome
        self._complete(file)

    def _complete(self, file: File) -> None:
        self.bucket[file.path] = file.base = file.data
        (self.growing.add if file.grows else self.growing.discard)(file.path)
        file.dirty = file.exclusive = False
        file.whole = file.whole and not file.grows
        if not file.attached:
            self.touched.add(file.path)

    def _excused(self, file: File, outcome: Outcome) -> bool:
        """Whether a call failed because it found out that the file is lost."""
        lost = self.lost(file) or file.doubt or (errno.ESTALE if self.unsure(file) else 0)
        if not outcome.errno or outcome.errno != lost or self.mode.random or file.gone:
            return False
        if file.dirty:
            self._fail(file, lost)
        else:
            file.doubt = lost
        return True

    def _fail(self, file: File, error: int) -> None:
        file.failed, file.attached = error, False
        self.touched.add(file.path)

    def _resize(self, file: File, size: int) -> None:
        if size == len(file.data):
            return
        if not size:
            file.cut = file.data
        file.data = file.data[:size].ljust(size, b"\0")
        file.dirty = True
        if not size:
            file.base = None
            file.whole = True

    def _cut_error(self, file: File | None, now: int, size: int) -> int:
        if file is not None and file.failed:
            return file.failed
        if size in (0, now) or self.mode.random:
            return 0
        return errno.EINVAL

    def _cut_by_handle(self, operation: Operation, outcome: Outcome) -> None:
        handle = self.handles[operation.handle]
        file, size = handle.file, operation.size
        if not self._may_write(handle):
            assert outcome.errno == errno.EBUSY, outcome
            return
        if not self._excused(file, outcome) and not self._refused(
            self._cut_error(file, len(file.data), size), outcome
        ):
            self._resize(file, size)

    def _cut_by_name(self, operation: Operation, outcome: Outcome) -> None:
        path, size = operation.path, operation.size
        there, file = self.stands_for(path), self.file_at(path)
        if not isinstance(there, bytes):
            self._refused(errno.ENOENT if there is None else errno.EISDIR, outcome)
            return
        if file is None or not file.writer:
            if not self._refused(self._cut_error(None, len(there), size), outcome):
                self.bucket[path] = there[:size].ljust(size, b"\0")
                if file is not None:
                    file.data = self.bucket[path]
            return
        if self._busy(file):
            assert outcome.errno == errno.EBUSY, outcome
            return
        file.owner, file.flushed = None, False
        error = self._cut_error(file, len(file.data), size)
        if error:
            assert outcome.errno == error, outcome
            return
        self._resize(file, size)
        if self._repeated(file):
            self._cut_by_name(operation, outcome)
        else:
            self._saved(file, outcome)

    # Names

    def _repeated(self, file: File) -> bool:
        """Whether a call by name fails with ESTALE when it completes the file.

        A kernel then repeats the call, with what the name stands for by then.
        """
        if not self.mode.cached or not file.unfinished or self.lost(file) != errno.ESTALE:
            return False
        self._fail(file, errno.ESTALE)
        return True

    @staticmethod
    def _refused(error: int, outcome: Outcome) -> bool:
        assert outcome.errno == error, (outcome, errno.errorcode.get(error, "success"))
        return bool(error)

    def _error_of(self, path: bytes, thing: Thing) -> int:
        if thing is not None:
            return 0
        around = self.stands_for(parent_of(path))
        return errno.ENOENT if around is None or around is DIRECTORY else errno.ENOTDIR

    def _unlinked(self, path: bytes, outcome: Outcome) -> None:
        thing = self.stands_for(path)
        error = errno.EISDIR if thing is DIRECTORY else self._error_of(path, thing)
        if not self._refused(error, outcome):
            self._let_go(path)
            self.bucket.pop(path, None)
            self._keep_alive(parent_of(path))

    def _let_go(self, path: bytes) -> None:
        file = self.file_at(path)
        if file is not None:
            if file.writer:
                file.kept = not (self.mode.random and self.lost(file))
            else:
                file.kept = len(file.data) <= KEPT
            file.gone, file.attached = True, False

    def _keep_alive(self, directory: bytes) -> None:
        """Only rmdir ends a directory."""
        if directory and not self._anything_in(directory):
            self.bucket[below(directory)] = b""
            if any(file.grows and file.unfinished for file in self.writing_in(directory)):
                self.perhaps.add(below(directory))

    def _made_directory(self, path: bytes, outcome: Outcome) -> None:
        there = self.stands_for(path)
        around = self.stands_for(parent_of(path))
        error = 0 if there is None else errno.EEXIST
        if around is not DIRECTORY:
            error = errno.ENOENT if around is None else errno.ENOTDIR
        if not self._refused(error, outcome):
            self.bucket[below(path)] = b""

    def _removed_directory(self, path: bytes, outcome: Outcome) -> None:
        thing = self.stands_for(path)
        error = self._error_of(path, thing)
        if isinstance(thing, bytes):
            error = errno.ENOTDIR
        elif thing is DIRECTORY and not self.is_empty(path):
            error = errno.ENOTEMPTY
        if not self._refused(error, outcome):
            self.bucket.pop(below(path), None)
            self._keep_alive(parent_of(path))

    def _renamed(self, operation: Operation, outcome: Outcome) -> None:
        path, to = operation.path, operation.to
        source, target = self.stands_for(path), self.stands_for(to)
        around = self.stands_for(parent_of(to))
        error = self._error_of(path, source)
        if not error and around is not DIRECTORY:
            error = errno.ENOENT if around is None else errno.ENOTDIR
        if not error and source is DIRECTORY and target is not None:
            error = errno.ENOTDIR if target is not DIRECTORY else 0
            error = error or (0 if self.is_empty(to) else errno.ENOTEMPTY)
        elif not error and target is DIRECTORY:
            error = errno.EISDIR
        if error:
            assert outcome.errno == error, (outcome, errno.errorcode[error])
        elif source is DIRECTORY:
            for file in list(self.writing_in(path)):
                self._saved(file, outcome)
            assert outcome.errno == 0, outcome
            self._move_directory(below(path), below(to))
            self._keep_alive(parent_of(path))
        else:
            moved = self.file_at(path)
            if moved is not None and self._repeated(moved):
                self._renamed(operation, outcome)
            else:
                self._rename_file(moved, operation, outcome)

    def _rename_file(self, file: File | None, operation: Operation, outcome: Outcome) -> None:
        path, to = operation.path, operation.to
        if file is not None and file.writer:
            self._saved(file, outcome)
        if outcome.errno:
            assert file is not None
            assert file.failed, outcome
            return
        self._let_go(to)
        self.bucket[to] = self.bucket.pop(path)
        if file is not None:
            file.path = to
        self._keep_alive(parent_of(path))

    def _move_directory(self, old: bytes, new: bytes) -> None:
        for key in [key for key in self.bucket if key.startswith(old)]:
            self.bucket[new + key[len(old) :]] = self.bucket.pop(key)
        if not self._anything_in(new.rstrip(b"/")):
            self.bucket[new] = b""
        for file in self.files:
            if file.attached and file.path.startswith(old):
                file.path = new + file.path[len(old) :]

    # -- what is seen -----------------------------------------------------------------------------

    def looked_up(self, path: bytes, outcome: Outcome) -> None:
        """Take note of the size that a name shows: an unfinished file may have failed by now."""
        file = self.file_at(path)
        if file is None or not file.unfinished or not self.lost(file):
            return
        if self.stands_for(parent_of(path)) is not DIRECTORY:
            return
        if outcome.errno or outcome.size != len(file.data):
            self._found_out(file)

    def saw_unsaved(self, handles: set[int]) -> None:
        """Compare whose bytes are not in the bucket; a file that is lost may have failed."""
        for file in self.files:
            unsaved = {handle.number in handles for handle in file.handles}
            lost = self.lost(file) or (errno.ESTALE if self.unsure(file) else 0)
            if unsaved == {False} and file.unfinished and self.ships(file) and lost:
                self._fail(file, lost)
            assert unsaved == {file.unfinished}, file

    def settled(self) -> None:
        """All touched names have been looked up: open files that are not theirs are let go."""
        self.touched.clear()
        for file in self.files:
            if not file.attached:
                continue
            reachable = self.stands_for(parent_of(file.path)) is DIRECTORY
            known = file.unfinished or self.bucket.get(file.path) == file.data
            file.attached = reachable and known

    def saw_bucket(self, objects: Mapping[bytes, bytes], looked_at: set[bytes]) -> None:
        """Compare all objects; reading the files `looked_at` may have completed them."""
        for key in sorted({*self.bucket, *objects}):
            self.saw_object(key, objects.get(key), looked_at)

    def saw_object(self, key: bytes, there: bytes | None, looked_at: set[bytes]) -> None:
        """Compare one object."""
        mine = self.bucket.get(key)
        if mine == there:
            return
        if key in self.perhaps and self.mode.cached:
            del self.bucket[key]
            self.perhaps.discard(key)
            return
        file = self._writing(key, there, looked_at)
        assert file is not None, f"{key!r} is {told(there)}, not {told(mine)}"
        assert there is not None
        self.bucket[key] = there
        if not file.data.startswith(there):
            return
        file.base = there
        file.exclusive = False
        file.dirty = there != file.data
        if not file.attached:
            self.touched.add(key)

    def _writing(self, key: bytes, there: bytes | None, looked_at: set[bytes]) -> File | None:
        """The unfinished file that may have made an object what it is."""
        for file in self.files:
            if file.path != key or not file.unfinished or there is None:
                continue
            if self.lost(file) and not self.unsure(file):
                continue
            if self.ships(file):
                if there == file.data and key in looked_at:
                    return file
                if file.grows and file.data.startswith(there):
                    return file
            if self.mode.cached and file.grows and file.cut.startswith(there):
                return file
        return None

    def saw_tree(self, seen: Mapping[bytes, Seen]) -> None:
        """Compare every name, its size, and as far as they were read its bytes."""
        expected = self.tree()
        for path in sorted({*expected, *seen}):
            if self.clouded(path):
                continue
            file, found = self.file_at(path), seen.get(path)
            if file is not None and file.unfinished and self.lost(file):
                self._saw_lost(file, found)
                continue
            thing = expected.get(path)
            assert (thing is None) == (found is None), f"{path!r} is {found}, not {told(thing)}"
            if found is None:
                continue
            assert (thing is DIRECTORY) == (found.size is None), f"{path!r} is not {told(thing)}"
            if isinstance(thing, bytes):
                assert found.errno == 0, (path, errno.errorcode[found.errno])
                assert found.size == len(thing), (path, found.size, len(thing))
                if found.data is not None:
                    assert found.data == thing, (path, difference(found.data, thing))

    def _saw_lost(self, file: File, found: Seen | None) -> None:
        """The name of a file that cannot be completed shows its bytes until that is found out."""
        stored = self.stored_at(file.path)
        if found is not None and found.errno:
            assert found.errno in (errno.ESTALE, self.lost(file))
            file.doubt = self.lost(file)
            return
        if found is not None and found.size == len(file.data):
            assert found.data in (None, file.data)
            return
        size = len(stored) if isinstance(stored, bytes) else None
        assert found is None if stored is None else found is not None and found.size == size
        self._found_out(file)

    def _found_out(self, file: File) -> None:
        """The name of a file that is lost is somebody else's again; so is the file, or will be."""
        assert not self.mode.random, "the name does not stand for what is being written"
        file.attached, file.doubt = False, self.lost(file)

    def readable(self, path: bytes) -> bool:
        """Whether looking at a file's bytes leaves it as it is."""
        file = self.file_at(path)
        return file is None or not file.unfinished or not self.ships(file)


def told(thing: Thing) -> str:
    """Word what a name or key stands for."""
    return f"{len(thing)} bytes" if isinstance(thing, bytes) else repr(thing)


def difference(got: bytes, wanted: bytes) -> str:
    """Say where two contents differ."""
    pairs = enumerate(zip(got, wanted, strict=False))
    at = next((place for place, (one, other) in pairs if one != other), None)
    where = f"differ from byte {at} on" if at is not None else "are one a prefix of the other"
    return f"{len(got)} bytes and {len(wanted)} {where}"
