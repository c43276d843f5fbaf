"""The handlers: whatever goes wrong below, only FUSEError comes out."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pyfuse3
import pytest
import trio
import trio.testing
from pyfuse3 import EntryAttributes

from ossfs.fuse.operations import Operations, Presentation
from ossfs.runtime.failure import FileSystemError
from ossfs.runtime.metrics import Metrics
from ossfs.store import errors
from ossfs.store.plan import Raise, Rule
from tests.support.core import Core, core, run

LOOKS = Presentation(uid=1, gid=2, file_mode=0o644, dir_mode=0o755, negative_timeout=0)


def operations(error: BaseException) -> Operations:
    """Handlers over a file system in which everything fails with `error`."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    names = (
        "lookup attributes open_for read forget open_directory read_directory close_directory "
        "create write flush fsync release set_size set_mtime mkdir rmdir unlink rename symlink "
        "readlink known"
    )
    filesystem: Any = SimpleNamespace(
        mounted_at=0, remaining=fail, **dict.fromkeys(names.split(), fail)
    )
    return Operations(filesystem, LOOKS, Metrics(), lambda: None)


CALLS: dict[str, tuple[Any, ...]] = {
    "lookup": (1, b"x", None),
    "getattr": (1, None),
    "open": (1, 0, None),
    "read": (1, 0, 10),
    "release": (1,),
    "opendir": (1, None),
    "readdir": (1, 0, None),
    "releasedir": (1,),
    "create": (1, b"x", 0o644, os.O_WRONLY, None),
    "mknod": (1, b"x", stat.S_IFREG, 0, None),
    "write": (1, 0, b"data"),
    "flush": (1,),
    "fsync": (1, True),
    "setattr": (1, EntryAttributes(), SimpleNamespace(update_size=True), 1, None),
    "mkdir": (1, b"x", 0o755, None),
    "rmdir": (1, b"x", None),
    "unlink": (1, b"x", None),
    "rename": (1, b"x", 1, b"y", 0, None),
    "symlink": (1, b"x", b"y", None),
    "readlink": (1, None),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("error", "number"),
    [
        (FileSystemError(errno.ENOTDIR), errno.ENOTDIR),
        (errors.Denied("no"), errno.EACCES),
        (errors.Changed("other"), errno.ESTALE),
        (errors.NoBucket("gone"), errno.EIO),
        (errors.NoUpload("gone"), errno.EIO),
        (errors.DeadlineExceeded("late"), errno.ETIMEDOUT),
        (errors.Throttled("slow down"), errno.EIO),
        (errors.StoreError("anything"), errno.EIO),
    ],
    ids=lambda value: type(value).__name__,
)
def test_known_errors_have_their_errno(name: str, error: Exception, number: int) -> None:
    async def main() -> None:
        with pytest.raises(pyfuse3.FUSEError) as raised:
            await getattr(operations(error), name)(*CALLS[name])
        assert raised.value.errno == number

    run(main)


@pytest.mark.parametrize("name", ["lookup", "getattr", "open", "read", "readdir"])
def test_a_handler_that_is_cancelled_answers_an_io_error(name: str) -> None:
    async def main() -> None:
        made = operations(KeyError())
        waiting = trio.sleep_forever
        made.filesystem = SimpleNamespace(  # type: ignore[assignment]
            remaining=None,
            **{
                below: lambda *_, **__: waiting()
                for below in ("lookup", "attributes", "open_for", "read", "read_directory")
            },
        )
        with trio.CancelScope() as scope:
            scope.cancel()
            with pytest.raises(pyfuse3.FUSEError) as raised:
                await getattr(made, name)(*CALLS[name])
            assert raised.value.errno == errno.EIO
        assert made.metrics.counts["internal_errors"] == 0

    run(main)


def internal_errors_of_cancelled(rename: Callable[..., Any]) -> int:
    """Have a rename cancelled, which is to answer EIO; return how many mistakes were counted."""
    made = operations(KeyError())
    made.filesystem = SimpleNamespace(rename=rename)  # type: ignore[assignment]

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            with pytest.raises(pyfuse3.FUSEError) as raised:
                await made.rename(*CALLS["rename"])
            assert raised.value.errno == errno.EIO

    run(main)
    return made.metrics.counts["internal_errors"]


