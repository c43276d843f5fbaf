"""The handlers: whatever goes wrong below, only FUSEError comes out."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pyfuse3
import pytest

from ossfs.fuse.operations import Operations, Presentation
from ossfs.runtime.metrics import Metrics
from ossfs.store import errors
from ossfs.vfs.filesystem import FileSystemError
from tests.support.core import run

LOOKS = Presentation(uid=1, gid=2, file_mode=0o644, dir_mode=0o755, negative_timeout=0)


def operations(error: BaseException) -> Operations:
    """Handlers over a file system in which everything fails with `error`."""

    def fail(*_: Any) -> Any:
        raise error

    names = "lookup attributes open read close forget open_directory read_directory close_directory"
    filesystem: Any = SimpleNamespace(
        mounted_at=0, remaining=fail, **dict.fromkeys(names.split(), fail)
    )
    return Operations(filesystem, LOOKS, Metrics(), lambda: None)


CALLS = {
    "lookup": (1, b"x", None),
    "getattr": (1, None),
    "open": (1, 0, None),
    "read": (1, 0, 10),
    "release": (1,),
    "forget": ([(1, 1)],),
    "opendir": (1, None),
    "readdir": (1, 0, None),
    "releasedir": (1,),
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


@pytest.mark.parametrize(("name", "number"), [("lookup", errno.ENOENT), ("open", errno.ESTALE)])
def test_a_missing_object_is_absent_to_a_lookup_and_stale_to_a_handle(
    name: str, number: int
) -> None:
    async def main() -> None:
        with pytest.raises(pyfuse3.FUSEError) as raised:
            await getattr(operations(errors.NotFound("gone")), name)(*CALLS[name])
        assert raised.value.errno == number

    run(main)


def test_opening_for_writing_is_refused() -> None:
    async def main() -> None:
        import os

        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
            with pytest.raises(pyfuse3.FUSEError) as raised:
                await operations(AssertionError("not reached")).open(1, flags, None)  # type: ignore[arg-type]
            assert raised.value.errno == errno.EROFS

    run(main)
