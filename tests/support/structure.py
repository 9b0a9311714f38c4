"""Counts what a newcomer has to keep in mind: units, arrows between them, circles of files.

    python tests/support/structure.py [CHECKOUT ...]

A unit is an entry of twlab/: a module or a package. An arrow is a unit that imports another, type
hints included. A circle is a set of files that import each other, however far around.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path


def imports(checkout: Path) -> dict[str, set[str]]:
    """Return module to the modules of twlab that it imports, by dotted name."""
    files = {
        ".".join(path.relative_to(checkout).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (checkout / "twlab").rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for name, path in files.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                wanted = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                wanted = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for target in wanted:
                while target not in files and "." in target:
                    target = target.rpartition(".")[0]
                if target in files and target != name:
                    found[name].add(target)
    return found


def arrows(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Return the pairs of units of which the first imports the second."""

    def unit(name: str) -> str:
        return ".".join(name.split(".")[:2])

    return {(unit(one), unit(other)) for one, others in graph.items() for other in others if unit(one) != unit(other)}


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the largest sets of modules that reach each other."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        waiting, seen = [start], set()
        while waiting:
            for following in graph[waiting.pop()] - seen:
                seen.add(following)
                waiting.append(following)
        reached[start] = seen
    rings = {
        frozenset({one, *(other for other in reached[one] if one in reached[other])})
        for one in graph
        if one in reached[one]
    }
    return [set(ring) for ring in rings]


def main() -> None:
    """Print a line for each checkout named, or for this one."""
    for place in sys.argv[1:] or [str(Path(__file__).resolve().parents[2])]:
        graph = imports(Path(place))
        between = arrows(graph)
        units = {unit for pair in between for unit in pair}
        rings = circles(graph)
        print(f"{place}: {len(units)} units, {len(between)} arrows, {len(rings)} circles of files")
        for ring in rings:
            print(f"    {' '.join(sorted(ring))}")


if __name__ == "__main__":
    main()
