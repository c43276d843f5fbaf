"""What every test obeys: it is silent, and it leaves nothing behind.

A test fails when a logger of ours, of trio or of asyncio said anything at WARNING or above that
the test did not announce with `expect_log(pattern)`; an announced line that never came fails it
too. Unraisable exceptions, exceptions in threads and ResourceWarnings are errors by pyproject's
filterwarnings; the collection after each test makes them surface at the test that caused them.
"""

from __future__ import annotations

import gc
import logging
import re
import signal
from collections.abc import Callable, Generator
from typing import Any

import hypothesis
import pytest

# Deterministic like every other test, on a machine of any speed, and without a directory of
# its own. (Imported here also because its look at trio's Random fails once that is frozen.)
hypothesis.settings.register_profile("ossfs", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("ossfs")

_LISTENED = ("ossfs", "trio", "asyncio")
_collector_key = pytest.StashKey["_Collector"]()


class _Collector(logging.Handler):
    """Keeps what was logged during one test and what the test had announced."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []
        self.expected: dict[re.Pattern[str], int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.split(".", 1)[0] in _LISTENED:
            self.records.append(record)

    def unannounced(self) -> list[str]:
        """Return, once each, the lines so far that no announced pattern covers."""
        found: list[str] = []
        for record in self.records:
            message = record.getMessage()
            hits = [pattern for pattern in self.expected if pattern.search(message)]
            for pattern in hits:
                self.expected[pattern] += 1
            if not hits:
                found.append(f"unexpected log: {record.levelname} {record.name}: {message}")
        self.records.clear()
        return found

    def missing(self) -> list[str]:
        """Return the announced patterns that no line has matched."""
        return [
            f"expected a log line matching {pattern.pattern!r}, none came"
            for pattern, count in self.expected.items()
            if not count
        ]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store",
        action="append",
        default=[],
        metavar="NAME",
        help="run only this store's tests: memory, faulty, oss-v1, oss-v4, oss, s3 (repeatable)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = config.getoption("--store")
    if not chosen:
        return
    named = re.compile(rf"(?:\[|-)(?:{'|'.join(map(re.escape, chosen))})(?:-|\])")
    kept, left = [], []
    for item in items:
        served = "s3" in chosen and "weed" in getattr(item, "fixturenames", ())
        (kept if served or named.search(item.name) else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


def pytest_configure() -> None:
    # Whoever runs the tests in the background, or under nohup, passes on to every process that
    # they are ignored, and a test then waits in vain for its process to end by one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish(session: pytest.Session) -> None:
    # All that imports made is here to stay: frozen, it costs the collections below nothing.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    collector = item.stash[_collector_key] = _Collector()
    root = logging.getLogger()
    root.addHandler(collector)
    try:
        return (yield)
    finally:
        root.removeHandler(collector)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    result = yield
    gc.collect()
    _complain(item.stash[_collector_key].unannounced())
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    result = yield
    collector = item.stash[_collector_key]
    _complain(collector.unannounced() + collector.missing())
    return result


def _complain(complaints: list[str]) -> None:
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)


@pytest.fixture
def expect_log(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Announce that a line matching a regular expression will be logged at WARNING or above."""
    collector = request.node.stash[_collector_key]

    def expect(pattern: str) -> None:
        collector.expected.setdefault(re.compile(pattern), 0)

    return expect
