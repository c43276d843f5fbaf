"""What a process has used so far, as /proc has it; anybody may look."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_KIB = re.compile(r"(\w+):\s+(\d+) kB")


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process and the children it has waited for.

    Its own to the nanosecond, theirs in ticks.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    # The clock that clock_getcpuclockid(3) gives, for which Python has no name.
    own = time.clock_gettime((~pid << 3) | 2)
    return own + sum(map(int, fields[13:15])) / _TICK


def peak_memory(pid: int) -> int:
    """Return the most bytes that have been resident, with the shared memory there is now."""
    fields = dict(_KIB.findall(Path(f"/proc/{pid}/status").read_text()))
    return (int(fields["VmHWM"]) + int(fields["RssShmem"])) * 1024
