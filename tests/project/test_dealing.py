"""How tests are dealt to the workers of pytest-xdist."""

import ast

from conftest import ROOT
from dealing import CATALOGUE, group

FILES = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests").glob("*/test_*.py"))]


def shares(file: str) -> bool:
    """Whether a file has a fixture that all its tests share."""
    tree = ast.parse((ROOT / file).read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return any("scope='module'" in ast.unparse(mark) for one in functions for mark in one.decorator_list)


def test_what_shares_a_fixture_goes_to_one_worker() -> None:
    """Each file that has one is a group; those that hold something against the catalogue are another.
    All other tests are dealt one by one.
    """
    sharing = [file for file in FILES if shares(file)]
    assert len(sharing) > 8
    assert [file for file in sharing if group(file) != file] == []
    assert [file for file in FILES if group(file) == CATALOGUE] == [
        "tests/observe/test_observe_lab.py",
        "tests/scenarios/test_whole_catalogue.py",
    ]
    assert {group(file) for file in FILES} - {CATALOGUE, *sharing} == {""}


def test_no_group_takes_the_host_engines_catalogue() -> None:
    """It is dealt by scenario, where it is dealt."""
    assert group("tests/scenarios/test_scenarios_live.py") == ""
