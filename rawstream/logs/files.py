"""The files that are followed: those that were named, and those that a pattern finds, sooner or
later."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import trio

from ..stderr import logger
from .collection import Kind, Logs
from .following import FollowedFile
from .names import names_of

MOST_FILES = 1000
"""Files that are followed at a time. Each is looked at ten times a second."""

SEARCH_SECONDS = 1.0
"""How often patterns are searched for other files."""


class FollowedFiles:
    """Files, and their logs."""

    def __init__(self, patterns: Sequence[str], logs: Logs) -> None:
        """Follow what there is already. Raises `OSError` for a file that is named and cannot be
        read, or is a folder."""
        self._patterns = [pattern for pattern in patterns if _is_pattern(pattern)]
        self._logs = logs
        self._paths = set[Path]()
        self._followed = list[FollowedFile]()
        self._is_full = False
        named = [Path(pattern) for pattern in patterns if not _is_pattern(pattern)]
        found = list(self._found())
        self._followed = list(self._begun(named, found))

    async def run(self) -> None:
        """Publish what is written, until cancelled."""
        async with trio.open_nursery() as nursery:
            for followed in self._followed:
                nursery.start_soon(followed.run)
            while self._patterns:
                await trio.sleep(SEARCH_SECONDS)
                found = await trio.to_thread.run_sync(lambda: list(self._found()))
                for followed in self._begun([], found):
                    nursery.start_soon(followed.run)

    def _found(self) -> Iterator[Path]:
        for pattern in self._patterns:
            yield from filter(Path.is_file, map(Path, sorted(glob.glob(pattern, recursive=True))))

    def _begun(self, named: list[Path], found: list[Path]) -> Iterator[FollowedFile]:
        """Begin to follow those that are not followed yet."""
        paths = [path.absolute() for path in (*named, *found)]
        new = [path for path in paths if path not in self._paths]
        left = MOST_FILES - len(self._paths)
        if len(new) > left and not self._is_full:
            self._is_full = True
            logger.warning("at most %d files are followed", MOST_FILES)
        for name, path in names_of(new[:left], self._logs.names).items():
            self._paths.add(path)
            try:
                followed = FollowedFile(name, path)
            except OSError as error:
                if path in {one.absolute() for one in named}:
                    raise
                logger.warning("%s: %s", path, error.strerror)
                continue
            self._logs.add(followed.channel, Kind.FILE, str(path))
            yield followed


def _is_pattern(text: str) -> bool:
    """Whether a text is a pattern, and not the name of a file with such characters in it."""
    return glob.has_magic(text) and not Path(text).exists()
