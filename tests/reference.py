"""Writes `examples/reference.md` from the docstrings: `python tests/reference.py`.

With `--check` it only says whether the page is up to date.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from itertools import pairwise
from pathlib import Path
from types import FunctionType
from typing import Any

import rawstream
from rawstream.http.exchange import Body, Exchange

PAGE = Path(__file__).parent.parent / "examples" / "reference.md"

LAYERS = {
    "Running and serving": ("run", "serve", "serve_stream", "Handler", "Limits", "Metrics"),
    "Requests and responses": ("Request", "Headers", "Query", "Fields"),
    "Streams": (
        "open_stream", "Stream", "open_events", "EventStream", "Event", "EventDecoder", "open_poll",
        "Poll",
    ),
    "WebSocket": ("open_websocket", "WebSocket", "MessageStream"),
    "Channels": (
        "Channel", "Entry", "Gap", "serve_channel", "Lag", "Channels", "Authorize", "Compose", "Select",
        "Presence", "serve_channels", "RedisChannels", "FOLLOW_JS",
    ),
    "Exceptions": ("HTTPError", "Unavailable", "ClientGone", "BrokenStream", "WebSocketClosed"),
}  # fmt: skip
"""The public names, in reading order."""

FOR_STREAMS = (Exchange, Body)
"""What streams of one's own use, though they need not import it."""

CONSTRUCTED = {
    "Event",
    "EventDecoder",
    "Channel",
    "Channels",
    "HTTPError",
    "Metrics",
    "RedisChannels",
    "Unavailable",
}
"""The classes whose objects a program makes itself, and not by keyword from the attributes."""


def page() -> str:
    """The whole page."""
    extra = [f"[`{found.__name__}`](#{found.__name__.lower()})" for found in FOR_STREAMS]
    blocks = [
        "# Reference",
        "Every public name, with its docstring. All of them are imported from `rawstream`. This page "
        "is written by `python tests/reference.py`.",
        "\n".join(
            f"- {layer}: {', '.join(f'[`{name}`](#{name.lower()})' for name in names)}"
            for layer, names in LAYERS.items()
        )
        + f"\n- For streams of your own: {', '.join(extra)}",
    ]
    for layer, names in LAYERS.items():
        blocks.append(f"## {layer}")
        for name in names:
            blocks += [f"### {name}", *described(name)]
    blocks += [
        "## For streams of your own",
        "`request.exchange` is an `Exchange`; its `start` returns a `Body`. They are protocols in "
        "`rawstream.http.exchange`.",
    ]
    for found in FOR_STREAMS:
        blocks += [f"### {found.__name__}", *described_class(found)]
    return "\n\n".join(blocks) + "\n"


def described(name: str) -> Iterator[str]:
    """The blocks that describe a public name."""
    found: Any = getattr(rawstream, name)
    if isinstance(found, bytes):
        _, doc = source_of_alias(name)
        yield f"```python\n{name}: bytes\n```"
        yield as_markdown(doc)
    elif hasattr(found, "__origin__"):
        value, doc = source_of_alias(name)
        yield f"```python\n{name} = {value}\n```"
        yield as_markdown(doc)
    elif inspect.isclass(found):
        yield from described_class(found)
    else:
        yield signature(found)
        yield text(found)


def described_class(found: type) -> Iterator[str]:
    if found.__name__ in CONSTRUCTED:
        yield signature(found)
    yield text(found)
    if attributes := list(attributes_of(found)):
        yield "\n".join(f"- `{name}`: {as_markdown(doc)}" for name, doc in attributes)
    for member_name, member in members_of(found):
        yield f"**{found.__name__}.{member_name}**"
        yield signature(member, member_name)
        yield text(member)


def family(found: type) -> list[type]:
    """A class and those of its bases that are ours."""
    return [base for base in found.__mro__ if base.__module__.startswith("rawstream.")]


