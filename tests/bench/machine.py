"""What is measured on: the machine, and which servers are installed in which versions."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import peer_servers
from shared import (
    AIOHTTP,
    GRANIAN,
    HYPERCORN,
    NCHAN,
    PEERS,
    RAWSTREAM,
    UVICORN,
    UVICORN_H11,
    WEBSOCKETS,
)

PACKAGES = {
    RAWSTREAM: ("rawstream", "trio", "h11", "wsproto", "h2"),
    UVICORN_H11: ("uvicorn", "h11"),
    UVICORN: ("uvicorn", "httptools", "uvloop"),
    HYPERCORN: ("hypercorn", "trio"),
    AIOHTTP: ("aiohttp",),
    GRANIAN: ("granian",),
    WEBSOCKETS: ("websockets", "uvloop"),
}


def installed_peers() -> list[str]:
    """Return the servers that can be measured here: none of them is required."""
    return [name for name in PEERS if _is_installed(name)]


def _is_installed(name: str) -> bool:
    if name == NCHAN:
        return bool(shutil.which("nginx")) and Path(peer_servers.NCHAN_MODULE).exists()
    try:
        return all(metadata.version(package) for package in PACKAGES[name])
    except metadata.PackageNotFoundError:
        return False


def description() -> str:
    """Describe CPU, kernel and Python."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    kernel = f"{platform.system()} {platform.release()}"
    return f"{_cpu_model()}, {os.cpu_count()} cores; {kernel}; {python}"


def _cpu_model() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def versions(names: Iterable[str]) -> str:
    """List the versions of these servers and of what they run on."""
    packages = dict.fromkeys(
        package for name in (RAWSTREAM, *names) for package in PACKAGES.get(name, ())
    )
    listed = [f"{package} {metadata.version(package)}" for package in packages]
    if NCHAN in names:
        done = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True)
        listed.append(f"nginx {done.stderr.strip().partition('/')[2]} with Debian's nchan")
    return ", ".join(listed)
