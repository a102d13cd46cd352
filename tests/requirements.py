"""
`make requirements`: which security requirements are proven, and by which tests.

Read from the source, so that it needs no database and no browser.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent


def proofs() -> dict[str, list[str]]:
    """Return {requirement id: [test id]}."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        tree = ast.parse(path.read_text())
        for requirement, test in _in_body(tree.body, _from_pytestmark(tree.body)):
            found[requirement].append(f"{path.relative_to(TESTS.parent)}::{test}")
    return found


def _in_body(body: list[ast.stmt], inherited: list[str], prefix: str = "") -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            above = inherited + _from_decorators(node) + _from_pytestmark(node.body)
            yield from _in_body(node.body, above, f"{prefix}{node.name}::")
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            for requirement in inherited + _from_decorators(node):
                yield requirement, prefix + node.name


def _from_decorators(node: ast.ClassDef | ast.FunctionDef) -> list[str]:
    return [requirement for decorator in node.decorator_list for requirement in _marked(decorator)]


def _from_pytestmark(body: list[ast.stmt]) -> list[str]:
    names = [node.value for node in body if isinstance(node, ast.Assign) and _is_pytestmark(node)]
    return [requirement for value in names for requirement in _marked(value)]


def _is_pytestmark(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)


def _marked(expression: ast.expr) -> Iterator[str]:
    for node in ast.walk(expression):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "requirement":
            yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))


def in_order(requirement: str) -> tuple[str, int]:
    """Sort VAULT-5 before VAULT-10."""
    family, _, number = requirement.partition("-")
    return family, int(re.sub(r"\D", "", number) or 0)


if __name__ == "__main__":
    proven = proofs()
    for requirement in sorted(proven, key=in_order):
        print(requirement)
        for test in proven[requirement]:
            print(f"    {test}")
    print(f"{len(proven)} requirements are proven.")