def attributes_of(found: type) -> Iterator[tuple[str, str]]:
    """The public attributes and properties of a class that have a description."""
    for base in family(found):
        slots = base.__dict__.get("__slots__")
        if isinstance(slots, dict):
            yield from ((name, doc) for name, doc in slots.items() if name[0] != "_")
        [node] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(node, ast.ClassDef)
        together: list[str] = []  # attributes that one text describes
        for statement, following in pairwise(node.body):
            if (
                not isinstance(statement, ast.AnnAssign)
                or "._" in f".{ast.unparse(statement.target)}"
            ):
                together.clear()
                continue
            default = f" = {ast.unparse(statement.value)}" if statement.value else ""
            together.append(ast.unparse(statement.target) + default)
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                yield "`, `".join(together), str(following.value.value)
                together.clear()
        for name, member in vars(base).items():
            if isinstance(member, property) and name[0] != "_" and member.__doc__:
                yield name, member.__doc__


def members_of(found: type) -> Iterator[tuple[str, FunctionType]]:
    """The public methods of a class."""
    members: dict[str, FunctionType] = {}
    for base in family(found):
        for name, member in vars(base).items():
            function = member.__func__ if isinstance(member, staticmethod) else member
            if isinstance(function, FunctionType) and name[0] != "_" and function.__doc__:
                members.setdefault(name, function)
    yield from members.items()


def signature(found: Any, name: str = "") -> str:
    """How something is called, as its source has it: on one line if it fits."""
    wait = ""
    written = inspect.isclass(found) and not is_dataclass(found)
    tree = ast.parse(textwrap.dedent(inspect.getsource(found.__init__ if written else found))).body[
        0
    ]
    if isinstance(tree, ast.ClassDef):  # a dataclass
        fields = [node for node in tree.body if isinstance(node, ast.AnnAssign)]
        parameters, returns = [ast.unparse(field) for field in fields], ""
    else:
        assert isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef)
        parameters = list(parameters_of(tree.args))
        result = "None" if inspect.isclass(found) or not tree.returns else ast.unparse(tree.returns)
        decorators = {ast.unparse(decorator) for decorator in tree.decorator_list}
        if "contextmanager" in decorators:
            result = result.replace("Iterator[", "AbstractContextManager[")
        elif "asynccontextmanager" in decorators:
            result = result.replace("AsyncIterator[", "AbstractAsyncContextManager[")
        elif isinstance(tree, ast.AsyncFunctionDef):
            wait = "await "
        returns = "" if result == "None" else f" -> {result}"
    start = wait + (name or found.__name__)
    line = f"{start}({', '.join(parameters)}){returns}"
    if len(line) > 88:
        line = f"{start}(\n" + "".join(f"    {part},\n" for part in parameters) + f"){returns}"
    line = line.replace("'", '"')
    return f"```python\n{line}\n```"


def parameters_of(arguments: ast.arguments) -> Iterator[str]:
    """The parameters of a function, without `self`."""
    plain = arguments.args[arguments.args[:1] != [] and arguments.args[0].arg == "self" :]
    missing: list[ast.expr | None] = [None] * (len(plain) - len(arguments.defaults))
    for argument, default in zip(plain, [*missing, *arguments.defaults], strict=True):
        yield with_default(argument, default)
    if arguments.vararg:
        yield "*" + with_default(arguments.vararg, None)
    elif arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield with_default(argument, default)


def with_default(argument: ast.arg, default: ast.expr | None) -> str:
    text = ast.unparse(argument)
    return f"{text} = {ast.unparse(default)}" if default else text


def source_of_alias(name: str) -> tuple[str, str]:
    """The value of an alias of a type, and the text behind it."""
    for path in Path(rawstream.__file__).parent.rglob("*.py"):
        body = ast.parse(path.read_text()).body
        for statement, following in pairwise(body):
            target = getattr(statement, "target", None) or getattr(statement, "targets", [None])[0]
            if isinstance(target, ast.Name) and target.id == name:
                assert isinstance(statement, ast.AnnAssign | ast.Assign)
                assert isinstance(following, ast.Expr)
                assert isinstance(following.value, ast.Constant)
                assert statement.value is not None
                value = ast.unparse(statement.value).replace("'", '"')
                return value, str(following.value.value)
    raise LookupError(name)


def text(found: Any) -> str:
    return as_markdown(inspect.getdoc(found) or "")


def as_markdown(doc: str) -> str:
    """A docstring, with each paragraph on one line."""
    paragraphs = inspect.cleandoc(doc).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split("\n")) for paragraph in paragraphs)


if __name__ == "__main__":
    if "--check" not in sys.argv:
        PAGE.write_text(page())
    elif PAGE.read_text() != page():
        sys.exit("examples/reference.md is out of date: run python tests/reference.py")
