"""The house itself: its layers, and what they import."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import rawstream

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rawstream"

LAYERS = [
    {"dev_certificate", "limits", "errors", "stderr"},
    {"tcp"},
    {"http"},
    {"http1"},
    {"http2"},
    {"streams"},
    {"websocket"},
    {"entries"},
    {"channels", "browser"},
    {"named_channels"},
    {"redis"},
    {"server"},
    {"program", "arguments"},
    {"metrics"},
    {"monitoring"},
    {"demo"},
    {"logs"},
    {"dissector"},
    {"wire"},
    {"__init__", "__main__"},
]
"""From the bottom up. Each imports from itself and from those below it."""

SERVING = (
    *("http1", "http2", "streams", "websocket", "entries", "channels", "named_channels", "redis"),
    *("server", "program"),
)

FOLDERS = [
    *("tcp", "http", "http1", "http2", "streams", "websocket", "entries", "channels"),
    *("named_channels", "redis"),
    *("metrics", "logs", "dissector", "dissector/http2", "wire"),
]

STREAMING = ("streams", "websocket", "entries", "channels", "named_channels", "redis")

SIDE_BY_SIDE = [
    ("http1", "http2"),
    *((version, above) for version in ("http1", "http2") for above in STREAMING),
    ("streams", "websocket"),
    ("redis", "server"),
    ("demo", "__init__"),
    ("demo", "dissector"),
    ("demo", "wire"),
    ("logs", "demo"),
    ("logs", "wire"),
    ("logs", "dissector"),
    *(("dissector", below) for below in SERVING),
]
"""These do not know each other."""


@cache
def imports(path: Path) -> set[str]:
    """The modules that a file imports, by their full names."""
    package = ("rawstream", *path.relative_to(PACKAGE).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            names = {f"{module}.{alias.name}" for alias in node.names}
            found |= {module} if node.module else names
            if not module.startswith("rawstream"):
                found |= {name for name in names if "._" in name}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def layers_imported(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("rawstream.")}


def test_every_file_has_a_layer() -> None:
    assert {layer_of(path) for path in files()} == set().union(*LAYERS)


@pytest.mark.parametrize("layer", sorted(set().union(*LAYERS)))
def test_layers_import_from_below(layer: str) -> None:
    number = next(n for n, layers in enumerate(LAYERS) if layer in layers)
    allowed = set().union(*LAYERS[: number + 1])
    for one, other in SIDE_BY_SIDE:
        allowed -= ({other} if layer == one else set()) | ({one} if layer == other else set())
    for path in files():
        if layer_of(path) == layer:
            assert layers_imported(path) <= allowed, path


@pytest.mark.parametrize("layer", [*FOLDERS, "demo"])
def test_a_layer_begins_with_a_page_that_names_its_files_and_exports_nothing(layer: str) -> None:
    page = PACKAGE / layer / "__init__.py"
    tree = ast.parse(page.read_text())
    [statement] = tree.body
    assert isinstance(statement, ast.Expr)
    text = ast.get_docstring(tree) or ""
    named = re.findall(r"^ +([a-z0-9_]+\.py) ", text, re.MULTILINE)
    assert sorted(named) == sorted(f.name for f in page.parent.glob("*.py") if f != page)


def lines_of_code(path: Path) -> int:
    """Lines that are neither blank nor comment nor docstring."""
    source = path.read_text()
    prose = set[int]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            prose |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(1 for n, line in lines if n not in prose and line.strip()[:1] not in ("", "#"))


@pytest.mark.parametrize("layer", FOLDERS)
def test_a_layer_is_one_sitting_and_a_file_one_concept(layer: str) -> None:
    sizes = {path.name: lines_of_code(path) for path in (PACKAGE / layer).glob("*.py")}
    assert sum(sizes.values()) < 1_400, sizes
    for path in (PACKAGE / layer).glob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path.name


def test_what_records_and_explains_the_wire_knows_no_server() -> None:
    for path in (PACKAGE / "wire").glob("*.py"):
        serves = path.name in ("live.py", "command.py")
        assert serves or not layers_imported(path) & set(SERVING), path.name


def test_nothing_private_is_imported() -> None:
    for path in files():
        names = {name for name in imports(path) if not name.startswith(("rawstream", "__future__"))}
        private = [name for name in names if any(part.startswith("_") for part in name.split("."))]
        assert not private, path


def test_importing_loads_only_the_three_dependencies() -> None:
    code = "import sys, rawstream; print(*{name.partition('.')[0] for name in sys.modules})"
    # Where coverage is measured, it is loaded into every process.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=plain
    )
    loaded = set(done.stdout.split())
    assert {"trio", "h11", "wsproto"} <= loaded
    installed = {path.name.partition("-")[0] for path in _site_packages().glob("*.dist-info")}
    theirs = {
        "trio", "h11", "wsproto", "rawstream",
        "attrs", "attr", "idna", "outcome", "sniffio", "sortedcontainers", "exceptiongroup",
        "typing_extensions", "cffi",
    }  # fmt: skip
    assert loaded & installed <= theirs


def _site_packages() -> Path:
    import trio

    return Path(trio.__file__).parent.parent


TYPES = ("Authorize", "Compose", "Fields", "Handler", "Lag", "Select")
"""Aliases of types, whose text stands behind them in the source."""


def test_every_public_name_is_there_and_documented() -> None:
    for name in (*rawstream.__all__, *rawstream.OF_EXTRAS):
        assert getattr(rawstream, name).__doc__ or name in TYPES


def test_no_test_module_imports_another() -> None:
    for path in (ROOT / "tests").glob("test_*.py"):
        text = path.read_text()
        modules = set[str]()
        # Few have such a line, and those most probably in a string.
        if re.search(r"\b(import|from)\b.*\b(test_|conftest)", text):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ImportFrom):
                    modules.add(node.module or "")
                elif isinstance(node, ast.Import):
                    modules |= {alias.name for alias in node.names}
        assert not [name for name in modules if name.startswith(("test_", "conftest"))], path
