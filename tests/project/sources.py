"""The project's files as the tests of its shape see them."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("buswire", "buskit", "broker", "storeagent", "hqconsole")


class Import(NamedTuple):
    """One import statement's module, and how it is reached."""

    module: str
    line: int
    at_import: bool
    """Whether importing this file runs it: not inside a function, not for type checkers only."""


def modules(*packages: str) -> list[str]:
    """The modules of these packages, as paths from the root with slashes."""
    return sorted(
        path.relative_to(ROOT).as_posix()
        for package in packages or PACKAGES
        for path in (ROOT / package).rglob("*.py")
    )


@cache
def tree(path: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), path)


@cache
def nodes(path: str) -> dict[ast.AST, ast.AST | None]:
    """Every node of a module with the one that it stands in."""
    found: dict[ast.AST, ast.AST | None] = {tree(path): None}
    for node in ast.walk(tree(path)):
        for child in ast.iter_child_nodes(node):
            # The marks of loading and storing are shared by all nodes, and nobody asks for them.
            if not isinstance(child, ast.expr_context | ast.operator):
                found[child] = node
    return found


def above(path: str, node: ast.AST) -> Iterator[ast.AST]:
    """What a node stands in, the innermost first."""
    outer = nodes(path)[node]
    while outer is not None:
        yield outer
        outer = nodes(path)[outer]


def imports(path: str) -> Iterator[Import]:
    """Every import of a module, also those inside functions."""
    for node in nodes(path):
        if isinstance(node, ast.Import | ast.ImportFrom):
            runs = not any(
                isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
                or (isinstance(outer, ast.If) and "TYPE_CHECKING" in ast.unparse(outer.test))
                for outer in above(path, node)
            )
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [f"{'.' * node.level}{node.module or ''}"]
                names += [f"{names[0]}.{alias.name}" for alias in node.names]
            for name in names:
                yield Import(name, node.lineno, runs)


def tracked_files() -> list[str]:
    """The files under version control, or all that look so where there is none."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
        ).stdout
        return [name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]
    except (OSError, subprocess.CalledProcessError):
        known = {".py", ".md", ".toml", ".sh", ".csv", ".yml"}
        return sorted(
            path.relative_to(ROOT).as_posix()
            for path in ROOT.rglob("*")
            if path.suffix in known and not any(p.startswith(".") for p in path.parts[-4:])
        )
