"""The reference is what the docstrings say, and names everything that is public."""

from __future__ import annotations

from functools import cache

import reference

import rawstream

page = cache(reference.page)


def test_the_reference_is_up_to_date() -> None:
    assert reference.PAGE.read_text() == page(), "run python tests/reference.py"


def test_the_reference_names_everything_public_once() -> None:
    names = [name for layer in reference.LAYERS.values() for name in layer]
    assert sorted(names) == sorted([*rawstream.__all__, *rawstream.OF_EXTRAS])


def test_everything_in_the_reference_is_described() -> None:
    for block in page().split("\n\n"):
        assert block.strip(" -`"), "a description is missing"
