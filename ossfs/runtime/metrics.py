"""Plain counters that everything counts in and `stats` and exporters read.

A counter is a name and a number; adding one is a dict operation on the trio loop
(or, for counters that threads share, an int under the GIL whose loss of one in a
million is of no matter to a gauge).
"""

from __future__ import annotations

from collections import Counter


class Metrics:
    """The counters of one mount."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, name: str, by: int = 1) -> None:
        """Add `by` to the counter `name`."""
        self.counts[name] += by

    def snapshot(self) -> dict[str, int]:
        """Return every counter as it stands."""
        return dict(self.counts)
