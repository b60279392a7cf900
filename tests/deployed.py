"""The files of `examples/deploy`, as they stand there, and the programs that read them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio
from documents import ROOT
from peers import PATIENCE, Server, free_ports, is_free, program

FOLDER = ROOT / "examples" / "deploy"

BEHIND = "127.0.0.1:8000"
"""The server, in all of the files."""

PROXIES = ("nginx", "haproxy", "caddy")


def deployed(name: str, changes: Mapping[str, str]) -> str:
    """The text of a file of `examples/deploy`, with addresses and paths of a test in place of its
    own. Each must be in it."""
    text = (FOLDER / name).read_text()
    for old, new in changes.items():
        assert old in text, f"{name} has no {old!r}"
        text = text.replace(old, new)
    return text


@dataclass
class Proxy:
    """A proxy in a process of its own."""

    kind: str
    port: int
    behind: int
    """The port of the server that it passes requests on to."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def as_server(self) -> Server:
        """What clients connect to."""
        return Server(("127.0.0.1", self.port), trio.Event())


@dataclass
class _Files:
    """What a proxy reads, and the commands that check it and that run it."""

    name: str
    changes: Mapping[str, str]
    check: Sequence[str]
    run: Sequence[str]


def _files(kind: str, folder: Path, port: int, behind: int) -> _Files:
    file = str(folder / kind)
    server = {BEHIND: f"127.0.0.1:{behind}"}
    if kind == "nginx":
        temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{name}_temp_path {folder}/{name};" for name in temporary)
        changes = {
            "listen 80;": f"listen 127.0.0.1:{port};",
            "pid /run/nginx.pid;": f"pid {folder}/pid;",
            "http {\n": f"http {{ access_log off; {paths}\n",
        }
        # In one process: killed, it leaves no worker behind.
        one = ("-g", "daemon off; master_process off;")
        nginx = (program("nginx"), "-e", "stderr", "-p", str(folder), "-c", file, *one)
        return _Files("nginx.conf", changes | server, (*nginx, "-t"), nginx)
    if kind == "haproxy":
        changes = {"bind :80\n": f"bind 127.0.0.1:{port}\n"}
        haproxy = (program("haproxy"), "-f", file)
        return _Files("haproxy.cfg", changes | server, (*haproxy, "-c", "-dW"), (*haproxy, "-db"))
    site = f"{{\n admin off\n}}\nhttp://:{port} {{\n bind 127.0.0.1"
    read = ("--config", file, "--adapter", "caddyfile")
    caddy = program("caddy")
    return _Files(
        "Caddyfile",
        {"www.example.com {": site} | server,
        (caddy, "validate", *read),
        (caddy, "run", *read),
    )


@contextmanager
def proxy_before_nothing(
    kind: str, folder: Path, more: Mapping[str, str] | None = None
) -> Iterator[Proxy]:
    """A proxy with its file of `examples/deploy`, checked by itself, once it listens. Nobody listens
    where it looks for a server. `more` is changed in its file, before anything else."""
    port, behind = free_ports(2)
    files = _files(kind, folder, port, behind)
    folder.chmod(0o755)  # nginx may give up its rights
    text = deployed(files.name, {**(more or {}), **files.changes})
    (folder / kind).write_text(text)
    environment = os.environ | {"HOME": str(folder)}  # Caddy keeps things there
    environment = {k: v for k, v in environment.items() if not k.startswith("XDG_")}
    checked = subprocess.run(files.check, capture_output=True, text=True, env=environment)
    assert checked.returncode == 0, checked.stderr
    quiet = subprocess.DEVNULL
    with subprocess.Popen(files.run, stdout=quiet, stderr=quiet, env=environment) as process:
        try:
            end = time.monotonic() + PATIENCE
            while is_free(port):
                assert time.monotonic() < end, f"{kind} does not listen"
                time.sleep(0.02)
            yield Proxy(kind, port, behind)
        finally:
            process.kill()
