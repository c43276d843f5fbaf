"""Which writer a file gets.

Staged where the mount has a stage: any place can be written then. Else appendable for objects that
are so already, and for new and small ones where the user wants that; else sequential.
"""

from __future__ import annotations

from dataclasses import dataclass

from ossfs.store.api import ObjectType
from ossfs.writing.api import Completed, Target, Version, Writer
from ossfs.writing.appending import AppendWriter, suits
from ossfs.writing.context import Writing
from ossfs.writing.sequential import SequentialWriter
from ossfs.writing.staged import StagedWriter
from ossfs.writing.staging import Staging


@dataclass(frozen=True, slots=True)
class Modes:
    """The user's choice; implements vfs.files.Modes."""

    writing: Writing
    staging: Staging | None = None
    appendable: bool = False
    """enable_appendable_object: new files are appendable objects."""
    switch_up_to: int = 0
    """appendable_object_autoswitch_threshold: normal objects up to so many bytes become
    appendable when something is appended to them."""

    @property
    def random(self) -> bool:
        """Whether any place of a file can be written, by several handles."""
        return self.staging is not None

    def open(self, target: Target, base: Version | None, completed: Completed) -> Writer:
        """Return who goes on from `base`, or writes a new object where it is None."""
        if self.staging is not None:
            return StagedWriter(self.writing, self.staging, target, base, completed)
        if base is None:
            appends = self.appendable
        elif base.type is ObjectType.APPENDABLE:
            appends = True
        else:
            appends = self.appendable and suits(base, self.switch_up_to)
        writer = AppendWriter if appends else SequentialWriter
        return writer(self.writing, target, base, completed)