def test_one_that_is_cancelled_with_tasks_of_its_own_answers_too() -> None:
    async def rename(*_: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()

    assert internal_errors_of_cancelled(rename) == 0


def test_what_goes_wrong_while_one_is_cancelled_stays_inside(expect_log: Any) -> None:
    expect_log("internal error in rename")

    async def rename(*_: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError(7)

    assert internal_errors_of_cancelled(rename) == 1


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "error", [KeyError(7), OSError(errno.EBADF, "x"), MemoryError(), ValueError()]
)
def test_anything_else_is_logged_counted_and_an_io_error(
    name: str, error: Exception, expect_log: Any
) -> None:
    expect_log(f"internal error in {name}")

    async def main() -> None:
        made = operations(error)
        with pytest.raises(pyfuse3.FUSEError) as raised:
            await getattr(made, name)(*CALLS[name])
        assert raised.value.errno == errno.EIO
        assert made.metrics.counts["internal_errors"] == 1

    run(main)


def test_a_full_disk_is_the_disks_own_error(expect_log: Any) -> None:
    expect_log("write failed on the local disk")

    async def main() -> None:
        made = operations(OSError(errno.ENOSPC, "full"))
        with pytest.raises(pyfuse3.FUSEError) as raised:
            await made.write(1, 0, b"data")
        assert raised.value.errno == errno.ENOSPC
        assert made.metrics.counts["internal_errors"] == 0

    run(main)


@pytest.mark.parametrize(
    ("name", "call", "number"),
    [
        ("link", (1, 1, b"x", None), errno.EPERM),
        ("mknod", (1, b"x", stat.S_IFIFO, 0, None), errno.EPERM),
        ("getxattr", (1, b"user.x", None), errno.ENOSYS),
        ("setxattr", (1, b"user.x", b"", None), errno.ENOSYS),
        ("removexattr", (1, b"user.x", None), errno.ENOSYS),
        ("listxattr", (1, None), errno.ENOSYS),
    ],
)
def test_what_there_is_not_is_refused(name: str, call: tuple[Any, ...], number: int) -> None:
    async def main() -> None:
        with pytest.raises(pyfuse3.FUSEError) as raised:
            await getattr(operations(AssertionError("not reached")), name)(*call)
        assert raised.value.errno == number

    run(main)


@pytest.mark.parametrize("error", [KeyError(7), errors.Denied("no"), FileSystemError(errno.EIO)])
def test_nothing_comes_out_of_forget(error: Exception, expect_log: Any) -> None:
    expect_log("internal error in forget")

    async def main() -> None:
        made = operations(error)
        await made.forget([(1, 1)])
        assert made.metrics.counts["internal_errors"] == 1

    run(main)


def test_a_forget_of_nothing_is_the_sign_of_the_handshake() -> None:
    async def main() -> None:
        told: list[str] = []
        made = Operations(
            operations(AssertionError("not reached")).filesystem,
            LOOKS,
            Metrics(),
            lambda: told.append("the descriptor may change hands"),
        )
        await made.forget([(0, 0)])
        assert len(told) == 1
        assert not made.metrics.counts

    run(main)


@pytest.mark.parametrize(("name", "number"), [("lookup", errno.ENOENT), ("open", errno.ESTALE)])
def test_a_missing_object_is_absent_to_a_lookup_and_stale_to_a_handle(
    name: str, number: int
) -> None:
    async def main() -> None:
        with pytest.raises(pyfuse3.FUSEError) as raised:
            await getattr(operations(errors.NotFound("gone")), name)(*CALLS[name])
        assert raised.value.errno == number

    run(main)


CONTEXT: Any = SimpleNamespace(uid=0, gid=0, pid=0, umask=0)
FIELDS = [
    "st_ino",
    "st_mode",
    "st_nlink",
    "st_uid",
    "st_gid",
    "st_size",
    "st_blocks",
    "st_blksize",
    "st_atime_ns",
    "st_mtime_ns",
    "st_ctime_ns",
    "entry_timeout",
    "attr_timeout",
]


def over(made: Core, negative_timeout: float = 0) -> Operations:
    """Handlers over a real file system."""
    looks = Presentation(
        uid=1, gid=2, file_mode=0o640, dir_mode=0o750, negative_timeout=negative_timeout
    )
    return Operations(made.fs, looks, made.metrics, lambda: None)


def fields(shown: pyfuse3.EntryAttributes) -> dict[str, Any]:
    return {name: getattr(shown, name) for name in FIELDS}


def test_files_and_directories_look_as_they_were_told_to() -> None:
    async def main() -> None:
        async with core(attr_timeout=10) as made:
            made.put(b"dir/file", b"x" * 1025)
            handlers = over(made)
            folder = await handlers.lookup(1, b"dir", CONTEXT)
            assert stat.filemode(folder.st_mode) == "drwxr-x---"
            await trio.sleep(4)
            file = await handlers.lookup(folder.st_ino, b"file", CONTEXT)
            assert stat.filemode(file.st_mode) == "-rw-r-----"
            assert (file.st_uid, file.st_gid, file.st_size, file.st_blocks) == (1, 2, 1025, 3)
            assert file.st_mtime_ns % 1_000_000_000 == 0
            assert (file.entry_timeout, file.attr_timeout) == (10, 10)
            again = await handlers.getattr(folder.st_ino, CONTEXT)
            assert (again.entry_timeout, again.attr_timeout) == (6, 6)
            opened = await handlers.open(file.st_ino, os.O_RDONLY | os.O_CLOEXEC, CONTEXT)
            assert bytes(await handlers.read(opened.fh, 1000, 4096)) == b"x" * 25
            assert (opened.keep_cache, opened.direct_io) == (True, False)
            await handlers.release(opened.fh)

    run(main)


def test_a_node_that_could_not_be_made_leaves_no_inode(expect_log: Any) -> None:
    expect_log("put 'x' failed")

    async def main() -> None:
        async with core() as made:
            made.store.add(Rule("put", Raise(errors.Denied("no", status=403)), times=None))
            handlers = over(made)
            with pytest.raises(pyfuse3.FUSEError) as raised:
                await handlers.mknod(1, b"x", stat.S_IFREG, 0, CONTEXT)
            assert raised.value.errno == errno.EACCES
            await trio.testing.wait_all_tasks_blocked()
            assert len(made.fs.inodes) == 1, "the root"

    run(main)


@pytest.mark.parametrize("timeout", [0, 10])
def test_a_listing_shows_of_every_entry_what_getattr_shows(
    timeout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[bytes, dict[str, Any]] = {}
    cookies: list[int] = []

    def reply(token: object, name: bytes, attributes: pyfuse3.EntryAttributes, cookie: int) -> bool:
        assert token == "token"
        if len(cookies) == 4 and name not in shown:
            cookies.append(-1)  # the kernel's page is full once
            return False
        shown[name] = fields(attributes)
        cookies.append(cookie)
        return True

    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)

    async def main() -> None:
        async with core(attr_timeout=timeout, page=3) as made:
            for number, key in enumerate((b"a", b"b", b"c/x", b"d/", b"e", b"f", b"g/x", b"h")):
                made.bucket._wall = lambda at=number: 1_700_000_000 + at
                made.put(key, b"x" * (700 * number))
            handlers = over(made)
            early = await handlers.lookup(1, b"f", CONTEXT)
            await trio.sleep(1)
            handle = await handlers.opendir(1, CONTEXT)
            position, before = 0, -1
            while len(cookies) > before:
                before = len(cookies)
                await handlers.readdir(handle, position, "token")  # type: ignore[arg-type]
                position = max(cookies)
            await handlers.releasedir(handle)
            assert sorted(shown) == [b".", b"..", *(b"%c" % letter for letter in b"abcdefgh")]
            assert shown[b"f"]["st_ino"] == early.st_ino
            for name, seen in shown.items():
                assert seen == fields(await handlers.getattr(seen["st_ino"], CONTEXT)), name
            counts = {inode.name: inode.lookups for inode in made.fs.inodes}
            assert counts == {b"": 0, **dict.fromkeys(b"a b c d e g h".split(), 1), b"f": 2}

    run(main)


def test_in_a_listing_too_only_what_is_written_lasts_for_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times: dict[bytes, float] = {}

    def reply(_token: object, name: bytes, attributes: EntryAttributes, _cookie: int) -> bool:
        times[name] = attributes.attr_timeout
        return True

    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)

    async def main() -> None:
        async with core(attr_timeout=60) as made:
            handlers = over(made)
            for key in (b"a", b"c", b"d"):
                made.put(key, b"data")
            number = (await handlers.lookup(1, b"c", CONTEXT)).st_ino
            opened = (await handlers.open(number, os.O_WRONLY | os.O_APPEND, CONTEXT)).fh
            await handlers.write(opened, 4, b"more")
            await handlers.fsync(opened, True)
            handle = await handlers.opendir(1, CONTEXT)
            await handlers.readdir(handle, 0, "token")  # type: ignore[arg-type]
            await handlers.releasedir(handle)
            assert [times[name] for name in (b"a", b"c", b"d")] == [60, 0, 60]
            await handlers.release(opened)

    run(main)


