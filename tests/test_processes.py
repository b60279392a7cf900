"""Several processes: on one port, on one inherited socket, and one after the other."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from peers import COMMAND, PATIENCE, Serving, fetched, program, served
from wire import GET, get

from rawstream import Channels, Request, serve, serve_channels
from rawstream.server import SETTLE_SECONDS

APP = """
import os

async def app(request):
    await request.respond(200, f"{os.getpid()}\\n")
"""

ANNOUNCED = b"rawstream on "

QUIET = ("my_app:app", "--no-access-log")


@pytest.fixture
def app_folder(tmp_path: Path) -> Path:
    (tmp_path / "my_app.py").write_text(APP)
    return tmp_path


async def hello(request: Request) -> None:
    await request.respond(200, b"hello\n")


def answering(port: int, timeout: float = PATIENCE) -> int:
    """The process that answers a request on a connection of its own. Raises `OSError` if none
    does."""
    with socket.create_connection(("127.0.0.1", port), timeout) as sock:
        sock.settimeout(timeout)
        sock.sendall(GET)
        answer = b""
        while not answer.endswith(b"\n") or b"\r\n\r\n" not in answer:
            if not (data := sock.recv(4096)):
                raise ConnectionResetError(errno.ECONNRESET, f"closed after {answer!r}")
            answer += data
    return int(answer.splitlines()[-1])


def ended(process: subprocess.Popen[bytes]) -> int:
    """Stop a server as systemd does. Returns its exit status."""
    process.terminate()
    return process.wait(PATIENCE * 2)


# -- One port -------------------------------------------------------------------------------------


def test_two_processes_share_a_port(app_folder: Path) -> None:
    start = partial(
        served, *COMMAND, *QUIET, "--reuse-port", announced=ANNOUNCED, folder=app_folder
    )
    with socket.socket() as reserved:  # bound and not listening: it gets no connection
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        with start("--port", str(port)) as one, start("--port", str(port)) as other:
            # The system chooses by a hash of the addresses and ports: 64 times the same one is
            # as likely as heads 64 times.
            assert {answering(port) for _ in range(64)} == {one.pid, other.pid}
            assert ended(one) == 0
            assert {answering(port) for _ in range(8)} == {other.pid}


async def test_a_port_is_not_shared_unless_both_ask_for_it(serving: Serving) -> None:
    shared = await serving(hello, reuse_port=True)
    again = await serving(hello, reuse_port=True, port=shared.port)
    assert again.port == shared.port
    with pytest.raises(OSError, match="in use"):
        await serve(hello, port=shared.port)
    alone = await serving(hello)
    with pytest.raises(OSError, match="in use"):
        await serve(hello, port=alone.port, reuse_port=True)


@pytest.mark.parametrize("host", [None, "localhost", "::1"])
async def test_every_address_of_a_host_is_shared(nursery: trio.Nursery, host: str | None) -> None:
    first = await nursery.start(partial(serve, hello, host=host, port=0, reuse_port=True))
    plain = await nursery.start(partial(serve, hello, host=host, port=0))
    assert [address[0] for address in first] == [address[0] for address in plain]


async def test_a_system_without_ipv6_shares_the_rest(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = trio.socket.socket

    def without_ipv6(family: int, *more: int) -> trio.socket.SocketType:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return make(family, *more)

    monkeypatch.setattr("rawstream.tcp.listeners.trio.socket.socket", without_ipv6)
    server = await serving(hello, host=None, reuse_port=True)
    assert server.address[0] == "0.0.0.0"
    with pytest.raises(OSError, match="not supported"):
        await serve(hello, host="::1", port=0, reuse_port=True)


async def test_what_cannot_be_shared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="for a port, not for a unix socket"):
        await serve(hello, unix=str(tmp_path / "socket"), reuse_port=True)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        with pytest.raises(ValueError, match="sockets are inherited"):
            await serve(hello, inherited=[sock], reuse_port=True)
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(ValueError, match="this system has no SO_REUSEPORT"):
        await serve(hello, port=0, reuse_port=True)


@pytest.mark.parametrize("shared", [False, True])
async def test_channels_in_memory_behind_a_shared_port_are_warned_about_once(
    serving: Serving, caplog: pytest.LogCaptureFixture, shared: bool
) -> None:
    channels = Channels()

    async def app(request: Request) -> None:
        await serve_channels(request, channels, request.path[1:])

    server = await serving(app, reuse_port=shared)
    for name in ("a", "b"):
        peer = await server.connect()
        await peer.send(get(f"/{name}?wait=0"))
        assert (await peer.has(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
    warned = [record.getMessage() for record in caplog.records if record.name == "rawstream"]
    assert len(warned) == shared
    assert all(text.startswith("channel 'a' is in the memory of this process") for text in warned)


# -- One inherited socket -------------------------------------------------------------------------

AS_SYSTEMD = ("sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "sh")


@contextmanager
def activated(sock: socket.socket, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that was passed a listening socket as systemd passes it: at descriptor 3. Whoever
    holds the socket has to, as systemd does; here it is the test."""
    command = [*AS_SYSTEMD, *COMMAND, *QUIET]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=(3,),
        preexec_fn=lambda: os.dup2(sock.fileno(), 3),
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A listening socket, held for whoever serves it."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as sock:
        yield sock


