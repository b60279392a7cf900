"""Servers of logs as processes, and files for them to follow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peers import COMMAND, free_port, served

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
