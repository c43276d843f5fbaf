"""What was acknowledged and not finished is uploaded by the next mount, or kept; never lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ossfs.runtime.failure import UserError
from ossfs.store.errors import Unavailable
from ossfs.store.plan import Raise, Rule
from ossfs.writing import staging as staging_module
from ossfs.writing.api import MTIME, Target
from ossfs.writing.recovery import Recovered, recover
from ossfs.writing.staging import CONFLICTS, Staging
from tests.unit.writing.support import KEY, KIB, noise, overheard, run
from tests.unit.writing.test_staged import Staged, stage

OLD, NEW = noise(60 * KIB, 1), noise(60 * KIB, 2)


async def acknowledged(made: Staged, *, over: bytes | None = None) -> None:
    """Write a file, get it acknowledged, and die."""
    target = Target(KEY, mtime_ns=1_500_000_000, metadata={"k": "v"}, content_type="text/plain")
    writer = made.open(made.put(over) if over is not None else None, target=target)
    await writer.write(0, NEW[: 30 * KIB])
    if over is None:
        await writer.write(None, NEW[30 * KIB :])
    await writer.acknowledge()
    writer.let_go()


def next_life(made: Staged, directory: Path) -> None:
    made.staging.close()
    made.staging = Staging(str(directory), largest=1 << 40, free_bytes=0, free_percent=0)


@pytest.mark.parametrize("over", [None, OLD], ids=["a new file", "an old one"])
def test_an_acknowledged_file_is_in_the_bucket_after_the_next_mount(
    tmp_path: Path, over: bytes | None
) -> None:
    async def main() -> None:
        async with stage(tmp_path) as made:
            await acknowledged(made, over=over)
            assert made.content() == over
            next_life(made, tmp_path)
            assert await recover(made.staging, made.writing) == Recovered(uploaded=1)
            assert made.content() == NEW[: 30 * KIB] + (over or NEW)[30 * KIB :]
            info = made.bucket.head(KEY, full=True, deadline=0)
            assert dict(info.metadata) == {"k": "v", MTIME: "1.5"}
            assert info.content_type == "text/plain"
            assert os.listdir(tmp_path) == [staging_module.LOCK]
            assert await recover(made.staging, made.writing) == Recovered()

    run(main)


@pytest.mark.parametrize("over", [None, OLD], ids=["a new file", "an old one"])
def test_an_object_that_somebody_changed_since_is_left_alone_and_the_bytes_are_kept(
    tmp_path: Path, over: bytes | None
) -> None:
    async def main() -> None:
        async with stage(tmp_path) as made:
            await acknowledged(made, over=over)
            made.put(b"somebody else's")
            next_life(made, tmp_path)
            with overheard() as said:
                assert await recover(made.staging, made.writing) == Recovered(conflicts=1)
            assert made.content() == b"somebody else's"
            kept = tmp_path / CONFLICTS / "key.1"
            assert kept.read_bytes()[: 30 * KIB] == NEW[: 30 * KIB]
            assert any(str(kept) in line and repr(KEY) in line for line in said)
            next_life(made, tmp_path)
            assert await recover(made.staging, made.writing) == Recovered()
            assert kept.exists()

    run(main)


def test_a_file_that_is_in_the_bucket_already_is_done(tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path) as made:
            await acknowledged(made)
            made.put(NEW)
            next_life(made, tmp_path)
            assert await recover(made.staging, made.writing) == Recovered(uploaded=1)
            assert os.listdir(tmp_path) == [staging_module.LOCK]

    run(main)


def test_a_store_that_does_not_answer_leaves_it_to_the_next_mount(tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path) as made:
            await acknowledged(made)
            made.store.add(Rule("upload_part", Raise(Unavailable("by plan")), times=None))
            next_life(made, tmp_path)
            with overheard():
                assert await recover(made.staging, made.writing) == Recovered(left=1)
            made.store.heal()
            next_life(made, tmp_path)
            assert await recover(made.staging, made.writing) == Recovered(uploaded=1)
            assert made.content() == NEW

    run(main)


def test_completing_later_drops_the_record(tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path) as made:
            writer = made.open()
            await writer.write(0, b"data")
            await writer.acknowledge()
            assert sorted(os.listdir(tmp_path)) == [staging_module.LOCK, "stage-1", "stage-1.json"]
            await writer.complete()
            assert sorted(os.listdir(tmp_path)) == [staging_module.LOCK, "stage-1"]
            await writer.close()
            assert os.listdir(tmp_path) == [staging_module.LOCK]

    run(main)


def test_a_crash_at_any_moment_leaves_what_was_acknowledged_or_nothing(tmp_path: Path) -> None:
    """Each call that changes the directory is a moment to die at: the next life sees a copy."""

    async def main() -> None:
        async with stage(tmp_path / "stage") as made:
            moments: list[tuple[Path, bytes | None]] = []

            def snapshot(call: Callable[..., object]) -> Callable[..., object]:
                def dying(*arguments: object, **options: object) -> object:
                    copy = tmp_path / f"moment-{len(moments)}"
                    shutil.copytree(made.staging.directory, copy)
                    moments.append((copy, made.content()))
                    return call(*arguments, **options)

                return dying

            with pytest.MonkeyPatch.context() as patch:
                for name in ("fsync", "rename", "unlink"):
                    patch.setattr(staging_module.os, name, snapshot(getattr(os, name)))
                writer = made.open()
                await writer.write(0, b"data")
                await writer.acknowledge()
                acknowledged_at = len(moments)
                await writer.complete()
                await writer.close()
            assert 0 < acknowledged_at < len(moments)
            for number, (moment, there) in enumerate(moments):
                made.bucket.delete(KEY, deadline=0)
                if there is not None:
                    made.put(there)
                again = Staging(str(moment), largest=100, free_bytes=0, free_percent=0)
                with overheard():
                    await recover(again, made.writing)
                assert made.content() in (
                    (b"data",) if number >= acknowledged_at else (None, b"data")
                )
                again.close()

    (tmp_path / "stage").mkdir()
    run(main)


def test_a_damaged_record_is_put_aside_and_stops_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path) as made:
            await acknowledged(made)
            record = tmp_path / "stage-1.json"
            record.write_text(record.read_text().replace("size", "sise", 1))
            next_life(made, tmp_path)
            with overheard() as said:
                assert await recover(made.staging, made.writing) == Recovered()
            assert any("of no use" in line for line in said)
            assert sorted(os.listdir(tmp_path / CONFLICTS)) == ["damaged.1", "damaged.1.json"]

    run(main)


def test_a_directory_is_one_daemons(tmp_path: Path) -> None:
    first = Staging(str(tmp_path), largest=1, free_bytes=0, free_percent=0)
    with pytest.raises(UserError, match="in use by another mount"):
        Staging(str(tmp_path), largest=1, free_bytes=0, free_percent=0)
    first.close()
    Staging(str(tmp_path), largest=1, free_bytes=0, free_percent=0).close()


def test_a_directory_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"temp_dir: .* cannot be used"):
        Staging(str(tmp_path / "none"), largest=1, free_bytes=0, free_percent=0)


def test_a_stage_in_memory_is_warned_about() -> None:
    with overheard() as said:
        directory = Path("/dev/shm/ossfs-test-stage")
        directory.mkdir(exist_ok=True)
        Staging(str(directory), largest=1, free_bytes=0, free_percent=0).close()
        shutil.rmtree(directory)
    assert any("lies in memory (tmpfs)" in line for line in said)


def test_stages_nobody_was_promised_are_gone_at_the_next_start(tmp_path: Path) -> None:
    for name in ("stage-3", "stage-4", "stage-4.json", "stage-5.new", "else"):
        (tmp_path / name).write_text("x")
    staging = Staging(str(tmp_path), largest=1, free_bytes=0, free_percent=0)
    assert sorted(os.listdir(tmp_path)) == [staging_module.LOCK, "else", "stage-4", "stage-4.json"]
    descriptor, path = staging.open()
    assert path.endswith("stage-6")
    os.close(descriptor)
    staging.close()
