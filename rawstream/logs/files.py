"""The files that are followed: those that were named, and those that a pattern finds, sooner or
later."""

from __future__ import annotations

import glob
import os
import resource
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import trio

from ..stderr import logger
from .collection import Kind, Logs
from .following import FollowedFile
from .lines import readable
from .names import name_of, names_of

MOST_FILES = 1000
"""Files that are followed at a time; fewer where a process may not open four times as many."""

SEARCH_SECONDS = 1.0
"""How often patterns are searched for other files."""


class FollowedFiles:
    """Files, and their logs."""

    def __init__(self, patterns: Sequence[str], logs: Logs) -> None:
        """Follow what there is already. Raises `OSError` for a file that is named and cannot be
        read."""
        self._patterns = [pattern for pattern in patterns if _is_pattern(pattern)]
        self._logs = logs
        self._paths = set[Path]()
        self._refused = set[Path]()  # that cannot be read, which was said once
        self._most = min(MOST_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 4)
        named = names_of(Path(pattern) for pattern in patterns if not _is_pattern(pattern))
        self._named = [self._begin(name, path) for name, path in named.items()]
        self._found = list(self._begun(list(self._search())))

    async def run(self) -> None:
        """Publish what is written, until cancelled."""
        async with trio.open_nursery() as nursery:
            for followed in self._named:
                nursery.start_soon(partial(followed.run, until_gone=False))
            for followed in self._found:
                nursery.start_soon(self._run_until_gone, followed)
            while self._patterns:
                await trio.sleep(SEARCH_SECONDS)
                found = await trio.to_thread.run_sync(lambda: list(self._search()))
                for followed in self._begun(found):
                    nursery.start_soon(self._run_until_gone, followed)

    async def _run_until_gone(self, followed: FollowedFile) -> None:
        await followed.run(until_gone=True)
        self._paths.discard(followed.path)
        self._logs.remove(followed.channel.name)

    def _search(self) -> Iterator[tuple[str, Path]]:
        """The files that patterns find, and names for them: their places below the fixed part of
        the pattern. So the names stay the same when other files come."""
        for pattern in self._patterns:
            parts = Path(pattern).absolute().parts
            fixed = next(n for n, part in enumerate(parts) if glob.has_magic(part))
            for text in sorted(glob.glob(pattern, recursive=True)):
                if os.path.isfile(text):
                    path = Path(text).absolute()
                    yield name_of(".".join(path.parts[fixed:])), path

    def _begun(self, found: list[tuple[str, Path]]) -> Iterator[FollowedFile]:
        """Begin to follow those that are not followed yet."""
        for name, path in found:
            if path in self._paths:
                continue
            try:
                if len(self._paths) >= self._most:
                    raise OSError(0, f"at most {self._most} files are followed")
                followed = self._begin(name_of(name, self._logs.names), path)
            except OSError as error:
                if path not in self._refused:
                    logger.warning("%s: %s", path, error.strerror)
                self._refused.add(path)
                continue
            yield followed

    def _begin(self, name: str, path: Path) -> FollowedFile:
        followed = FollowedFile(name, path)
        self._paths.add(path)
        about = readable(os.fsencode(path)).replace("\n", "\\n")
        self._logs.add(followed.channel, Kind.FILE, about)
        return followed


def _is_pattern(text: str) -> bool:
    """Whether a text is a pattern, and not the name of a file with such characters in it."""
    return glob.has_magic(text) and not os.path.lexists(text)
