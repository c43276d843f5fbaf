"""Random changes from outside and random looks, held against a plain model of the bucket.

The file system runs without FUSE on a mock clock. What it may show of a key is any version
that was current within the attribute time-out (or later); bytes are always of one version.
"""

from __future__ import annotations

import hypothesis
import trio
from hypothesis import strategies as st

from ossfs.runtime.failure import FileSystemError
from ossfs.store.errors import Changed
from ossfs.tree.inodes import ROOT
from tests.support.core import Core, core, run

TIMEOUT = 10.0
NAMES = ("a", "b", "a-1", "d/x", "d/y", "d/e/z", "a/hidden", "d//odd", "..", "g/../h")

STEP = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(NAMES), st.integers(0, 3_000_000)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES), st.just(0)),
    st.tuples(st.just("read"), st.sampled_from(NAMES[:7]), st.integers(0, 3_000_000)),
    st.tuples(st.just("list"), st.sampled_from(("", "d", "d/e")), st.just(0)),
    st.tuples(st.just("sleep"), st.just(""), st.integers(0, 12)),
    st.tuples(st.just("forget"), st.just(""), st.just(0)),
)


class Model:
    """Versions of every key with the time each stopped being current."""

    def __init__(self) -> None:
        self.current: dict[str, bytes] = {}
        self.past: list[tuple[float, dict[str, bytes]]] = []
        self._serial = 0

    def put(self, key: str, size: int) -> bytes:
        self._remember()
        self._serial += 1
        self.current[key] = bytes([self._serial % 251]) * size
        return self.current[key]

    def delete(self, key: str) -> None:
        self._remember()
        self.current.pop(key, None)

    def believable(self) -> list[dict[str, bytes]]:
        """The bucket as it was at any moment within the time-out, and as it is."""
        limit = trio.current_time() - TIMEOUT
        return [bucket for ended, bucket in self.past if ended >= limit] + [self.current]

    def _remember(self) -> None:
        self.past.append((trio.current_time(), dict(self.current)))


def names_of(bucket: dict[str, bytes], folder: str) -> set[str]:
    """Names a listing of `folder` shows."""
    prefix = f"{folder}/" if folder else ""
    heads = {key[len(prefix) :].partition("/")[0] for key in bucket if key.startswith(prefix)}
    return heads - {"", ".", ".."}


async def read(made: Core, model: Model, name: str, offset: int) -> None:
    versions = [bucket.get(name) for bucket in model.believable()]
    try:
        inode = await made.walk(name.encode())
        handle = await made.fs.open(inode.number)
    except FileSystemError:
        # Missing, or a directory, or a file where a directory should be, at some moment.
        assert None in versions or any(
            "/" in name and name.partition("/")[0] in bucket for bucket in model.believable()
        ), name
        return
    except Changed:
        assert len({id(version) for version in versions}) > 1
        return
    try:
        got = bytes(await made.fs.read(handle, offset, 100_000))
        assert any(
            got == version[offset : offset + 100_000] for version in versions if version is not None
        )
    except Changed:
        assert len({id(version) for version in versions}) > 1
    finally:
        made.fs.close(handle)


async def look(made: Core, model: Model, folder: str) -> None:
    try:
        number = (await made.walk(folder.encode())).number if folder else ROOT
        found = [name.decode() for name, _, _ in await made.listing(number)]
    except FileSystemError:
        assert any(not names_of(bucket, folder) for bucket in model.believable())
        return
    assert len(set(found)) == len(found)
    # A listing is never stale, only the way to it.
    assert set(found) == names_of(model.current, folder)


@hypothesis.settings(max_examples=100)
@hypothesis.given(st.lists(STEP, max_size=40))
def test_random_looks_see_what_the_bucket_held(steps: list[tuple[str, str, int]]) -> None:
    async def main() -> None:
        async with core(attr_timeout=TIMEOUT, chunk=1 << 20, memory=8 << 20) as made:
            model = Model()
            made.fs._told_unspeakable = True  # the one warning has a test of its own
            for what, name, number in steps:
                if what == "put":
                    made.put(name.encode(), model.put(name, number))
                elif what == "delete":
                    model.delete(name)
                    made.delete(name.encode())
                elif what == "read":
                    await read(made, model, name, number)
                elif what == "list":
                    await look(made, model, name)
                elif what == "sleep":
                    await trio.sleep(number)
                else:
                    made.forget_everything()
            made.forget_everything()
            assert len(made.fs.inodes) == 1
            assert made.budget.used == 0

    run(main)
