"""Random writes: what is made of them is what a local file would hold."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import Capabilities
from ossfs.store.errors import Changed, Corrupt, StoreError, Throttled, Unavailable
from ossfs.store.plan import CorruptCrc, ExpireToken, Hang, LoseReply, Raise, Rule
from ossfs.writing.api import Target, Version
from ossfs.writing.staged import StagedWriter
from ossfs.writing.staging import Staging
from tests.unit.writing.support import (
    KEY,
    KIB,
    MINIMUM,
    PART,
    SMALL_LIMITS,
    Room,
    closed,
    noise,
    overheard,
    raises_errno,
    room,
    run,
)

LARGEST = 1 << 40


class Staged(Room):
    """A room whose files are staged."""

    staging: Staging

    def open(self, base: Version | None = None, *, target: Target | None = None) -> StagedWriter:
        return StagedWriter(
            self.writing, self.staging, target or Target(KEY), base, self.made.append
        )


@asynccontextmanager
async def stage(
    directory: Path | None = None,
    *,
    largest: int = LARGEST,
    capabilities: Capabilities = SMALL_LIMITS,
) -> AsyncIterator[Staged]:
    with tempfile.TemporaryDirectory() as temporary:
        async with room(capabilities=capabilities) as made:
            made.__class__ = Staged
            assert isinstance(made, Staged)
            made.staging = Staging(
                str(directory or temporary), largest=largest, free_bytes=0, free_percent=0
            )
            yield made
            made.staging.close()


def stages(made: Staged) -> list[str]:
    return sorted(name for name in os.listdir(made.staging.directory) if name.startswith("stage"))


def test_a_small_file_is_one_put_of_all_its_bytes_wherever_they_were_written() -> None:
    async def main() -> None:
        async with stage() as made:
            writer = made.open()
            await writer.write(10, b"later")
            await writer.write(0, b"first")
            await writer.write(None, b"last")
            assert await writer.read(0, 100) == b"first\0\0\0\0\0laterlast"
            await writer.complete()
            assert made.requests() == ["put"]
            assert made.content() == b"first\0\0\0\0\0laterlast"
            await writer.complete()
            assert made.requests() == []
            await closed(made, writer)
            assert stages(made) == []

    run(main)


def test_untouched_ranges_are_copied_and_never_read() -> None:
    async def main() -> None:
        async with stage() as made:
            old = noise(200 * KIB)
            writer = made.open(made.put(old))
            await writer.write(100 * KIB, b"x" * 2_000)
            await writer.complete()
            assert made.content() == old[: 100 * KIB] + b"x" * 2_000 + old[100 * KIB + 2_000 :]
            assert "get_range_into" not in made.requests()
            await closed(made, writer)

    run(main)


def test_a_small_dirty_range_takes_from_what_would_be_copied() -> None:
    async def main() -> None:
        async with stage() as made:
            old = noise(100 * KIB)
            writer = made.open(made.put(old))
            await writer.write(50 * KIB, b"!")
            await writer.complete()
            assert made.content() == old[: 50 * KIB] + b"!" + old[50 * KIB + 1 :]
            fetched = [call.size for call in made.store.calls if call.op == "get_range_into"]
            assert fetched == [MINIMUM - 1]
            await closed(made, writer)

    run(main)


def test_bytes_that_nobody_wrote_come_from_the_version_that_was_opened() -> None:
    async def main() -> None:
        async with stage() as made:
            old = noise(40 * KIB)
            writer = made.open(made.put(old))
            await writer.write(5, b"new")
            assert await writer.read(0, 20) == old[:5] + b"new" + old[8:20]
            made.put(noise(40 * KIB, 2))
            with pytest.raises(Changed):
                await writer.read(30 * KIB, 10)
            with pytest.raises(Changed), overheard():
                await writer.complete()
            assert made.content() == noise(40 * KIB, 2)
            await closed(made, writer)

    run(main)


def test_what_a_truncation_cut_is_zeros_when_the_file_grows_again() -> None:
    async def main() -> None:
        async with stage() as made:
            old = noise(50 * KIB)
            writer = made.open(made.put(old))
            await writer.truncate(10)
            await writer.truncate(60 * KIB)
            await writer.complete()
            assert made.content() == old[:10] + bytes(60 * KIB - 10)
            await closed(made, writer)

    run(main)


def test_a_file_over_the_limit_is_refused_before_a_byte_is_taken() -> None:
    async def main() -> None:
        async with stage(largest=100) as made:
            writer = made.open()
            await writer.write(0, b"x" * 90)
            with raises_errno(errno.EFBIG):
                await writer.write(90, b"y" * 11)
            with raises_errno(errno.EFBIG):
                await writer.truncate(101)
            await writer.complete()
            assert made.content() == b"x" * 90
            await closed(made, writer)

    run(main)


def test_a_full_disk_refuses_bytes_and_loses_none() -> None:
    async def main() -> None:
        async with stage() as made:
            writer = made.open()
            await writer.write(0, b"kept")
            made.staging._free_bytes = 1 << 60
            made.staging._allowed = 0
            with raises_errno(errno.ENOSPC):
                await writer.write(4, b"refused")
            await writer.complete()
            assert made.content() == b"kept"
            await closed(made, writer)

    run(main)


def test_a_removed_file_keeps_all_its_bytes_and_sends_none() -> None:
    async def main() -> None:
        async with stage() as made:
            old = noise(40 * KIB)
            writer = made.open(made.put(old))
            await writer.write(3, b"abc")
            await writer.discard()
            made.bucket.delete(KEY, deadline=0)
            await writer.write(None, b"more")
            assert await writer.read(0, 41 * KIB) == old[:3] + b"abc" + old[6:] + b"more"
            await writer.complete()
            assert made.content() is None
            await closed(made, writer)

    run(main)


def test_more_untouched_ranges_than_part_numbers_are_uploaded_instead() -> None:
    async def main() -> None:
        async with stage() as made:
            old = noise(300 * KIB)
            writer = made.open(made.put(old))
            new = bytearray(old)
            for offset in range(0, 300 * KIB, 6 * KIB):
                await writer.write(offset, b"#" * 10)
                new[offset : offset + 10] = b"#" * 10
            await writer.complete()
            assert made.content() == bytes(new)
            await closed(made, writer)

    run(main)


FAULTS = [
    Raise(Unavailable("by plan")),
    Raise(Throttled("by plan", status=503)),
    LoseReply(Unavailable("by plan")),
    Hang(),
    CorruptCrc(),
    ExpireToken(),
]


@pytest.mark.parametrize("times", [1, None], ids=["once", "for ever"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize(
    "op",
    [
        "head",
        "put",
        "get_range_into",
        "create_upload",
        "upload_part",
        "copy_part",
        "complete_upload",
    ],
)
def test_whatever_fails_the_object_is_whole_or_the_call_says_so(
    op: str, fault: Raise | LoseReply | Hang | CorruptCrc | ExpireToken, times: int | None
) -> None:
    async def main() -> None:
        met = 0
        for size in (4 * KIB, 120 * KIB):
            for nth in (1, 2):
                async with stage() as made:
                    old = noise(size)
                    new = old[:2_000] + b"N" * 500 + old[2_500:]
                    writer = made.open(made.put(old))
                    rule = Rule(op, fault, nth=nth, times=times)
                    made.store.add(rule)
                    with overheard():
                        try:
                            await writer.write(2_000, b"N" * 500)
                            await writer.complete()
                        except (StoreError, FileSystemError):
                            made.store.heal()
                            assert made.content() in (old, new, None)
                            with pytest.raises((StoreError, FileSystemError)):
                                await writer.complete()
                        else:
                            assert made.content() == new
                        met += made.store.fired(rule)
                        made.store.heal()
                        await writer.close()
        assert met

    run(main)


STEP = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 90 * KIB), st.integers(1, 20 * KIB)),
    st.tuples(st.just("append"), st.just(0), st.integers(1, 5 * KIB)),
    st.tuples(st.just("truncate"), st.integers(0, 100 * KIB), st.just(0)),
    st.tuples(st.just("read"), st.integers(0, 100 * KIB), st.integers(0, 30 * KIB)),
    st.tuples(st.just("complete"), st.just(0), st.just(0)),
    st.tuples(st.just("reopen"), st.just(0), st.just(0)),
    st.tuples(st.just("recover"), st.just(0), st.just(0)),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([None, 0, 500, 3 * KIB, 80 * KIB]), st.lists(STEP, max_size=25))
def test_random_steps_leave_what_a_local_file_would_hold(
    start: int | None, steps: list[tuple[str, int, int]]
) -> None:
    async def main() -> None:
        many = Capabilities(minimum_part=MINIMUM, maximum_parts=400, maximum_copy_part=32 * KIB)
        async with stage(capabilities=many) as made:
            base = made.put(noise(start)) if start is not None else None
            writer = made.open(base)
            model = bytearray(noise(start or 0))
            for serial, (what, offset, size) in enumerate(steps):
                data = noise(size, serial)
                match what:
                    case "write":
                        await writer.write(offset, data)
                        model.extend(bytes(max(0, offset - len(model))))
                        model[offset : offset + size] = data
                    case "append":
                        await writer.write(None, data)
                        model += data
                    case "truncate":
                        await writer.truncate(offset)
                        del model[offset:]
                        model.extend(bytes(max(0, offset - len(model))))
                    case "read":
                        assert await writer.read(offset, size) == model[offset : offset + size]
                    case "complete":
                        await writer.complete()
                        assert made.content() == bytes(model)
                    case "reopen":
                        await writer.complete()
                        await writer.close()
                        writer = made.open(made.version())
                    case "recover":
                        await writer.acknowledge()
                        (record,) = [*made.staging.records(), None][:1]
                        if record is not None:
                            writer.let_go()
                            writer = StagedWriter.recovered(
                                made.writing, made.staging, record.stage, record.content
                            )
                assert writer.size == len(model)
            assert await writer.read(0, len(model) + 1) == model
            await writer.complete()
            assert made.content() == bytes(model)
            await closed(made, writer)
            assert stages(made) == []

    run(main)


def test_a_wrong_object_is_removed_and_the_call_fails() -> None:
    async def main() -> None:
        async with stage() as made:
            writer = made.open()
            await writer.write(0, noise(PART // 2))
            made.store.add(Rule("put", CorruptCrc(), times=None))
            made.store.add(Rule("head", CorruptCrc(), times=None))
            with overheard(), pytest.raises(Corrupt):
                await writer.complete()
            assert made.content() is None
            await closed(made, writer)

    run(main)