def test_an_absence_is_the_kernels_to_remember_only_when_asked_for() -> None:
    async def main() -> None:
        async with core() as made:
            with pytest.raises(pyfuse3.FUSEError) as raised:
                await over(made).lookup(1, b"missing", CONTEXT)
            assert raised.value.errno == errno.ENOENT
            missing = await over(made, negative_timeout=7).lookup(1, b"missing", CONTEXT)
            assert (missing.st_ino, missing.entry_timeout) == (0, 7)
            made.put(b"file", b"1")
            with pytest.raises(pyfuse3.FUSEError) as raised:
                await over(made, negative_timeout=7).lookup(1, b"n" * 256, CONTEXT)
            assert raised.value.errno == errno.ENAMETOOLONG
            file = await over(made).lookup(1, b"file", CONTEXT)
            with pytest.raises(pyfuse3.FUSEError) as raised:
                await over(made, negative_timeout=7).lookup(file.st_ino, b"x", CONTEXT)
            assert raised.value.errno == errno.ENOTDIR

    run(main)


def test_extended_attributes_are_declined_for_good_and_nothing_is_a_link() -> None:
    async def main() -> None:
        async with core() as made:
            handlers = over(made)
            for call, number in (
                (handlers.getxattr(1, b"security.capability", CONTEXT), errno.ENOSYS),
                (handlers.readlink(1, CONTEXT), errno.EINVAL),
            ):
                with pytest.raises(pyfuse3.FUSEError) as raised:
                    await call
                assert raised.value.errno == number
            room = await handlers.statfs(CONTEXT)
            assert room.f_bavail * room.f_frsize == 1 << 50
            assert await handlers.access(1, os.R_OK, CONTEXT)

    run(main)
