"""The shape of the project, held against docs/develop/architecture.md: packages, imports, clocks,
sizes.
"""

import ast
import graphlib
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

import twlab

PAGE = ROOT / "docs" / "develop" / "architecture.md"
# What the table of packages does not list: the public interface, and the two files that start the
# command line.
FACE, STARTERS = "twlab", {"twlab.cli", "twlab.__main__"}
# The libraries that reach into the network, and the one module that imports each, or each part of
# it.
IMPORTERS = {
    "mininet.cli": "twlab/shell/mininet_verbs.py",
    "mininet.log": "twlab/shell/mininet_verbs.py",
    "mininet.net": "twlab/shell/mininet_verbs.py",
    "mininet.topo": "twlab/network/topology.py",
    "mininet": "twlab/network/nodes.py",
    "pyroute2": "twlab/linux/rtnetlink.py",
    "scapy": "twlab/wire/craft.py",
    "netfilterqueue": "twlab/linux/nfqueue.py",
}
HEAVY = sorted({library.split(".")[0] for library in IMPORTERS})
LONGEST_MODULE, LONGEST_FUNCTION = 400, 60

PRODUCT = sorted(path for folder in ("twlab", "topologies") for path in (ROOT / folder).rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def dotted(path: Path) -> str:
    """The name by which `path` is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {dotted(path): path for path in PRODUCT if path.is_relative_to(ROOT / "twlab")}


@cache
def allowed() -> dict[str, set[str]]:
    """The table in docs/develop/architecture.md: package to the packages that it may import;
    ``top`` is the top level.
    """
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", PAGE.read_text(), re.MULTILINE)
    return {package: set(re.findall(r"`(\w+)`", row)) for package, row in rows}


def package(name: str) -> str:
    """The row of the table that the module `name` belongs to; ``twlab`` for the public interface."""
    parts = name.split(".")
    if len(parts) == 1:
        return FACE
    return parts[1] if len(parts) > 2 or (ROOT / "twlab" / parts[1]).is_dir() else "top"


@cache
def imports(path: Path, *, types: bool = True) -> tuple[str, ...]:
    """The full dotted names that `path` imports, wherever in it; without `types`, only those that
    run.
    """
    return tuple(_imports(path, types))


def _imports(path: Path, types: bool) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    guarded = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    for_types = {id(inner) for node in guarded for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if not types and id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path, *, types: bool = True) -> set[str]:
    """The modules of twlab that `path` imports."""
    found = set()
    for name in imports(path, types=types):
        while name not in MODULES and "." in name:
            name = name.rpartition(".")[0]
        if name in MODULES:
            found.add(name)
    return found


def in_product(*folders: str) -> list[object]:
    return [pytest.param(path, id=relative(path)) for path in PRODUCT if path.is_relative_to(ROOT.joinpath(*folders))]


def test_the_table_names_every_package_once() -> None:
    """docs/develop/architecture.md has a row for each package that there is, and for no other."""
    there = {package(name) for name in MODULES if name not in STARTERS} - {FACE}
    assert there == set(allowed())
    assert set().union(*allowed().values()) <= there | {FACE}


@pytest.mark.parametrize("path", in_product("twlab"))
def test_imports_are_those_of_the_table(path: Path) -> None:
    """A module imports from its own package, and from those that the table names beside it; type
    hints count too.
    """
    name = dotted(path)
    home = package(name)
    if home == FACE or name in STARTERS:
        return
    strangers = {other for other in own_imports(path) if package(other) not in {home, *allowed()[home]}}
    assert not strangers, (
        f"{relative(path)}: docs/develop/architecture.md does not let {home} import {', '.join(sorted(strangers))}"
    )


def test_no_package_and_no_file_is_in_a_circle_of_imports() -> None:
    """Neither the packages of the table nor the files import each other in a circle, types included."""
    graphlib.TopologicalSorter({home: others - {FACE} for home, others in allowed().items()}).prepare()
    files = {
        name: own_imports(path, types=False) - {name} for name, path in MODULES.items() if package(name) != "scenarios"
    }
    graphlib.TopologicalSorter(files).prepare()


@pytest.mark.parametrize("path", in_product("twlab"))
def test_nobody_imports_an_agent(path: Path) -> None:
    """What runs inside an engine is named by its caller, never imported by what runs outside."""
    home = dotted(path).rpartition(".")[0]
    agents = {name for name in own_imports(path) if name.endswith(".agent") and name.rpartition(".")[0] != home}
    assert not agents


def test_module_names_in_strings_can_be_imported() -> None:
    """A module that a string names, to be started or loaded by name, is there."""
    for path in (*PRODUCT, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").glob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
                continue
            if re.fullmatch(r"twlab(\.[a-z_0-9]+)+", node.value):
                assert resolves(node.value), f"{relative(path)}:{node.lineno} names {node.value}"


def test_references_in_prose_lead_somewhere() -> None:
    """`twlab.x.y` between backticks, in docstrings, comments and pages, is a module or something in
    one.
    """
    for path in (*PRODUCT, ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        if path.name == "decisions.md":
            continue  # each entry names things as they were on its day
        for name in re.findall(r"`(twlab(?:\.\w+)+)`", path.read_text()):
            assert resolves(name), f"{relative(path)} refers to {name}"


def resolves(name: str) -> bool:
    """Whether `name` is a module of twlab, or an attribute of one, however deep."""
    module = name
    while module not in MODULES:
        module = module.rpartition(".")[0]
    found: object = importlib.import_module(module) if module != "twlab.__main__" else None
    for part in name[len(module) :].split(".")[1:]:
        if not hasattr(found, part):
            return (
                isinstance(found, type)
                and re.search(rf"\bself\.{part}\b|^    {part}:", inspect.getsource(found), re.MULTILINE) is not None
            )
        found = getattr(found, part)
    return True


def test_each_library_has_one_importer() -> None:
    """Of the libraries that reach into the network each, or each part, is imported by one module
    only.
    """
    for path in PRODUCT:
        for name in imports(path, types=False):
            library = next((library for library in IMPORTERS if f"{name}.".startswith(f"{library}.")), None)
            assert library is None or relative(path) == IMPORTERS[library], f"{relative(path)} imports {name}"


def test_importing_twlab_is_light_and_gives_the_public_names() -> None:
    """`import twlab` loads none of the four libraries, and what it offers is `__all__`, sorted, no
    more and no less.
    """
    script = f"import sys, twlab; print([name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert loaded.strip() == "[]"
    assert list(twlab.__all__) == sorted(twlab.__all__)
    offered = {
        name for name, value in vars(twlab).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    loaded_when_used = {"Lab"}
    assert offered == set(twlab.__all__) - loaded_when_used
    assert all(getattr(twlab, name).__name__ == name for name in loaded_when_used)


@pytest.mark.parametrize("path", in_product())
def test_only_the_loop_reads_clocks(path: Path) -> None:
    """Time is a parameter: one module asks the system for it, and none sleeps."""
    if path == ROOT / "twlab" / "loop.py":
        return
    found = [name for name in imports(path) if name == "time" or name.startswith("time.")]
    assert not found, f"{relative(path)} imports {found}; take the time from twlab.loop"


@pytest.mark.parametrize("path", in_product())
def test_no_thread_is_started(path: Path) -> None:
    """One thread: handing over the interpreter's lock costs virtual time in the lab kernel.

    The server in `twlab/web` is no part of a lab, and may have an event loop; no threads either.
    """
    ours = "asyncio|" if ROOT / "twlab" / "web" not in path.parents else ""
    found = [name for name in imports(path) if re.match(rf"{ours}threading|_thread|concurrent|multiprocessing", name)]
    assert not found


@pytest.mark.parametrize("path", in_product())
def test_modules_and_functions_are_short(path: Path) -> None:
    """No module has more than 400 lines, no function more than 60 lines of statements."""
    lines = path.read_text().count("\n")
    assert lines <= LONGEST_MODULE, f"{relative(path)} has {lines} lines"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and (
            statements := node.body[1:] if ast.get_docstring(node) else node.body
        ):
            lines = (statements[-1].end_lineno or 0) - statements[0].lineno + 1
            assert lines <= LONGEST_FUNCTION, f"{relative(path)}: {node.name} has {lines} lines"


@pytest.mark.parametrize("path", in_product("twlab"))
def test_every_module_and_public_name_says_what_it_is(path: Path) -> None:
    """Modules, and the classes and functions at their top that others may use, have a docstring."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), relative(path)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{relative(path)}: {node.name}"


def test_no_file_names_a_place_of_one_machine() -> None:
    """Nothing in the repository depends on where one developer's machine keeps things."""
    private = re.compile(rf"{re.escape(str(Path.home()))}/|{re.escape(str(ROOT))}\b")
    for path in tracked_files():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            assert not private.search(line), f"{relative(path)}:{number}: {line.strip()}"


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=relative(path)) for path in sorted((ROOT / "topologies").glob("[!_]*.py"))]
)
def test_a_topology_file_gives_mn_only_what_it_should(path: Path) -> None:
    """`mn --custom` copies every public name of a file over its own: only `topos`, and classes of
    its own, may be there.
    """
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the drawing is missing"
    assigned = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert {name for name in assigned if not name.startswith("_")} == {"topos"}


def tracked_files() -> list[Path]:
    """The project's own text files: those that git knows."""
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return [
        ROOT / name
        for name in names
        if name and (ROOT / name).suffix in {".py", ".sh", ".md", ".toml", ".txt", ".config", ".patch", ""}
    ]
