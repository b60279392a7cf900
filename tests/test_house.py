"""The house itself: floors, imports, types, style."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rawstream

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rawstream"

FLOORS = [
    {"limits", "errors"},
    {"listen", "departure", "pacemaker", "transport", "logs"},
    {"head", "request", "negotiation", "exchange", "http1", "server"},
    {"stream", "sse", "longpoll", "handshake", "frames", "incoming", "outgoing", "websocket"},
    {"cursors", "channel", "formats", "reading"},
    {"channels", "several", "publishing", "joining", "serving"},
    {"__init__"},
    {"__main__", "demo"},
]
"""Each floor imports from itself and from those before it."""


def imports(path: Path) -> set[str]:
    """The modules that a file imports: ours by their room, others by their full name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            own = "rawstream" if node.level else ""
            found |= {f"{own}.{module}"} if module else {f"{own}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.lstrip(".") for name in found}


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_every_room_has_a_floor() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in files()}
    assert rooms == set().union(*FLOORS)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_floors_import_from_below(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    number = next(n for n, floor in enumerate(FLOORS) if room in floor)
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("rawstream.")}
    own = {file.stem for file in path.parent.glob("*.py")} if path.parent != PACKAGE else set()
    assert ours <= set().union(*FLOORS[: number + 1]) | own


def lines_of_code(path: Path) -> int:
    """Lines that are neither blank nor comment nor docstring."""
    source = path.read_text()
    prose = set[int]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            prose |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(1 for n, line in lines if n not in prose and line.strip()[:1] not in ("", "#"))


def test_floors_0_to_3_stay_small_enough_to_be_read_in_one_sitting() -> None:
    rooms = set().union(*FLOORS[:4])
    assert sum(lines_of_code(path) for path in files() if path.stem in rooms) < 2_600


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_private_is_imported(path: Path) -> None:
    names = {name for name in imports(path) if not name.startswith(("rawstream", "__future__"))}
    assert not [name for name in names if any(part.startswith("_") for part in name.split("."))]


def test_importing_loads_only_the_three_dependencies() -> None:
    code = "import sys, rawstream; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
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


def test_every_public_name_is_there_and_documented() -> None:
    for name in rawstream.__all__:
        assert getattr(rawstream, name).__doc__ or name in ("Fields", "Handler")


@pytest.mark.parametrize(
    "command",
    [
        ["mypy", "--strict", "--python-version", "3.10", "rawstream"],
        ["mypy", "--strict", "--python-version", "3.13", "rawstream"],
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
    ],
    ids=lambda command: " ".join(command),
)
def test_types_and_style(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
