"""Whatever goes wrong can be said in one line."""

from __future__ import annotations

import errno
import os

import pytest

from ossfs.runtime.failure import ExitStatus, UserError, cause_of, in_a_line


def test_a_group_stands_for_the_user_error_in_it_else_for_its_first() -> None:
    first, second = ValueError("first"), UserError("told", ExitStatus.FUSE)
    assert cause_of(first) is first
    assert cause_of(ExceptionGroup("", [ExceptionGroup("", [first, OSError()])])) is first
    assert cause_of(ExceptionGroup("", [first, ExceptionGroup("", [second])])) is second


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("told"), "told"),
        (MemoryError(), "ulimit -v"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "ulimit -v"),
        (ImportError("x.so: failed to map segment from shared object"), "ulimit -v"),
        (OSError(errno.EMFILE, "Too many open files", "/some/file"), "ulimit -n"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
        (OSError(errno.ENOENT, os.strerror(errno.ENOENT), "/a"), "/a: No such file or directory"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (KeyError("x"), "internal error: KeyError: 'x'"),
        (ExceptionGroup("", [MemoryError()]), "ulimit -v"),
    ],
)
def test_an_error_names_what_it_is_about_and_a_limit_its_remedy(
    error: Exception, line: str
) -> None:
    assert line in in_a_line(error)
    assert "\n" not in in_a_line(error)
