"""What was acknowledged and not finished is uploaded by the next mount, or kept; never lost."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ossfs.runtime.failure import UserError
from ossfs.store.errors import Denied, Unavailable
from ossfs.store.plan import LoseReply, Raise, Rule
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
            kept, *record = sorted((tmp_path / CONFLICTS).iterdir())
            assert re.fullmatch(r"key\.[0-9]{8}T[0-9]{6}Z\.1", kept.name)
            assert kept.read_bytes()[: 30 * KIB] == NEW[: 30 * KIB]
            # Of the old one not all bytes are here: what is, only the record tells.
            assert [path.suffix for path in record] == ([".json"] if over else [])
            assert over or kept.read_bytes() == NEW
            assert any(str(kept) in line and repr(KEY) in line for line in said)
            next_life(made, tmp_path)
            assert await recover(made.staging, made.writing) == Recovered()
            assert kept.exists()

    run(main)


@pytest.mark.parametrize("planted", ["both", "a record", "a link", "a hard link"])
def test_what_another_user_has_put_there_is_left_alone(tmp_path: Path, planted: str) -> None:
    async def main() -> None:
        directory = tmp_path / "stages"
        directory.mkdir()
        async with stage(directory) as made:
            await acknowledged(made)
            (record,) = directory.glob("*.json")
            staged = record.with_suffix("")
            secret = tmp_path / "secret"
            if planted == "a link":
                staged.rename(secret)
                staged.symlink_to(secret)
            elif planted == "a hard link":
                os.link(staged, secret)
            else:
                os.chown(record, 65534, 65534)
            if planted == "both":
                os.chown(staged, 65534, 65534)
            next_life(made, directory)
            with overheard() as said:
                assert await recover(made.staging, made.writing) == Recovered()
            assert made.content() is None
            assert any("not this user's own file" in line for line in said)
            assert record.exists()
            assert staged.exists()

    run(main)


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\xc2\x85b", b"a\rb"])
def test_a_mount_point_of_somebody_may_have_any_name(tmp_path: Path, name: bytes) -> None:
    device = os.stat(tmp_path).st_dev
    place = f"{os.major(device)}:{os.minor(device)}".encode()
    told = tmp_path / "mountinfo"
    told.write_bytes(
        b"29 21 0:25 / /srv/%s rw - ext4 /dev/vdb rw\n" % name
        + b"30 21 %s / / rw - tmpfs tmpfs rw\n" % place
    )
    assert staging_module._file_system(str(tmp_path), str(told)) == "tmpfs"


def test_a_record_is_written_through_no_link(tmp_path: Path) -> None:
    async def main() -> None:
        directory = tmp_path / "stages"
        directory.mkdir()
        victim = tmp_path / "victim"
        victim.write_text("precious")
        async with stage(directory) as made:
            (directory / "stage-ossfs-1.new").symlink_to(victim)
            await acknowledged(made)
            assert (directory / "stage-ossfs-1.json").exists()
        assert victim.read_text() == "precious"

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
            assert sorted(os.listdir(tmp_path)) == [
                staging_module.LOCK,
                "stage-ossfs-1",
                "stage-ossfs-1.json",
            ]
            await writer.complete()
            assert sorted(os.listdir(tmp_path)) == [staging_module.LOCK, "stage-ossfs-1"]
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
                    patch.setattr(os, name, snapshot(getattr(os, name)))
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
            record = tmp_path / "stage-ossfs-1.json"
            record.write_text(record.read_text().replace("size", "sise", 1))
            next_life(made, tmp_path)
            with overheard() as said:
                assert await recover(made.staging, made.writing) == Recovered()
            assert any("of no use" in line for line in said)
            kept, record = sorted((tmp_path / CONFLICTS).iterdir())
            assert kept.name.startswith("damaged.")
            assert record.name == f"{kept.name}.json"

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
    for name in (
        "stage-ossfs-3",
        "stage-ossfs-4",
        "stage-ossfs-4.json",
        "stage-ossfs-5.new",
        "else",
    ):
        (tmp_path / name).write_text("x")
    staging = Staging(str(tmp_path), largest=1, free_bytes=0, free_percent=0)
    assert sorted(os.listdir(tmp_path)) == [
        staging_module.LOCK,
        "else",
        "stage-ossfs-4",
        "stage-ossfs-4.json",
    ]
    descriptor, path = staging.open()
    assert path.endswith("stage-ossfs-6")
    os.close(descriptor)
    staging.close()


@pytest.mark.parametrize("size", [0, 3, 20 * KIB], ids=["all of it", "most of it", "some of it"])
def test_a_cut_after_the_acknowledgement_leaves_one_of_the_two_never_zeros(
    tmp_path: Path, size: int
) -> None:
    async def main() -> None:
        async with stage(tmp_path) as made:
            writer = made.open()
            await writer.write(0, NEW)
            await writer.acknowledge()
            await writer.truncate(size)
            await writer.write(0, b"new")
            writer.let_go()
            next_life(made, tmp_path)
            assert await recover(made.staging, made.writing) == Recovered(uploaded=1)
            content = made.content()
            assert content is not None
            # What was written after it may be there: it is no shorter than the cut made it.
            assert content[3:] == NEW[3 : max(size, 3)][: len(content) - 3]
            assert len(content) == size

    run(main)


def test_a_crash_at_any_moment_of_a_cut_leaves_what_was_acknowledged_or_the_cut(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with stage(tmp_path / "stage") as made:
            moments: list[Path] = []

            def snapshot(call: Callable[..., object]) -> Callable[..., object]:
                def dying(*arguments: object, **options: object) -> object:
                    moments.append(tmp_path / f"moment-{len(moments)}")
                    shutil.copytree(made.staging.directory, moments[-1])
                    return call(*arguments, **options)

                return dying

            writer = made.open(made.put(OLD))
            await writer.write(0, b"acknowledged")
            await writer.acknowledge()
            with pytest.MonkeyPatch.context() as patch:
                for name in ("fsync", "rename", "ftruncate"):
                    patch.setattr(os, name, snapshot(getattr(os, name)))
                await writer.truncate(5)
            writer.let_go()
            assert len(moments) >= 4
            for moment in moments:
                made.put(OLD)
                again = Staging(str(moment), largest=1 << 40, free_bytes=0, free_percent=0)
                assert await recover(again, made.writing) == Recovered(uploaded=1)
                assert made.content() in (b"ackno", b"acknowledged" + OLD[12:])
                again.close()

    (tmp_path / "stage").mkdir()
    run(main)


@pytest.mark.parametrize("size", [10, 40 * KIB], ids=["put", "multipart"])
@pytest.mark.parametrize("over", ["nothing", "replaced", "changed"])
def test_what_a_user_of_the_new_mount_writes_meanwhile_is_not_overwritten(
    tmp_path: Path, over: str, size: int
) -> None:
    async def main() -> None:
        async with stage(tmp_path) as made:
            base = made.put(OLD) if over != "nothing" else None
            writer = made.open(base)
            if over == "replaced":
                await writer.truncate(0)
            await writer.write(0, NEW[:size])
            await writer.acknowledge()
            writer.let_go()
            next_life(made, tmp_path)
            op = "put" if size == 10 else "create_upload"
            with pytest.MonkeyPatch.context() as patch, overheard() as said:
                if over == "nothing":
                    patch.setattr(made.bucket, op, meanwhile(made, getattr(made.bucket, op)))
                else:
                    patch.setattr(made.bucket, "head", after(1, made, made.bucket.head))
                assert await recover(made.staging, made.writing) == Recovered(conflicts=1)
            assert made.content() == b"the user's"
            assert any(repr(KEY) in line for line in said)

    run(main)


def meanwhile(made: Staged, call: Callable[..., object]) -> Callable[..., object]:
    """Let a user write the object right before a request."""
    return after(0, made, call)


def after(count: int, made: Staged, call: Callable[..., object]) -> Callable[..., object]:
    """Let a user write the object before the request that comes after `count` others."""
    left = [count]
    put = made.bucket.put

    def late(*arguments: Any, **options: Any) -> object:
        left[0] -= 1
        if left[0] == -1:
            put(KEY, [b"the user's"], deadline=0)
        return call(*arguments, **options)

    return late


def test_an_upload_that_the_former_life_ended_is_known_though_not_all_of_it_is_here(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with stage(tmp_path) as made:
            writer = made.open(made.put(OLD))
            await writer.write(0, b"new")
            await writer.acknowledge()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(made.staging, "forget", lambda stage: None)  # it dies before
                await writer.complete()
            writer.let_go()
            next_life(made, tmp_path)
            assert await recover(made.staging, made.writing) == Recovered(uploaded=1)
            assert made.content() == b"new" + OLD[3:]
            assert os.listdir(tmp_path) == [staging_module.LOCK]

    run(main)


def test_a_new_file_whose_reply_was_lost_is_known_as_ours(tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path) as made:
            writer = made.open()
            await writer.write(0, b"data")
            await writer.acknowledge()
            writer.let_go()
            next_life(made, tmp_path)
            made.store.add(Rule("put", LoseReply(Unavailable("by plan"))))
            with overheard():
                assert await recover(made.staging, made.writing) == Recovered(uploaded=1)
            assert made.content() == b"data"
            assert os.listdir(tmp_path) == [staging_module.LOCK]

    run(main)


def test_another_buckets_files_wait_for_it(tmp_path: Path) -> None:
    def of(bucket: str) -> Staging:
        return Staging(str(tmp_path), largest=1 << 40, free_bytes=0, free_percent=0, bucket=bucket)

    async def main() -> None:
        async with stage(tmp_path) as made:
            for bucket, seen in (
                ("mine", None),
                ("other", Recovered(left=1)),
                ("mine", Recovered(uploaded=1)),
            ):
                made.staging.close()
                made.staging = of(bucket)
                if seen is None:
                    await acknowledged(made)
                    continue
                with overheard() as said:
                    assert await recover(made.staging, made.writing) == seen
                assert made.content() == (NEW if seen.uploaded else None)
                assert seen.uploaded or any("belongs to the bucket mine" in line for line in said)

    run(main)


def test_a_conflict_file_is_as_long_as_the_file_was(tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path) as made:
            writer = made.open()
            await writer.write(0, b"data")
            await writer.truncate(100)
            await writer.acknowledge()
            writer.let_go()
            made.put(b"somebody else's")
            next_life(made, tmp_path)
            with overheard():
                assert await recover(made.staging, made.writing) == Recovered(conflicts=1)
            (kept,) = (tmp_path / CONFLICTS).iterdir()
            assert kept.read_bytes() == b"data" + bytes(96)

    run(main)


def test_a_conflict_file_of_which_only_ranges_are_here_keeps_its_record(tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path) as made:
            await acknowledged(made, over=OLD)
            made.put(b"somebody else's")
            next_life(made, tmp_path)
            with overheard() as said:
                assert await recover(made.staging, made.writing) == Recovered(conflicts=1)
            kept, record = sorted((tmp_path / CONFLICTS).iterdir())
            assert any(f"only the ranges that {record} tells" in line for line in said)
            content = json.loads(json.loads(record.read_text())["record"])
            assert content["dirty"] == [[0, 30 * KIB]]
            assert kept.read_bytes() == NEW[: 30 * KIB]

    run(main)


def test_an_unlinked_file_has_nothing_to_recover(tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path) as made:
            writer = made.open()
            await writer.write(0, b"data")
            await writer.acknowledge()
            await writer.discard()
            await writer.acknowledge()
            writer.let_go()
            next_life(made, tmp_path)
            assert await recover(made.staging, made.writing) == Recovered()
            assert made.content() is None
            assert os.listdir(tmp_path) == [staging_module.LOCK]

    run(main)


def test_an_upload_that_fails_for_good_leaves_it_to_the_next_mount(tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(tmp_path) as made:
            writer = made.open()
            await writer.write(0, NEW)
            await writer.acknowledge()
            made.store.add(Rule("upload_part", Raise(Denied("by plan")), times=None))
            with overheard(), pytest.raises(Denied):
                await writer.complete()
            await writer.close()
            made.store.heal()
            next_life(made, tmp_path)
            assert await recover(made.staging, made.writing) == Recovered(uploaded=1)
            assert made.content() == NEW

    run(main)
