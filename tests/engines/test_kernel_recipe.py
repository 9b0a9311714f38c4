"""The lab kernel's configuration and changes: that they say what they are for, and under which
licence.
"""

from __future__ import annotations

import re

import pytest

from twlab.engines.kernel import recipe

KERNELS = ("6.1.192", "6.12.117", "6.18", "7.2.12", "7.3.4-rc1")
CHANGES = [pytest.param(change, id=change.name) for change in recipe.changes()]


def test_every_option_has_a_reason_and_stands_once() -> None:
    """One reason a line; `recipe.options` refuses a line without one. A range of kernels is a part
    of the reason.
    """
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
    for release in KERNELS:
        assert len(set(change.files(release))) == len(change.files(release))
        assert (change in recipe.changes_of(release)) == bool(change.files(release))
    assert any(change in recipe.changes_of(release) for release in KERNELS)
    for part in before_each[:-1]:
        assert part.rstrip().splitlines()[-1].endswith("."), part[-200:]


def test_the_digest_is_short_and_stable() -> None:
    """Twelve hexadecimal digits, the same each time: it is part of a file name."""
    assert re.fullmatch("[0-9a-f]{12}", recipe.digest("7.3"))
    recipe.digest.cache_clear()
    first = recipe.digest("7.3")
    recipe.digest.cache_clear()
    assert recipe.digest("7.3") == first


def test_the_digest_changes_with_any_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel built with other options is another kernel; one whose reasons are worded better is
    not.
    """
    recipe.digest.cache_clear()
    before, options = recipe.digest("7.3"), recipe.options()
    for changed, alike in (
        ((*options[:-1], recipe.Option(options[-1].setting, "another reason")), True),
        (options[:-1], False),
        ((*options, recipe.Option("CONFIG_X=y", "more")), False),
    ):
        recipe.digest.cache_clear()
        monkeypatch.setattr(recipe, "options", lambda changed=changed: changed)
        assert (recipe.digest("7.3") == before) == alike
    recipe.digest.cache_clear()


@pytest.mark.parametrize(
    ("limits", "inside", "outside"),
    [
        (recipe.Range(), ["4.9", "6.12.117", "7.10"], []),
        (recipe.Range(since="6.18"), ["6.18", "6.18.44-twlab", "7.3.4"], ["6.17.9", "6.2", "5.99"]),
        (recipe.Range(before="7.3"), ["7.2.12", "6.12", "5.10.223"], ["7.3", "7.3.0-rc1", "7.10", "10.0"]),
    ],
)
def test_a_range_of_kernels(limits: recipe.Range, inside: list[str], outside: list[str]) -> None:
    """By series, as numbers: 7.10 is later than 7.3."""
    assert all(limits.has(release) for release in inside)
    assert not any(limits.has(release) for release in outside)


def test_a_release_without_a_series_is_refused() -> None:
    """A change or an option must not be chosen by chance."""
    with pytest.raises(ValueError, match="next"):
        recipe.series("next")


@pytest.mark.parametrize(
    ("release", "there", "not_there"),
    [
        ("6.1.192", ["net/ipv4/inet_diag.c"], ["net/ipv4/tcp_diag.c"]),
        ("6.12.117", ["net/ipv4/inet_diag.c"], ["net/ipv4/tcp_diag.c"]),
        ("7.2.12", ["net/ipv4/tcp_diag.c"], ["net/ipv4/inet_diag.c"]),
        ("7.3.4", ["net/ipv4/tcp_diag.c"], ["net/ipv4/inet_diag.c"]),
    ],
)
def test_each_kernel_is_given_its_own_sections(release: str, there: list[str], not_there: list[str]) -> None:
    """Of a change that differs between kernels; what is left is a patch like any other, without the
    lines that name the range.
    """
    change = recipe.changes()[0]
    files, text = change.files(release), change.text(release)
    assert set(there) <= set(files)
    assert not set(not_there) & set(files)
    assert "For Linux" not in text
    assert ("const struct ctl_table ipv4_net_table" in text) == (release == "7.3.4")
    assert len(files) == len(recipe.changes()[0].files("6.12"))


def test_each_kernel_is_given_its_own_options() -> None:
    """CONFIG_PROC_SYSCTL became CONFIG_SYSCTL in 7.3."""
    old, new = ({option.name for option in recipe.options_of(release)} for release in ("7.2.12", "7.3.4"))
    assert old ^ new == {"CONFIG_PROC_SYSCTL", "CONFIG_SYSCTL"}
    assert "CONFIG_SYSCTL" in new


def test_kernels_of_one_recipe_have_one_digest() -> None:
    """What does not differ is not built again: editing a section for one range leaves the kernels
    of the others alone.
    """
    assert recipe.digest("6.1") == recipe.digest("6.12.117") != recipe.digest("7.2") != recipe.digest("7.3")
    assert recipe.digest("7.3") == recipe.digest("7.3.4")
