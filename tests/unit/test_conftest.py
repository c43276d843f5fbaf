"""The log checker itself: run on small test files by pytest's own test bed."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CHECKER = (Path(__file__).parents[1] / "conftest.py").read_text()


@pytest.fixture
def outcome_of(pytester: pytest.Pytester):
    pytester.makeconftest(CHECKER)

    def run(body: str) -> dict[str, int]:
        pytester.makepyfile("import logging\n\n" + body)
        return pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider").parseoutcomes()

    return run


def test_a_stray_warning_fails_the_test_that_logged_it(outcome_of):
    assert outcome_of(
        "def test_a(): logging.getLogger('ossfs.x').warning('oops')\ndef test_b(): pass\n"
    ) == {"failed": 1, "passed": 1}


def test_an_announced_warning_passes_and_a_missing_one_is_an_error(outcome_of):
    assert outcome_of(
        "def test_a(expect_log):\n"
        "    expect_log('oo.s'); logging.getLogger('ossfs').error('%s!', 'oops')\n"
        "def test_b(expect_log): expect_log('never')\n"
    ) == {"passed": 2, "errors": 1}


def test_other_loggers_and_lower_levels_are_nobodys_business(outcome_of):
    assert outcome_of(
        "def test_a():\n"
        "    logging.getLogger('ossfs').info('fine'); logging.getLogger('other').error('fine')\n"
    ) == {"passed": 1}
