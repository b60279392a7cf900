"""Options and fixtures."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import peers
import pytest
import trio
import trustme
from browser import chromium
from documents import ROOT, environment, fenced
from hypothesis import settings
from peers import (
    PATIENCE,
    VERSIONS,
    Certificate,
    Connect,
    Curl,
    Server,
    Serving,
    connect_over_memory,
    program,
)
from playwright.sync_api import Browser
from proxies import Proxying, proxy_to
from wire import NOW

from rawstream import Handler, serve
from rawstream.tcp.listeners import tls_context

LONGEST = [
    *("examples", "logs_command", "browser", "logs_page", "follow", "wire_page", "attacks"),
    *("example_pages", "readme", "dissector_http2", "example_servers", "command", "http2_abuse"),
    *("abuse", "dissector", "channels", "compare", "websocket", "wire", "leaving", "http2_endings"),
    *("channel", "deploy", "drain", "peers"),
]
"""The modules that take longest. They come first, so that no worker is left alone with one."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without-shortcuts",
        action="store_true",
        help="run with every shortcut for speed switched off",
    )


def pytest_configure(config: pytest.Config) -> None:
    peers.use_shortcuts = not config.getoption("--without-shortcuts")
    # Else each worker would compile all test modules anew, and each of the many servers that tests
    # start the whole package.
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # An example that takes long while other workers are busy has not failed.
    # Where somebody waits, fewer examples: they are others each time. CI tries as many as ever.
    count = 100 if os.environ.get("CI") else 40
    settings.register_profile("patient", settings.default, deadline=None, max_examples=count)
    settings.load_profile("patient")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests are found, and kept until the end. Python's collector of garbage would go
    through them again and again: while they become more, and while the tests run."""
    gc.disable()
    result = yield
    gc.collect()
    gc.freeze()
    gc.enable()
    return result


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        name = item.path.stem.removeprefix("test_")
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of a module marked `both_versions` connect over both, each in a run of its own, unless
    marked `http1`: they look at what only HTTP/1.1 has, or count its bytes."""
    marked = {mark.name for mark in metafunc.definition.iter_markers()}
    if "version" in metafunc.fixturenames and "both_versions" in marked and "http1" not in marked:
        metafunc.parametrize("version", VERSIONS, indirect=True)


@pytest.fixture
def version(request: pytest.FixtureRequest) -> str:
    """The version of HTTP that raw clients speak."""
    return str(getattr(request, "param", VERSIONS[0]))


@pytest.fixture
def fixed_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every response is sent at the moment of the RFCs' examples."""
    monkeypatch.setattr("rawstream.http1.response_head.time.time", lambda: NOW)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What servers of this process write directly."""
    written = list[bytes]()
    write = os.write

    def recording(fd: int, data: bytes) -> int:
        written.append(bytes(data))
        return write(fd, data)

    monkeypatch.setattr("rawstream.tcp.transport.os.write", recording)
    return written


@pytest.fixture
def connect(nursery: trio.Nursery, version: str) -> Connect:
    """`peer = connect(handler)`: one connection to a handler, over memory."""
    return partial(connect_over_memory, nursery, version=version)


@pytest.fixture
def proxying(nursery: trio.Nursery) -> Proxying:
    """`port, shown = await proxying(url)`: a proxy of the wire view to this URL."""
    return partial(proxy_to, nursery)


@pytest.fixture
async def serving(nursery: trio.Nursery, version: str) -> AsyncIterator[Serving]:
    """`server = await serving(handler)`: a server on a port of its own. It runs in the test's
    nursery, or in another one given as `nursery`; `client_context` is its clients'."""
    of_the_test, spoken = nursery, version

    async def serving(
        handler: Handler,
        *,
        nursery: trio.Nursery = of_the_test,
        version: str = spoken,
        client_context: ssl.SSLContext | None = None,
        **options: Any,
    ) -> Server:
        stop, ended = trio.Event(), trio.Event()

        async def run(task_status: trio.TaskStatus[list[tuple[str, int] | str]]) -> None:
            options.setdefault("shortcuts", peers.use_shortcuts)
            await serve(handler, stop=stop, task_status=task_status, **options)
            ended.set()

        if "unix" not in options:
            options.setdefault("port", 0)
        addresses = await nursery.start(run)
        servers.append(Server(addresses[0], stop, ended, client_context, version))
        return servers[-1]

    servers: list[Server] = []
    yield serving
    for server in servers:
        for peer in server.peers:
            await trio.aclose_forcefully(peer.stream)


@pytest.fixture(params=["tcp", "tls"])
def carrier(request: pytest.FixtureRequest) -> str:
    """What carries the bytes of `serving_over_each_carrier`: "tcp", "tls", "unix", or "http2", which
    is over TLS, too. A module that wants others than these two overrides this fixture."""
    return str(request.param)


@pytest.fixture
def serving_over_each_carrier(
    carrier: str, serving: Serving, certificate: Certificate, tmp_path: Path
) -> Serving:
    """As `serving`, and the test runs once for each carrier."""
    tls = {"tls": certificate.server_context, "client_context": certificate.client_context}
    options: dict[str, dict[str, Any]] = {
        "tcp": {},
        "tls": tls,
        "http2": {**tls, "version": "2"},
        "unix": {"unix": str(tmp_path / "socket")},
    }
    return partial(serving, **options[carrier])


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    certfile, keyfile, ca = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(certfile, append=number > 0)
    issued.private_key_pem.write_to_path(keyfile)
    authority.cert_pem.write_to_path(ca)
    client_context = ssl.create_default_context(cafile=ca)
    # Some Pythons (Debian's 3.11.2 is one) let a connection that was cut pass for one that ended.
    client_context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return Certificate(
        tls_context(str(certfile), str(keyfile)),
        client_context,
        certfile,
        keyfile,
        ca,
    )


@pytest.fixture(scope="session")
def tutorial(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The programs of an environment made by the install command that the tutorial prints, so
    that a library missing from it is missed here, too. It takes some seconds and is made once for
    all workers. Coverage is not measured in it: what the chapters reach of the package other
    tests reach as well."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent
    folder = shared / "tutorial"
    with (shared / "tutorial.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            folder.mkdir(exist_ok=True)
            for name in ("pyproject.toml", "README.md", "LICENSE"):
                shutil.copy(ROOT / name, folder)
            compiled = shutil.ignore_patterns("__pycache__")  # others write there meanwhile
            shutil.copytree(
                ROOT / "rawstream", folder / "rawstream", ignore=compiled, dirs_exist_ok=True
            )
            [install] = fenced((ROOT / "examples/README.md").read_text(), "sh")
            done = subprocess.run(
                ["bash", "-c", install],
                cwd=folder,
                env=environment(),
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            (folder / "made").touch()
    return folder / ".venv/bin"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium for all tests of a module, which open their pages in it. They are without
    Trio: Playwright's own loop is there until the last of them ends."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def curl() -> Curl:
    """`status, output = await curl("-N", url)`: exit status and standard output. Other options are
    `trio.run_process`'s."""
    path = program("curl")

    async def curl(*arguments: str, input: bytes = b"", **options: Any) -> tuple[int, bytes]:
        with trio.fail_after(PATIENCE * 3):
            done = await trio.run_process(
                [path, "-s", *arguments], stdin=input, capture_stdout=True, check=False, **options
            )
        return done.returncode, done.stdout

    return curl