def paused(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)


def test_several_processes_on_one_inherited_socket(
    listening: socket.socket, app_folder: Path
) -> None:
    port = listening.getsockname()[1]
    with activated(listening, app_folder) as one, activated(listening, app_folder) as other:
        for process in (one, other):
            assert process.stdout is not None
            assert ANNOUNCED in process.stdout.readline()
        paused(one)
        assert {answering(port) for _ in range(5)} == {other.pid}
        one.send_signal(signal.SIGCONT)
        paused(other)
        assert {answering(port) for _ in range(5)} == {one.pid}
        other.send_signal(signal.SIGCONT)
        assert ended(one) == 0
        assert {answering(port) for _ in range(5)} == {other.pid}


class Load:
    """Clients that ask without a pause, each time on a new connection."""

    def __init__(self, ask: Callable[[], int], clients: int) -> None:
        self.answered: dict[int, int] = {}  # by process
        self.lost: list[str] = []
        self._ask = ask
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                process = self._ask()
            except OSError as error:
                self.lost.append(repr(error))
            else:
                self.answered[process] = self.answered.get(process, 0) + 1
            self._stop.wait(0.002)

    def reaches(self, process: int) -> None:
        """Wait until a process has answered some requests."""
        end = time.monotonic() + PATIENCE
        while self.answered.get(process, 0) < 20:
            assert time.monotonic() < end
            self._stop.wait(0.01)


@pytest.mark.parametrize("passes", range(7))
async def test_whenever_the_stop_comes_a_connection_is_served_or_stays_in_the_queue(
    serving: Serving, listening: socket.socket, passes: int
) -> None:
    server = await serving(hello, inherited=[listening.dup()])
    with socket.create_connection(listening.getsockname()) as client:
        client.sendall(GET)
        for _ in range(passes):  # of the scheduler: it is accepted in one of these, or in none
            await trio.lowlevel.checkpoint()
        server.stop.set()
        with trio.fail_after(PATIENCE):
            await server.ended.wait()
        listening.setblocking(False)
        try:
            listening.accept()[0].close()
        except BlockingIOError:
            client.settimeout(PATIENCE)
            assert client.recv(4096).endswith(b"hello\n")


async def test_a_request_that_lies_unread_when_the_drain_begins_is_answered(
    serving: Serving,
) -> None:
    for _ in range(4):  # it is chance which task goes first
        server = await serving(hello)
        with server.open_socket() as client:
            await trio.testing.wait_all_tasks_blocked(0.01)
            server.stop.set()
            await trio.testing.wait_all_tasks_blocked()
            client.sendall(GET)
            time.sleep(2 * SETTLE_SECONDS)  # noqa: ASYNC251 - the whole process stands still
            await server.ended.wait()
            assert client.recv(4096).endswith(b"hello\n")


def test_a_restart_under_load_loses_nothing(listening: socket.socket, app_folder: Path) -> None:
    ask = partial(answering, listening.getsockname()[1])
    served_by = set()
    with Load(ask, clients=4) as load:
        for _ in range(3):
            with activated(listening, app_folder) as process:
                load.reaches(process.pid)
                assert ended(process) == 0
                served_by.add(process.pid)
        with activated(listening, app_folder) as process:  # the last one answers the rest
            load.reaches(process.pid)
            load.__exit__()
    assert not load.lost
    assert set(load.answered) == {*served_by, process.pid}


def test_systemd_socket_activate_starts_a_server(app_folder: Path) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    paths = os.pathsep.join(filter(None, sys.path))
    command = [
        program("systemd-socket-activate"), "-l", f"127.0.0.1:{port}",
        "-E", f"PYTHONPATH={paths}", *COMMAND, *QUIET, "--port", "1", "--host", "192.0.2.1",
    ]  # fmt: skip
    with served(*command, announced=b"Listening on", folder=app_folder) as process:
        assert fetched(f"http://127.0.0.1:{port}/") == f"{process.pid}\n".encode()
        assert answering(port) == process.pid
        assert ended(process) == 0
        assert process.stdout is not None
        output = process.stdout.read()
    assert f"rawstream on http://127.0.0.1:{port}".encode() in output
