"""Bytes: ordinary tools read what the bucket holds, however they read."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import oss2
import pytest

from ossfs.emulator.storage import Storage
from tests.mount.conftest import MountMaker
from tests.support.emulator import EmulatorProcess
from tests.support.mount import Mount, drop_caches, python, run
from tests.support.weed import WeedProcess

MIB = 1 << 20


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree on disk: the standard library, a file of 1 GiB, awkward sizes and names."""
    root = tmp_path_factory.mktemp("source")
    library = Path(sysconfig.get_path("stdlib"))
    run(
        "cp", "-rL", library, root / "library", check=False
    )  # a distribution may hold dangling links
    for unwanted in ("site-packages", "dist-packages", "test"):
        run("rm", "-rf", root / "library" / unwanted)
    rng = random.Random(7)
    (root / "large").write_bytes(rng.randbytes(96 * MIB + 12_345))
    with (root / "gib").open("wb") as gib:  # no two pages alike: misplaced bytes are found
        piece = rng.randbytes(16 * MIB)
        for turn in range(64):
            cut = turn * 65_537
            gib.write(piece[cut:])
            gib.write(piece[:cut])
    (root / "empty").touch()
    with (root / "sparse").open("wb") as sparse:
        sparse.truncate(20 * MIB)
        sparse.seek(9 * MIB + 1)
        sparse.write(b"in the middle of nothing")
    odd = root / "odd names"
    odd.mkdir()
    for name in ("a b", "#", "%41", "+", "?", "größe 大小", "new\nline", "n" * 255):
        (odd / name).write_bytes(name.encode() * 10)
    for size in (1, 4095, 4096, 131_071, 131_072, 131_073, MIB - 1, MIB, MIB + 1, 8 * MIB + 1):
        (root / f"size-{size}").write_bytes(rng.randbytes(size))
    return root


@pytest.fixture(scope="module")
def emulator_of_source(source: Path, tmp_path_factory: pytest.TempPathFactory) -> EmulatorProcess:
    data = tmp_path_factory.mktemp("data")
    with Storage(data, fast_etags=True) as storage:
        storage.bucket("test-bucket", create=True).import_tree(source)
    with EmulatorProcess(data, fast_etags=True) as emulator:
        yield emulator  # type: ignore[misc]


@pytest.fixture(scope="module")
def weed_of_source(source: Path, weed: WeedProcess) -> WeedProcess:
    """SeaweedFS with the source tree, put there by minio."""
    client = weed.client()
    weed.make_bucket("source")

    def put(file: Path) -> None:
        client.fput_object(
            bucket_name="source",
            object_name=str(file.relative_to(source)),
            file_path=str(file),
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, [path for path in source.rglob("*") if path.is_file()]))
    return weed


@pytest.fixture(params=["raised", "pushed", "s3"])
def tree(
    request: pytest.FixtureRequest, emulator_of_source: EmulatorProcess, tmp_path: Path
) -> Path:
    """The source tree mounted, with readahead raised or with pages pushed, or from SeaweedFS."""
    if request.param == "s3":
        weed = request.getfixturevalue("weed_of_source")
        with Mount(weed, tmp_path / "tree", bucket="source") as mounted:
            yield mounted.path  # type: ignore[misc]
        return
    pushed = request.param == "pushed"
    option = "read_ahead_kb=0" if pushed else "read_ahead_kb=8192"
    with Mount(emulator_of_source, tmp_path / "tree", option) as mounted:
        assert (readahead_of(mounted) == 8192) is not pushed
        drop_caches()
        run("cat", mounted.path / "large")
        assert (mounted.statistics().get("pushed_bytes", 0) > 0) is pushed
        yield mounted.path  # type: ignore[misc]


def readahead_of(mounted: Mount) -> int:
    """Return what the kernel reads ahead on a mount, in KiB."""
    device = os.stat(mounted.path).st_dev
    bdi = f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}"
    return int(Path(bdi, "read_ahead_kb").read_text())


def test_the_tree_equals_its_source(tree: Path, source: Path) -> None:
    assert run("diff", "-r", source, tree, seconds=120).stdout == b""


