"""The shape of the project: imports go downward, each library has one importer, one module reads clocks, and no module is long."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

import twlab

# Bottom first. A module imports from the layers above it in this list, or from its own; a new module has to be given its place.
LAYERS = [
    {"errors", "syscalls", "loop", "sysctl", "lean", "bpf"},
    {"settings", "observation", "transcript", "segment", "impair", "isn", "recycle", "firewall", "netlink", "inetdiag", "pcapng", "load"},
    {"scenario", "nodes", "craft", "phrases", "prompt"},
    {"roles"},
    {"network"},
    {"baseline", "tuning", "keeper", "recycle", "door", "timewait", "conntrack", "counters"}
    | {"capture", "ring", "outlet", "nfqueue", "door", "wire", "endpoint", "traffic", "origin", "churn", "program", "web", "shuttle", "clocks"}
    | {"gauge"},
    {"lab"},
    {"proxies"},
    {"stage"},
    {"arm", "result", "probes"},
    {"advice", "hazards", "plan"},
    {"inside", "cells", "engines", "report"},
    {"drivers"},
    {"sustained", "harm", "alternatives", "alternatives_page", "abreast"},
    {"sweep", "sweeping", "ceiling", "exhausting", "runner", "repeat", "doctor", "progress", "starter", "grading"},
    {"verbs"},
    {"shell"},
    {"session"},
    {"pytest_live"},
    {"pytest_plugin"},
    {"pytest_agent"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
OUTSIDE_THE_LAYERS = {"__init__", "scenarios"}  # the public interface, and what is written against it
# The libraries that reach into the network, and the one module that imports each, or each part of it.
IMPORTERS = {
    "mininet.cli": "shell",
    "mininet.log": "shell",
    "mininet.net": "shell",
    "mininet.topo": "network",
    "mininet": "nodes",
    "pyroute2": "netlink",
    "scapy": "craft",
    "netfilterqueue": "nfqueue",
}
HEAVY = sorted({library.split(".")[0] for library in IMPORTERS})
LONGEST_MODULE, LONGEST_FUNCTION = 400, 60

PRODUCT = sorted(path for folder in ("twlab", "topologies") for path in (ROOT / folder).rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module(path: Path) -> str:
    """The name by which LAYERS knows a file: its module, or the package it lies in."""
    inner = path.relative_to(ROOT / "twlab").parts
    return inner[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """The full dotted names that `path` imports when it runs, wherever in it; those for type checking alone do not count."""
    tree = ast.parse(path.read_text())
    guarded = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    for_types = {id(inner) for node in guarded for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> set[str]:
    """The modules of twlab that `path` imports; the package itself is ``__init__``."""
    known = set().union(*LAYERS) | OUTSIDE_THE_LAYERS
    names = [name.split(".") for name in imports(path)]
    return {parts[1] if len(parts) > 1 and parts[1] in known else "__init__" for parts in names if parts[0] == "twlab"}


def in_product(*folders: str) -> list[object]:
    return [pytest.param(path, id=relative(path)) for path in PRODUCT if path.is_relative_to(ROOT.joinpath(*folders))]


@pytest.mark.parametrize("path", in_product("twlab"))
def test_imports_go_downward(path: Path) -> None:
    """A module imports from its own layer and from those below it; nothing but scenarios uses the package's public interface."""
    name = module(path)
    if name in OUTSIDE_THE_LAYERS:
        return
    level = {member: number for number, layer in enumerate(LAYERS) for member in layer}
    assert name in level, f"{relative(path)} is new: give it its place in LAYERS"
    own = own_imports(path) - {name}
    upward = {other for other in own if other not in OUTSIDE_THE_LAYERS and level[other] > level[name]}
    assert not upward, f"{relative(path)} imports upward: {', '.join(sorted(upward))}"


def test_no_module_imports_itself_in_a_circle() -> None:
    """There is no circle of imports among the modules, lazy ones included."""
    graph: dict[str, set[str]] = {}
    for path in PRODUCT:
        if path.is_relative_to(ROOT / "twlab") and module(path) not in OUTSIDE_THE_LAYERS:
            graph.setdefault(module(path), set()).update(own_imports(path) - {module(path)} - OUTSIDE_THE_LAYERS)
    graphlib.TopologicalSorter(graph).prepare()


def test_each_library_has_one_importer() -> None:
    """Of the libraries that reach into the network each, or each part, is imported by one module only."""
    for path in PRODUCT:
        for name in imports(path):
            library = next((library for library in IMPORTERS if f"{name}.".startswith(f"{library}.")), None)
            assert library is None or path == ROOT / "twlab" / f"{IMPORTERS[library]}.py", f"{relative(path)} imports {name}"


def test_importing_twlab_is_light_and_gives_the_public_names() -> None:
    """`import twlab` loads none of the four libraries, and what it offers is `__all__`, sorted, no more and no less."""
    script = f"import sys, twlab; print([name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert loaded.strip() == "[]"
    assert list(twlab.__all__) == sorted(twlab.__all__)
    offered = {name for name, value in vars(twlab).items() if not name.startswith("_") and not isinstance(value, ModuleType)}
    assert offered == set(twlab.__all__)


@pytest.mark.parametrize("path", in_product())
def test_only_the_loop_reads_clocks(path: Path) -> None:
    """Time is a parameter: one module asks the system for it, and none sleeps."""
    if path == ROOT / "twlab" / "loop.py":
        return
    found = [name for name in imports(path) if name == "time" or name.startswith("time.")]
    assert not found, f"{relative(path)} imports {found}; take the time from twlab.loop"


@pytest.mark.parametrize("path", in_product())
def test_no_thread_is_started(path: Path) -> None:
    """One thread: handing over the interpreter's lock costs virtual time in the lab kernel."""
    found = [name for name in imports(path) if re.match(r"threading|_thread|asyncio|concurrent|multiprocessing", name)]
    assert not found


@pytest.mark.parametrize("path", in_product())
def test_modules_and_functions_are_short(path: Path) -> None:
    """No module has more than 400 lines, no function more than 60 lines of statements."""
    lines = path.read_text().count("\n")
    assert lines <= LONGEST_MODULE, f"{relative(path)} has {lines} lines"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and (statements := node.body[1:] if ast.get_docstring(node) else node.body):
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


@pytest.mark.parametrize("path", [pytest.param(path, id=relative(path)) for path in sorted((ROOT / "topologies").glob("[!_]*.py"))])
def test_a_topology_file_gives_mn_only_what_it_should(path: Path) -> None:
    """`mn --custom` copies every public name of a file over its own: only `topos`, and classes of its own, may be there."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the drawing is missing"
    assigned = {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets if isinstance(target, ast.Name)}
    assert {name for name in assigned if not name.startswith("_")} == {"topos"}


def tracked_files() -> list[Path]:
    """The project's own text files: those that git knows."""
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).suffix in {".py", ".sh", ".md", ".toml", ".txt", ".config", ".patch", ""}]
