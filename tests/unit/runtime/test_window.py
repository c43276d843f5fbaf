"""The window widens where waiting pays, and only there."""

from __future__ import annotations

from ossfs.runtime.window import COMFORT, MINIMUM, WORTHWHILE, Window

MIB = 1 << 20


def drive(window: Window, rate_at: object, seconds: float) -> None:
    """Read at the rate (bytes a second) that `rate_at(window size)` gives, always waiting."""
    now = 0.0
    while now < seconds:
        now += MIB / rate_at(window.size)  # type: ignore[operator]
        window.stalled()
        window.advance(MIB, now)


def test_it_starts_small_and_reaches_comfort_by_reading_on() -> None:
    window = Window(512 * MIB, 0.0)
    assert window.size == MINIMUM
    window.advance(MINIMUM, 0.001)
    window.advance(2 * MINIMUM, 0.002)
    assert window.size == COMFORT
    for turn in range(1000):
        window.advance(MIB, turn)
    assert window.size == COMFORT, "a reader that never waits needs no more"


def test_what_is_comfort_is_never_passed_by_reading_on() -> None:
    window = Window(512 * MIB, 0.0, comfort=18 * MIB)
    for turn in range(1000):
        window.advance(MIB, turn)
    assert window.size == 18 * MIB


def test_latency_widens_it_until_the_rate_stops_growing() -> None:
    window = Window(512 * MIB, 0.0)
    drive(window, lambda size: min(size * 5, 640 * MIB), 20)
    assert window.size * 5 * WORTHWHILE >= 640 * MIB


def test_a_cpu_bound_reader_stays_at_comfort() -> None:
    window = Window(512 * MIB, 0.0)
    sizes = set()

    def rate(size: int) -> int:
        sizes.add(size)
        return 1500 * MIB

    drive(window, rate, 20)
    assert max(sizes) == COMFORT * 3 // 2
    assert window.size == COMFORT


def test_one_burst_does_not_keep_it_small_for_good() -> None:
    window = Window(512 * MIB, 0.0)
    drive(window, lambda size: 100 * MIB, 2)
    window.stalled()
    window.advance(COMFORT * 1000, 1000.0)  # a rate that no wider window reaches
    now = 1000.0
    while now < 1060:
        now += MIB / (window.size * 5)
        window.stalled()
        window.advance(MIB, now)
    assert window.size >= 256 * MIB


def test_waves_are_told_from_speed_by_measuring_over_several() -> None:
    window = Window(512 * MIB, 0.0)
    window.measure = 1.0
    now = 0.0
    sizes = []
    for _ in range(600):
        now += 0.104
        sizes.append(window.size)
        for _mib in range(24):  # so many MiB, whatever the window
            window.stalled()
            window.advance(MIB, now)
    settled = sizes[100:]
    assert sum(size > COMFORT for size in settled) < len(settled) / 4


def test_it_never_passes_its_maximum() -> None:
    window = Window(5 * MIB, 0.0)
    drive(window, lambda size: size, 100)
    assert window.size <= 5 * MIB


def test_a_dip_before_the_trial_makes_no_wider_window_look_good() -> None:
    window = Window(512 * MIB, 0.0)
    now = 0.0
    for measurement in range(200):
        rate = 700 * MIB if measurement % 5 == 4 else 1500 * MIB
        window.stalled()
        for _ in range(max(window.size, rate // 8) // MIB + 1):
            now += MIB / rate
            window.advance(MIB, now)
    assert window.size == COMFORT
