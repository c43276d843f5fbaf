"""The tables of store.errors."""

from __future__ import annotations

import errno

import pytest

from ossfs.store import errors


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (errors.NotFound, errno.ENOENT),
        (errors.Denied, errno.EACCES),
        (errors.Expired, errno.EACCES),
        (errors.Archived, errno.EACCES),
        (errors.Elsewhere, errno.EACCES),
        (errors.Changed, errno.ESTALE),
        (errors.Exists, errno.EEXIST),
        (errors.TooLarge, errno.EFBIG),
        (errors.Invalid, errno.EINVAL),
        (errors.WrongRegion, errno.EINVAL),
        (errors.DeadlineExceeded, errno.ETIMEDOUT),
        (errors.Silent, errno.ETIMEDOUT),
        (errors.NoBucket, errno.EIO),
        (errors.NoUpload, errno.EIO),
        (errors.PositionConflict, errno.EIO),
        (errors.NotAppendable, errno.EIO),
        (errors.Corrupt, errno.EIO),
        (errors.Throttled, errno.EIO),
        (errors.Unavailable, errno.EIO),
        (errors.Truncated, errno.EIO),
    ],
)
def test_every_error_has_its_errno(error, number):
    assert errors.errno_of(error("x")) == number


def test_an_object_that_vanished_under_an_open_handle_is_stale_not_absent():
    assert errors.errno_of(errors.NotFound("x"), open_handle=True) == errno.ESTALE


def test_no_error_becomes_an_errno_that_programs_spin_on():
    everyone = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.StoreError)
    ]
    assert len(everyone) == 22
    numbers = {errors.errno_of(kind("x")) for kind in everyone}
    assert not numbers & {errno.EAGAIN, errno.EINTR, errno.EWOULDBLOCK}


def test_a_message_names_the_key_the_code_and_the_request():
    error = errors.Denied("no", key=b"a\xffb", status=403, code="AccessDenied", request_id="5F")
    assert str(error) == r"no (key 'a\\xffb') [AccessDenied] [request 5F]"
