"""What a row of the option table is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf, isinf

from ossfs.config.values import READERS, Kind, Value, show_size

YEAR_S = 365 * 24 * 3600
LARGEST_ID = 2**32 - 2
"""2**32 - 1 is (uid_t)-1, which the kernel reads as "no such user"."""


class Group(Enum):
    """Heading an option stands under in the help and the docs."""

    BUCKET = "Bucket"
    CREDENTIALS = "Credentials"
    PERMISSIONS = "Ownership and permissions"
    METADATA = "Metadata caching"
    READING = "Reading"
    CACHING = "Data caching"
    WRITING = "Writing"
    NAMES = "Names and metadata"
    MEMORY = "Memory"
    REQUESTS = "Requests"
    LOGGING = "Logging"
    PROCESS = "Process"


class Dialect(Enum):
    """Programs whose command lines are understood; the first is our own."""

    OSSFS = "ossfs"
    OSSFS1 = "ossfs1"
    OSSFS2 = "ossfs2"
    JINDOFUSE = "jindofuse"


PROGRAMS = {
    Dialect.OSSFS1: "ossfs 1",
    Dialect.OSSFS2: "ossfs 2.0",
    Dialect.JINDOFUSE: "JindoFuse",
}
"""As their makers write them."""


class Stability(Enum):
    """What becomes of an option that is given."""

    STABLE = "stable"
    EXPERIMENTAL = "experimental"
    """Works; its name or meaning may still change."""
    IGNORED = "no effect"
    """Accepted and judged; a line says why it changes nothing."""
    LATER = "not yet"
    """Accepted while it asks for nothing, which its default does; else refused."""


@dataclass(frozen=True, slots=True)
class Option:
    """One row. `name` is ossfs 2.0's name and the field of MountOptions where there is one."""

    name: str
    kind: Kind
    group: Group
    help: str
    default: str = ""
    """As typed; empty where the default is worked out (then `default_note` says how)."""
    default_note: str = ""
    low: float = 0
    high: float = inf
    zero: str = ""
    """What 0 means where 0 is legal although below `low`."""
    minus_one: str = ""
    """What -1 means where it is legal; "off" is read as 0, for other programs write it so."""
    choices: tuple[str, ...] = ()
    environment: str = ""
    names: Mapping[Dialect, tuple[str, ...]] = field(default_factory=dict)
    stability: Stability = Stability.STABLE
    of: Dialect | None = None
    """The program that has it, where we only know its name."""

    @property
    def effective(self) -> bool:
        """It changes something: a mount has a value for it."""
        return self.stability in (Stability.STABLE, Stability.EXPERIMENTAL)

    @property
    def legal(self) -> str:
        """The legal values in words, for messages and docs."""
        match self.kind:
            case Kind.FLAG:
                return "true or false"
            case Kind.CHOICE:
                return " or ".join(self.choices)
            case Kind.MODE:
                return "0000 to 0777, octal"
            case Kind.PATH:
                return "a path"
            case Kind.LOG:
                return "a directory, or syslog"
            case Kind.ENDPOINT:
                return "http://HOST[:PORT] or https://HOST[:PORT]"
            case Kind.PROXY:
                return "http://[USER:PASSWORD@]HOST[:PORT]"
            case Kind.ADDRESSES:
                return "addresses of this machine, with commas between them"
            case Kind.TEXT:
                return "text"
            case Kind.SIZE:
                span = f"{show_size(int(self.low))} to {show_size(int(self.high))}"
            case Kind.RATIO:
                span = f"above {self.low:g}, below {self.high:g}"
            case _:
                span = f"{self.low:.0f} to {self.high:.0f}"
        unit = {Kind.SECONDS: " seconds", Kind.MILLISECONDS: " milliseconds"}.get(self.kind, "")
        return (
            (f"-1 ({self.minus_one}) or " if self.minus_one else "")
            + (f"0 ({self.zero}) or " if self.zero else "")
            + span
            + unit
        )

    @property
    def shown_default(self) -> str:
        return self.default_note or self.default or "none"

    def read(self, text: str) -> Value:
        """Turn the text as typed into the value; ValueError tells why it cannot be."""
        if self.minus_one and text.strip() == "-1":
            return 0 if self.minus_one == "off" else -1
        value = READERS[self.kind](text)
        if self.choices and value not in self.choices:
            raise ValueError("unknown word")
        if self.kind in _RANGED and isinstance(value, int | float):
            if self.zero and value == 0:
                return value
            within = (
                self.low < value < self.high
                if self.kind is Kind.RATIO
                else self.low <= value <= self.high
            )
            if not within:
                raise ValueError("out of range")
        return value

    def nearest(self, text: str) -> str | None:
        """Return the legal value nearest to one that is out of range; None for any other."""
        try:
            self.read(text)
        except ValueError:
            pass
        else:
            return None
        if self.minus_one == "off" and text.startswith("-"):
            return "0"
        try:
            value = READERS[self.kind](text)
        except ValueError:
            return None
        if self.kind not in _RANGED or not isinstance(value, int | float):
            return None
        return f"{min(max(value, self.low), self.high):.0f}"

    def __post_init__(self) -> None:
        if self.kind in _RANGED and isinf(self.high):
            raise ValueError(f"option {self.name} has no upper bound")


_RANGED = frozenset(
    {Kind.INTEGER, Kind.SECONDS, Kind.MILLISECONDS, Kind.SIZE, Kind.MODE, Kind.RATIO}
)
