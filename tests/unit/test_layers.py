"""How deep imports go: the longest chain of a package's modules, each importing the next."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from conftest import REPOSITORY

# The most modules in one chain of imports, from __main__ down, by the package's folder.
LIMITS = {"images/api/src/scorer": 9, "operator/src/promoter": 8}


def imported(file: Path, modules: set[str]) -> Iterator[str]:
    """Yield the package's modules that a file imports anywhere, functions and TYPE_CHECKING blocks included."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in modules)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports are not followed"
            for name in node.names:
                full = f"{node.module}.{name.name}"
                if full in modules or node.module in modules:
                    yield full if full in modules else str(node.module)


def longest_chain(folder: Path) -> list[str]:
    """Return the modules of the longest chain of imports in a package, from its top to a leaf."""
    files = {}
    for file in folder.rglob("*.py"):
        parts = [folder.name, *file.relative_to(folder).with_suffix("").parts]
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    graph = {module: set(imported(file, set(files))) - {module} for module, file in files.items()}
    under_way: list[str] = []

    @cache
    def chain_below(module: str) -> list[str]:
        assert module not in under_way, f"import cycle: {' > '.join([*under_way, module])}"
        under_way.append(module)
        below = max((chain_below(other) for other in sorted(graph[module])), key=len, default=[])
        under_way.pop()
        return [module, *below]

    return max((chain_below(module) for module in graph), key=len)


@pytest.mark.parametrize(("folder", "limit"), LIMITS.items())
def test_imports_go_no_deeper_than_the_limit(folder: str, limit: int) -> None:
    chain = longest_chain(REPOSITORY / folder)
    assert len(chain) <= limit, " > ".join(chain)


def test_the_longest_chain_counts_every_way_to_import_and_finds_cycles(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "sub").mkdir(parents=True)
    (package / "sub" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("def main():\n    from package.top import run\n")
    (package / "top.py").write_text("import package.middle\n")
    (package / "middle.py").write_text("if TYPE_CHECKING:\n    from package.sub import leaf\n")
    (package / "sub" / "leaf.py").write_text("import os\n")
    chain = ["package.__main__", "package.top", "package.middle", "package.sub.leaf"]
    assert longest_chain(package) == chain
    (package / "sub" / "leaf.py").write_text("import package.top\n")
    with pytest.raises(AssertionError, match="import cycle"):
        longest_chain(package)
