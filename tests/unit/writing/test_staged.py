"""Random writes: what is made of them is what a local file would hold."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import Capabilities
from ossfs.store.errors import Changed, Corrupt, Denied, Exists, StoreError, Throttled, Unavailable
from ossfs.store.plan import CorruptCrc, ExpireToken, Hang, LoseReply, Raise, Rule
from ossfs.writing.api import Target, Version
from ossfs.writing.extents import RANGE_BYTES
from ossfs.writing.staged import StagedWriter
from ossfs.writing.staging import Staging
from tests.unit.writing.support import (
    KEY,
    KIB,
    MINIMUM,
    PART,
    SMALL_LIMITS,
    Gate,
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
    gate: Gate | None = None,
) -> AsyncIterator[Staged]:
    with tempfile.TemporaryDirectory() as temporary:
        async with room(capabilities=capabilities, gate=gate) as made:
            made.__class__ = Staged
            assert isinstance(made, Staged)
            made.staging = Staging(
                str(directory or temporary), largest=largest, free_bytes=0, free_percent=0
            )
            yield made
            made.staging.close()


def fill_up(made: Staged, *, full: bool = True) -> None:
    """Let nothing more fit on the disk, or everything again."""
    made.staging._free_bytes = 1 << 60 if full else 0
    made.staging._allowed = 0


def stages(made: Staged) -> list[str]:
    return sorted(name for name in os.listdir(made.staging.directory) if name.startswith("stage-"))


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


def test_the_budget_knows_of_every_range_that_scattered_writes_make() -> None:
    async def main() -> None:
        async with stage() as made:
            writer = made.open()
            for number in range(1_000):
                await writer.write(number * 10, b"x")
            assert made.budget.used == 2_000 * RANGE_BYTES
            await writer.truncate(5_000)
            assert made.budget.used == 1_000 * RANGE_BYTES
            await writer.complete()
            assert made.budget.used == 500 * RANGE_BYTES
            await closed(made, writer)
            assert made.budget.used == 0

    run(main)


def test_a_full_disk_refuses_bytes_and_loses_none() -> None:
    async def main() -> None:
        async with stage() as made:
            writer = made.open()
            await writer.write(0, b"kept")
            fill_up(made)
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


def test_a_full_disk_stops_no_reading_and_no_completion() -> None:
    async def main() -> None:
        async with stage() as made:
            for size in (5 * KIB, 100 * KIB):
                old = noise(size)
                writer = made.open(made.put(old))
                await writer.write(2_000, b"here")
                fill_up(made)
                await writer.write(2_002, b"**")  # which needs no room
                new = old[:2_000] + b"he**" + old[2_004:]
                assert await writer.read(1_000, 3_000) == new[1_000:4_000]
                await writer.complete()
                assert made.content() == new
                await closed(made, writer)
                fill_up(made, full=False)

    run(main)


def test_what_is_in_the_bucket_gives_way_on_a_full_disk_and_is_fetched_again() -> None:
    async def main() -> None:
        async with stage() as made:
            idle, other = made.open(target=Target(b"idle")), made.open()
            data = noise(3 * KIB)
            await idle.write(0, data)
            await other.write(0, b"not yet in the bucket")
            await idle.complete()
            fill_up(made)
            with raises_errno(errno.ENOSPC):
                await other.write(None, b"refused")
            on_disk = [
                os.stat(os.path.join(made.staging.directory, one)).st_size for one in stages(made)
            ]
            assert sorted(on_disk) == [0, len(b"not yet in the bucket")]
            made.requests()
            assert await idle.read(10, 100) == data[10:110]
            assert made.requests() == ["get_range_into"]
            await other.complete()
            assert made.content() == b"not yet in the bucket"
            await closed(made, idle, other)
            assert not made.staging.holders

    run(main)


def test_a_disk_that_breaks_under_bytes_that_were_taken_fails_the_file() -> None:
    async def main() -> None:
        async with stage() as made:
            writer = made.open()
            await writer.write(0, b"taken")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "pwrite", broken)
                with pytest.raises(OSError, match="by plan"):
                    await writer.write(0, b"other")
            with pytest.raises(OSError, match="by plan"):
                await writer.complete()
            assert made.content() is None
            await closed(made, writer)
            assert stages(made) == []

    run(main)


def broken(*_: object) -> int:
    raise OSError(errno.EIO, "by plan")


def test_what_an_upload_cannot_hold_is_refused_before_a_byte_is_taken() -> None:
    async def main() -> None:
        async with stage() as made:
            most = made.writing.largest
            writer = made.open()
            await writer.write(most - 1, b"x")
            with raises_errno(errno.EFBIG):
                await writer.write(None, b"x" * MINIMUM)  # less may be added to the last part
            with raises_errno(errno.EFBIG):
                await writer.write(most + MINIMUM, b"x")
            with raises_errno(errno.EFBIG):
                await writer.truncate(most + MINIMUM)
            await writer.complete()
            assert made.content() == bytes(most - 1) + b"x"
            await closed(made, writer)

    run(main)


def test_a_larger_object_is_changed_as_long_as_copies_make_it_possible() -> None:
    async def main() -> None:
        few = Capabilities(minimum_part=MINIMUM, maximum_parts=20, maximum_copy_part=64 * KIB)
        async with stage(capabilities=few) as made:
            old = noise(made.writing.largest + 100 * KIB)
            writer = made.open(made.put(old))
            await writer.write(50 * KIB, b"!")
            await writer.complete()
            new = bytearray(old)
            new[50 * KIB] = ord("!")
            assert made.content() == bytes(new)
            refused = 0
            for offset in range(0, len(old), 10 * KIB):
                try:
                    await writer.write(offset, b"#" * 10 * KIB)
                except FileSystemError as error:
                    refused += error.errno == errno.EFBIG
                else:
                    new[offset : offset + 10 * KIB] = (b"#" * 10 * KIB)[: len(new) - offset]
            assert refused
            await writer.truncate(len(old))
            await writer.complete()
            assert made.content() == bytes(new)
            await closed(made, writer)

    run(main)


def test_bytes_written_during_a_completion_are_in_the_next_one() -> None:
    async def main() -> None:
        gate = Gate("put")
        async with stage(gate=gate) as made, trio.open_nursery() as nursery:
            writer = made.open()
            await writer.write(0, b"first")
            nursery.start_soon(writer.complete)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(writer.write, None, b"second")
            await trio.testing.wait_all_tasks_blocked()
            assert made.memory.waiting == 1
            assert await writer.read(0, 100) == b"first"
            gate.open()
            await trio.testing.wait_all_tasks_blocked()
            assert made.content() == b"first"
            assert writer.dirty
            await writer.complete()
            assert made.content() == b"firstsecond"
            await closed(made, writer)

    run(main)


def test_a_cancelled_completion_fails_the_file_and_leaves_no_upload() -> None:
    async def main() -> None:
        for size in (1, 5 * PART):
            gate = Gate("put", "complete_upload")
            async with stage(gate=gate) as made, trio.open_nursery() as nursery:
                writer = made.open()
                await writer.write(0, noise(size))
                nursery.start_soon(writer.complete)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            gate.open()
            with raises_errno(errno.EIO):
                await writer.write(0, b"more")

    run(main)


def test_a_part_that_fails_ends_the_reading_of_the_rest() -> None:
    async def main() -> None:
        async with stage() as made:
            writer = made.open(made.put(noise(500 * KIB)))
            for offset in range(0, 500 * KIB, KIB):
                await writer.write(offset, b"x")
            made.store.add(Rule("upload_part", Raise(Denied("by plan")), times=None))
            with overheard(), pytest.raises(Denied):
                await writer.complete()
            assert made.requests().count("get_range_into") < 200
            await closed(made, writer)

    run(main)


def test_a_file_that_cannot_be_recorded_is_uploaded_before_it_is_acknowledged() -> None:
    async def main() -> None:
        async with stage() as made:
            writer = made.open()
            await writer.write(0, b"data")
            with pytest.MonkeyPatch.context() as patch, overheard() as said:
                patch.setattr(os, "rename", broken)
                await writer.acknowledge()
            assert made.content() == b"data"
            assert not writer.dirty
            assert any("uploaded at once" in line for line in said)
            await closed(made, writer)
            assert stages(made) in ([], ["stage-ossfs-1.new"])

    run(main)


def test_bytes_that_cannot_be_made_durable_are_not_trusted_any_more() -> None:
    async def main() -> None:
        async with stage() as made:
            writer = made.open()
            await writer.write(0, b"data")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "fsync", broken)
                with pytest.raises(OSError, match="by plan"):
                    await writer.acknowledge()
            with pytest.raises(OSError, match="by plan"):
                await writer.complete()
            assert made.content() is None
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
    st.tuples(st.just("change"), st.just(0), st.integers(0, 50 * KIB)),
    st.tuples(st.just("full"), st.integers(0, 1), st.just(0)),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([None, 0, 500, 3 * KIB, 80 * KIB]), st.lists(STEP, max_size=25))
def test_random_steps_leave_what_a_local_file_would_hold(
    start: int | None, steps: list[tuple[str, int, int]]
) -> None:
    async def main() -> None:
        few = Capabilities(minimum_part=MINIMUM, maximum_parts=20, maximum_copy_part=32 * KIB)
        async with stage(capabilities=few) as made:
            base = made.put(noise(start)) if start is not None else None
            writer = made.open(base)
            model = bytearray(noise(start or 0))
            refused: set[int] = set()
            recovered = False
            for serial, (what, offset, size) in enumerate(steps):
                data = noise(size, serial)
                match what:
                    case "write" | "append":
                        place = offset if what == "write" else len(model)
                        try:
                            await writer.write(offset if what == "write" else None, data)
                        except FileSystemError as error:
                            refused.add(error.errno)
                            continue
                        model.extend(bytes(max(0, place - len(model))))
                        model[place : place + size] = data
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
                    case "full":
                        fill_up(made, full=bool(offset))
                    case "change":
                        made.put(data)
                        base = writer.base
                        if (base is None and not recovered) or (
                            base is not None and base.etag == made.version().etag
                        ):
                            continue  # it is replaced, or nobody can tell it from ours
                        await writer.truncate(writer.size + 1)
                        with pytest.raises((Changed, Exists)):
                            await writer.complete()
                        assert made.content() == data
                        await writer.close()
                        for name in stages(made):  # what was acknowledged of it
                            os.unlink(os.path.join(made.staging.directory, name))
                        writer, model = made.open(made.version()), bytearray(data)
                        recovered = False
                    case "recover":
                        if writer.base is None and made.content() is not None:
                            continue  # which another client has put there meanwhile
                        await writer.acknowledge()
                        (record,) = [*made.staging.records(), None][:1]
                        if record is not None:
                            writer.let_go()
                            writer = StagedWriter.recovered(
                                made.writing, made.staging, record.stage, record.content
                            )
                            recovered = True
                assert writer.size == len(model)
            assert await writer.read(0, len(model) + 1) == model
            await writer.complete()
            assert made.content() == bytes(model)
            assert refused <= {errno.ENOSPC, errno.EFBIG}
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
