"""Servers of logs as processes, and files for them to follow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from peers import COMMAND, free_port, served

ASK = httpx.Client(verify=False, limits=httpx.Limits(max_keepalive_connections=0))
"""A client for all tests: to load the certificates of authorities takes longer than most tests."""

LOGS = (*COMMAND, "logs")


@contextmanager
def logs(*arguments: str, port: int = 0, **options: Any) -> Iterator[str]:
    """The URL of a server of logs."""
    port = port or free_port()
    command = [*LOGS, *arguments, "--port", str(port)]
    with served(*command, announced=b"rawstream logs on", **options):
        yield f"http://127.0.0.1:{port}"


def write(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