def test_checksums_archives_and_searches_agree(tree: Path, source: Path) -> None:
    sums = run(
        "sh",
        "-c",
        "find . -type f ! -name gib -exec sha256sum {} +",  # diff has read that one
        cwd=source,
    )
    checked = subprocess.run(
        ["sha256sum", "-c", "--quiet"], input=sums.stdout, cwd=tree, timeout=120, check=False
    )
    assert checked.returncode == 0
    names = [
        run("sh", "-c", "find . | LC_ALL=C sort", cwd=place).stdout for place in (source, tree)
    ]
    assert names[0] == names[1]
    found = [
        run("sh", "-c", "grep -rna --exclude=gib 'class Path' . | LC_ALL=C sort", cwd=place).stdout
        for place in (source, tree)
    ]
    assert found[0] == found[1] != b""
    packed = [
        hashlib.sha256(
            run(
                "sh",
                "-c",
                "tar c --sort=name --mtime=@0 --mode=600 --owner=0 --group=0 --exclude=gib .",
                cwd=place,
            ).stdout
        ).digest()
        for place in (source, tree)
    ]
    assert packed[0] == packed[1]


def test_python_imports_from_the_mount(tree: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True\n"
        "for name in ('json', 'email', 'textwrap'): sys.modules.pop(name, None)\n"
        "import textwrap; print(textwrap.__file__); print(textwrap.fill('a b', 1))"
    )
    done = python(script, tree / "library").stdout.decode().splitlines()
    assert done == [str(tree / "library" / "textwrap.py"), "a", "b"]


READS = """
import mmap, os, random, sys
wanted, path, seed = open(sys.argv[1], "rb").read(), sys.argv[2], int(sys.argv[3])
rng = random.Random(seed)
fd = os.open(path, os.O_RDONLY)
size = len(wanted)
for _ in range(300):
    how = rng.randrange(4)
    at = rng.randrange(size + 1)
    length = rng.choice([1, 4096, 65536, 1 << 20, 3 << 20])
    if how == 0:
        at = at // 4096 * 4096
    elif how == 1:
        at = min(at, size - length) if size > length else 0
    for _ in range(rng.randrange(1, 6)):
        data = os.pread(fd, length, at)
        assert data == wanted[at:at + length], (at, length, len(data))
        at += length
with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as view:
    for _ in range(200):
        at = rng.randrange(size)
        assert view[at:at + 70000] == wanted[at:at + 70000]
    assert view[:] == wanted
"""


@pytest.mark.parametrize("name", ["large", "size-8388609", "size-131073", "sparse"])
def test_random_mixed_and_mapped_reads_give_the_right_bytes(
    tree: Path, source: Path, name: str
) -> None:
    for seed in range(2):
        drop_caches()
        python(READS, source / name, tree / name, str(seed))


def test_one_file_read_by_eight_processes_is_right_in_each(tree: Path, source: Path) -> None:
    drop_caches()
    readers = [
        subprocess.Popen(["sha256sum", tree / "large"], stdout=subprocess.PIPE) for _ in range(8)
    ]
    sums = {reader.communicate(timeout=60)[0].split()[0].decode() for reader in readers}
    assert sums == {hashlib.sha256((source / "large").read_bytes()).hexdigest()}


def test_every_byte_of_a_sequential_read_is_fetched_once(
    emulator_of_source: EmulatorProcess, source: Path, tmp_path: Path
) -> None:
    with Mount(emulator_of_source, tmp_path / "once") as mounted:
        run("cat", mounted.path / "large")
        size = (source / "large").stat().st_size
        # On a busy machine READs of the first readahead overtake each other, and a block or two
        # are fetched again.
        assert size <= mounted.statistics()["bytes_read"] <= size + (8 << 20)
        emulator_of_source.clear_requests()
        run("cat", mounted.path / "large")
        # From the page cache, but for pages that a machine short of memory has taken back.
        again = sum(r["bytes"] for r in emulator_of_source.requests() if r["method"] == "GET")
        assert again < size // 2


