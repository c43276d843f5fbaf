"""A bucket by https: what is written comes back, large and small, and the requests are as many."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import EmulatorProcess
from tests.support.mount import Mount, drop_caches
from tests.support.tls import TlsEmulator, over_tls

MIB = 1 << 20


@pytest.fixture
def encrypted(emulator: EmulatorProcess) -> Iterator[TlsEmulator]:
    with over_tls(emulator) as served:
        yield served


def test_files_large_and_small_are_written_and_read_by_https(
    encrypted: TlsEmulator, tmp_path: Path
) -> None:
    rng = random.Random(1)
    sizes = [1, 4096, 16 * 1024 + 1, 128 * 1024, MIB, 40 * MIB + 123]
    bodies = {f"size-{size}": rng.randbytes(size) for size in sizes}
    with Mount(encrypted, tmp_path / "first", prefix="by-https") as mount:
        for name, body in bodies.items():
            (mount.path / name).write_bytes(body)
    drop_caches()
    with Mount(encrypted, tmp_path / "second", prefix="by-https") as mount:
        assert sorted(path.name for path in mount.path.iterdir()) == sorted(bodies)
        encrypted.clear_requests()
        for name, body in bodies.items():
            assert (mount.path / name).read_bytes() == body
        small = [name for name in bodies if len(bodies[name]) <= 128 * 1024]
        gets = [each["key"] for each in encrypted.requests() if each["method"] == "GET"]
        for name in small:
            assert gets.count(f"by-https/{name}") == 1


def test_a_bucket_whose_certificate_nobody_vouches_for_is_not_mounted(
    encrypted: TlsEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(AssertionError, match="certificate"):
        Mount(encrypted, tmp_path).mount()
