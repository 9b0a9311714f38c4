"""The lab kernel's configuration and changes: that they say what they are for, and under which
licence.
"""

from __future__ import annotations

import re

import pytest

from twlab.engines.kernel import recipe

CHANGES = [pytest.param(change, id=change.name) for change in recipe.changes()]


def test_every_option_has_a_reason_and_stands_once() -> None:
    """One reason a line; `recipe.options` refuses a line without one."""
    names = [option.name for option in recipe.options()]
    assert len(names) == len(set(names)) > 100
    assert all(len(option.reason) > 3 for option in recipe.options())


@pytest.mark.parametrize(
    ("setting", "lines", "took"),
    [
        ("CONFIG_NET=y", {"CONFIG_NET=y"}, True),
        ("CONFIG_NET=y", {"CONFIG_NET=m"}, False),
        ("CONFIG_NET=y", {"# CONFIG_NET is not set"}, False),
        ("CONFIG_NET=y", set(), False),
        ("# CONFIG_NET is not set", {"# CONFIG_NET is not set"}, True),
        ("# CONFIG_NET is not set", set(), True),
        ("# CONFIG_NET is not set", {"CONFIG_NET=y"}, False),
        ("# CONFIG_NET is not set", {"CONFIG_NETDEVICES=y"}, True),
    ],
)
def test_an_option_took_or_did_not(setting: str, lines: set[str], took: bool) -> None:
    """What is to be on must be there as it was asked for; what is to be off may be unknown to a
    kernel.
    """
    assert recipe.Option(setting, "reason").took(lines) == took


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_names_its_licence_and_its_subject(change: recipe.Change) -> None:
    """The kernel's own licence, and one line on what it is."""
    text = change.path.read_text()
    assert text.startswith("# SPDX-License-Identifier: GPL-2.0-only\nSubject: ")
    assert 10 < len(change.subject) < 100


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_says_why_before_it_says_what(change: recipe.Change) -> None:
    """Each file's part is preceded by a sentence, and each file is changed once."""
    text = change.path.read_text()
    before_each = re.split(r"^--- a/.*\n\+\+\+ b/.*\n", text, flags=re.MULTILINE)
    assert len(before_each) == len(change.files) + 1
    assert len(set(change.files)) == len(change.files)
    for part in before_each[:-1]:
        assert part.rstrip().splitlines()[-1].endswith("."), part[-200:]


def test_the_digest_is_short_and_stable() -> None:
    """Twelve hexadecimal digits, the same each time: it is part of a file name."""
    assert re.fullmatch("[0-9a-f]{12}", recipe.digest())
    recipe.digest.cache_clear()
    first = recipe.digest()
    recipe.digest.cache_clear()
    assert recipe.digest() == first


def test_the_digest_changes_with_any_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel built with other options is another kernel; one whose reasons are worded better is
    not.
    """
    recipe.digest.cache_clear()
    before, options = recipe.digest(), recipe.options()
    for changed, alike in (
        ((*options[:-1], recipe.Option(options[-1].setting, "another reason")), True),
        (options[:-1], False),
        ((*options, recipe.Option("CONFIG_X=y", "more")), False),
    ):
        recipe.digest.cache_clear()
        monkeypatch.setattr(recipe, "options", lambda changed=changed: changed)
        assert (recipe.digest() == before) == alike
    recipe.digest.cache_clear()