def test_random_reads_fetch_what_they_ask_for_and_start_no_window(
    emulator_of_source: EmulatorProcess, tmp_path: Path
) -> None:
    script = (
        "import os, sys, random\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY); rng = random.Random(1)\n"
        "os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)\n"
        "for _ in range(100): assert len(os.pread(fd, 4096, rng.randrange(24000) * 4096)) == 4096"
    )
    with Mount(emulator_of_source, tmp_path / "random") as mounted:
        python(script, mounted.path / "large")
        assert mounted.statistics()["bytes_read"] <= 100 * 4096 + MIB


MANY = """
import concurrent.futures, os, sys, zlib
path, offset, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def read(number):
    with open(f"{path}/{number:05d}", "rb") as file:
        data = file.read()
    assert data == (b"%05d" % number) * 26214 + b"..", (number, len(data))
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    list(pool.map(read, range(offset, 3000, step)))
"""


def test_sixty_four_readers_of_three_thousand_files_get_every_byte(tmp_path: Path) -> None:
    with Storage(tmp_path / "data", fast_etags=True) as storage:
        bucket = storage.bucket("test-bucket", create=True)
        with bucket.batch():
            for number in range(3000):
                bucket.put_bytes(b"%05d" % number, (b"%05d" % number) * 26214 + b"..")
    with (
        EmulatorProcess(tmp_path / "data", fast_etags=True) as emulator,
        Mount(emulator, tmp_path / "many") as mounted,
    ):
        run("ls", "-l", mounted.path)
        readers = [
            subprocess.Popen([sys.executable, "-I", "-c", MANY, mounted.path, str(part), "4"])
            for part in range(4)
        ]
        assert [reader.wait(90) for reader in readers] == [0, 0, 0, 0]
        gets = [r for r in emulator.requests() if r["method"] == "GET" and r["range"]]
        assert len(gets) == 3000


def test_many_streams_stay_within_the_memory_limit(
    emulator_of_source: EmulatorProcess, source: Path, tmp_path: Path
) -> None:
    with Mount(emulator_of_source, tmp_path / "tight", "total_mem_limit=128M") as mounted:
        resting = mounted.memory()
        script = (
            "import os, sys, concurrent.futures\n"
            "def read(part):\n"
            "    fd = os.open(sys.argv[1], os.O_RDONLY)\n"
            "    for at in range(part << 20, (part + 24) << 20, 1 << 20):\n"
            "        assert len(os.pread(fd, 1 << 20, at)) == 1 << 20\n"
            "with concurrent.futures.ThreadPoolExecutor(64) as pool:\n"
            "    list(pool.map(read, range(64)))\n"
        )
        drop_caches()
        python(script, mounted.path / "large")
        assert mounted.memory() - resting < 128 * MIB
        statistics = mounted.statistics()
        assert statistics["budget_peak"] <= statistics["budget_limit"]


def test_a_symlink_object_is_read_through(bucket: oss2.Bucket, mount: MountMaker) -> None:
    target = os.urandom(300_000)
    bucket.put_object("target", target)
    bucket.put_symlink("target", "link")
    bucket.put_symlink("nowhere", "dangling")
    path = mount().path
    assert run("cat", path / "link").stdout == target
    assert b"link" in run("ls", "-l", path, check=False).stdout  # it complains of the dangling one
    assert run("stat", "-c", "%s", path / "link").stdout == b"300000\n"
    drop_caches()
    assert run("cat", path / "link").stdout == target
    assert run("cat", path / "dangling", check=False).returncode != 0
    bucket.put_object("target", b"changed")
    done = run("cat", path / "link", check=False)
    assert done.stdout in (b"changed", target) or b"Stale" in done.stderr
    assert run("cat", path / "link").stdout in (b"changed", target)


def test_opening_and_closing_in_a_tight_loop_leaves_nothing(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    bucket.put_object("file", b"x" * 200_000)
    mounted = mount()
    script = (
        "import os, sys\n"
        "for n in range(2000):\n"
        "    fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "    if n % 3 == 0: assert len(os.read(fd, 300000)) == 200000\n"
        "    os.close(fd)"
    )
    before = mounted.statistics()
    python(script, mounted.path / "file")
    after = mounted.statistics()
    assert after["budget_used"] == before["budget_used"]
    assert after["requests"]["get_range_into"] == 1
