"""Tests of the kit: waiting."""

from __future__ import annotations

import time

import pytest

from tests.kit.waiting import until, within


def test_until_returns_what_the_condition_gave() -> None:
    """It is asked again and again, until it gives something true."""
    answers = iter([0, [], None, "found"])
    assert until(lambda: next(answers)) == "found"


@pytest.mark.parametrize("words", ["no luck", lambda: "no luck"], ids=["text", "function"])
def test_until_fails_with_the_words_that_are_given(words: object) -> None:
    """Words that are costly are a function: it is called at the end only."""
    with pytest.raises(AssertionError, match="no luck"):
        until(lambda: False, words, seconds=0.01)  # type: ignore[arg-type]


def test_within_fails_where_the_body_takes_longer() -> None:
    """And nowhere else."""
    with within(60):
        pass
    with pytest.raises(AssertionError, match="may take 0"), within(0):
        time.sleep(0.001)
