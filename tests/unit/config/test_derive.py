"""Values worked out from others."""

from __future__ import annotations

import pytest

from ossfs.config.derive import memory_limit

MIB = 1024**2
GIB = 1024**3


def test_an_explicit_limit_wins_over_everything() -> None:
    assert memory_limit(200 * MIB, 1 * GIB, 2 * GIB) == 200 * MIB
    assert memory_limit(64 * GIB, None, 1 * GIB) == 64 * GIB


@pytest.mark.parametrize(
    ("cgroup", "ram", "limit"),
    [
        (None, 4 * GIB, 2 * GIB),
        (1 * GIB, 64 * GIB, 512 * MIB),
        (2**63 - 4096, 4 * GIB, 2 * GIB),  # cgroup v1 writes "unlimited" as a huge number
        (None, 512 * GIB, 8 * GIB),
        (None, 100 * MIB, 128 * MIB),
        (64 * MIB, 4 * GIB, 128 * MIB),
    ],
)
def test_without_one_half_of_what_there_is_counts(cgroup: int | None, ram: int, limit: int) -> None:
    assert memory_limit(0, cgroup, ram) == limit


def test_of_a_limited_address_space_buffers_take_a_quarter() -> None:
    assert memory_limit(0, None, 64 * GIB, 4 * GIB) == 1 * GIB
    assert memory_limit(0, 1 * GIB, 64 * GIB, 64 * GIB) == 512 * MIB
    assert memory_limit(0, None, 64 * GIB, 100 * MIB) == 128 * MIB
    assert memory_limit(300 * MIB, None, 64 * GIB, 1 * GIB) == 300 * MIB
