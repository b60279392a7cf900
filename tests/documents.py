"""What stands in the documents as typed into a terminal, typed again, and its output compared."""

from __future__ import annotations

import ast
import itertools
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import islice
from pathlib import Path

import trio
from peers import PATIENCE, is_free

ROOT = Path(__file__).parent.parent
PORT = "8000"
WIRE_PORT, PAGE_PORT = "8001", "8002"
OTHER_PORTS = ("8003", "8004", "8005", "6380")
"""The ports that the documents speak of: of a server, of `rawstream wire` in front of it and of its
page, and of further processes and their Redis."""

LISTENING = re.compile("(listening|serving|rawstream|rawstream logs) on ")

WATCHING = re.compile(r"rawstream wire on .*\nSee it in a browser: .*\n")
"""What `rawstream wire --to` says at its start, in a third terminal."""

EPOCH = re.compile(r"\b(?:[0-9a-f]{8}){1,2}(?=-\d)")
"""The part of a cursor that differs from run to run. Commands use the one printed before."""

Exchange = tuple[str, str]
"""A command, "" for what the server prints meanwhile in its own terminal; and the output."""


def fenced(text: str, language: str) -> list[str]:
    """The code blocks of this language in a Markdown text."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def indented(text: str) -> list[str]:
    """The blocks of a docstring that are indented by four: what stands in terminals. What is
    seen elsewhere is indented by eight."""
    found = re.findall(r"(?:^ {4}.*\n(?:[ \t]*\n)*)+", text.rstrip() + "\n", re.M)
    return [textwrap.dedent(block) for block in found if not block.startswith(" " * 8)]


def exchanges(block: str) -> list[Exchange]:
    """The commands of a terminal, each with what it prints."""
    found = []
    first, *commands = re.split(r"^\$ ", block, flags=re.M)
    if first.strip():
        found.append(("", first))
    for part in commands:
        # A command goes on behind a backslash at the end of its line.
        command = re.match(r"(?:[^\n]*\\\n)*[^\n]*", part)
        assert command
        found.append((command[0], part[command.end() + 1 :]))
    return found


CHAPTERS = sorted((ROOT / "examples").glob("[0-9]*.py"))
"""The programs of the tutorial."""


def named(chapter: Path) -> str:
    """For the name of a test."""
    return chapter.stem


def shown_in(chapter: Path) -> list[Exchange]:
    """What stands in the terminals of a chapter."""
    text = ast.get_docstring(ast.parse(chapter.read_text()), clean=False)
    assert text
    return [exchange for block in indented(text) for exchange in exchanges(block)]


def starts_in(chapter: Path) -> tuple[list[Exchange], str]:
    """What a chapter shows until its server runs, and the command that starts it; "" for the
    clients, whose docstrings start another chapter's server."""
    shown = shown_in(chapter)
    number = next(n for n, (_, printed) in enumerate(shown) if LISTENING.search(printed))
    command = shown[number][0]
    return shown[: number + 1], command if chapter.name in command else ""


def settled(output: str) -> str:
    """Output without what differs from run to run: dates, times, epochs, the version of curl."""
    output = output.replace("\r\n", "\n")
    output = re.sub(r"^((?:< )?Date: ).*?(?=\^M\$$|$)", r"\1*", output, flags=re.M)
    output = re.sub(r"\b\d\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d,\d\d\d\b", "*", output)
    output = re.sub(r"\b\d\d:\d\d:\d\d\b", "*", output)
    output = re.sub(r"\b\d+\.\d\d\ds\b", "*s", output)
    output = re.sub(r"\bcurl/[\d.]+", "curl/*", output)
    output = EPOCH.sub("*", output)
    return output.rstrip("\n")


def environment(programs: Path | None = None) -> dict[str, str]:
    """As in a shell where an environment is active: the one that runs the tests, or the one with
    its programs in this folder."""
    programs = programs or Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def free_after(port: int, count: int) -> list[str]:
    """The next free ports."""
    return [str(n) for n in islice(filter(is_free, itertools.count(port + 1)), count)]


class Terminals:
    """A server's terminal, the reader's, and one for `rawstream wire`, on ports of their own."""

    def __init__(
        self, nursery: trio.Nursery, port: int, folder: Path, programs: Path | None
    ) -> None:
        self._nursery = nursery
        spoken_of = (PORT, WIRE_PORT, PAGE_PORT, *OTHER_PORTS)
        found = (str(port), *free_after(port, len(spoken_of) - 1))
        self._ports = dict(zip(spoken_of, found, strict=True))  # by those of the documents
        self._folder = folder
        self._environment = environment(programs)
        self._process: trio.Process | None = None
        self._beside: list[trio.Process] = []
        self._wire: trio.Process | None = None
        self._printed = trio.Event()
        self._expected = ""
        self._epochs: dict[str, str] = {}  # of the documents, and what they are in this run
        self.output = ""

    async def follow(self, shown: list[Exchange]) -> None:
        """Do all of it in order. A program that says where it listens is the server; starting
        one ends the one before with SIGKILL. A command with `&` at its end goes on beside the
        others."""
        for command, printed in shown:
            if command.endswith("&"):
                await self._start_beside(command, printed)
            elif command and LISTENING.search(printed):
                await self.end()
                await self.start(command)
                await self._server_prints(printed)
            elif not command:
                await self._server_prints(printed)
            elif WATCHING.search(printed):
                await self._watch(command, printed)
            else:
                _, output = await self.run(command)
                assert settled(output) == settled(printed), f"{command}\nprinted:\n{output}"
                self._epochs |= zip(EPOCH.findall(printed), EPOCH.findall(output), strict=True)

    async def end(self) -> None:
        """End the server, and `rawstream wire` before it; besides access lines the server has
        printed what was shown and nothing else."""
        if self._wire is not None:
            self._wire.kill()
            await self._wire.wait()
        self._wire = None
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            assert _without_access(self.output) == _without_access(self._expected)
        self._process = None

    @property
    def is_running(self) -> bool:
        """Whether the server is."""
        return self._process is not None and self._process.poll() is None

    async def start(self, command: str) -> None:
        """Start the server, and wait until it says where it listens."""
        self.output = self._expected = ""
        words = self._here(command).split()
        self._process = await trio.lowlevel.open_process(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=self._environment,
        )
        self._nursery.start_soon(self._read, self._process)
        with trio.move_on_after(PATIENCE):
            while not LISTENING.search(self.output):
                await self._printed.wait()
        assert LISTENING.search(self.output), self.output

    async def run(self, command: str) -> tuple[int, str]:
        """Run a command in the reader's terminal: its exit status and output."""
        with trio.fail_after(PATIENCE * 3):
            done = await trio.run_process(
                ["bash", "-c", self._here(command)],
                capture_stdout=True,
                stderr=subprocess.STDOUT,
                check=False,
                cwd=ROOT,
                env=self._environment,
            )
        return done.returncode, self._there(done.stdout)

    async def _start_beside(self, command: str, printed: str) -> None:
        """Start a program in the background, and wait until it has printed what is shown, and
        listens on the ports that its command names."""
        command = self._here(command).removesuffix("&")
        process = await trio.lowlevel.open_process(
            ["bash", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # all that it starts can be ended at once
            cwd=ROOT,
            env=self._environment,
        )
        self._beside.append(process)
        assert process.stdout is not None
        said = ""
        with trio.move_on_after(PATIENCE * 3):
            while len(settled(said)) < len(settled(printed)):
                said += self._there(await process.stdout.receive_some())
            for port in self._ports.values():
                while port in command and is_free(int(port)):  # noqa: ASYNC110 - nobody tells of it
                    await trio.sleep(0.01)
        assert settled(said) == settled(printed), f"{command}\nprinted:\n{said}"
        self._nursery.start_soon(self._drop, process.stdout)

    async def kill_all(self) -> None:
        """Kill all that still runs."""
        for beside in self._beside:
            with suppress(ProcessLookupError):
                os.killpg(beside.pid, signal.SIGKILL)
        for process in (self._process, self._wire, *self._beside):
            if process is not None:
                process.kill()
                await process.wait()

    async def _watch(self, command: str, printed: str) -> None:
        """Start `rawstream wire` before the server, and compare what it says at its start. What
        passes it is compared where a command prints its recording."""
        ports = ["--port", self._ports[WIRE_PORT], "--page-port", self._ports[PAGE_PORT]]
        self._wire = await trio.lowlevel.open_process(
            [*self._here(command).replace("\\\n", " ").split(), *ports],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=self._environment,
        )
        assert self._wire.stdout is not None
        said = ""
        with trio.fail_after(PATIENCE):
            while not WATCHING.search(said):
                data = await self._wire.stdout.receive_some()
                assert data, said
                said += self._there(data)
        assert said.rstrip() == printed.rstrip()
        self._nursery.start_soon(self._drop, self._wire.stdout)

    async def _drop(self, output: trio.abc.ReceiveStream) -> None:
        async for _ in output:
            pass

    async def _read(self, process: trio.Process) -> None:
        assert process.stdout is not None
        async for data in process.stdout:
            self.output += self._there(data)
            self._printed.set()
            self._printed = trio.Event()

    async def _server_prints(self, printed: str) -> None:
        self._expected += printed.rstrip("\n") + "\n"
        with trio.move_on_after(PATIENCE):
            while len(settled(self.output)) < len(settled(self._expected)):
                await self._printed.wait()
        assert settled(self.output) == settled(self._expected), self.output

    def _here(self, text: str) -> str:
        text = self._with_ports(text)
        text = EPOCH.sub(lambda epoch: self._epochs.get(epoch[0], epoch[0]), text)
        text = re.sub(r"python examples/[^;|&]*", self._with_port, text)
        text = re.sub(r"\$PWD/(examples/\w+\.conf)", self._configuration, text)
        return re.sub(r"/tmp\b", str(self._folder), text)

    def _with_ports(self, text: str) -> str:
        return re.sub(rf"\b({'|'.join(self._ports)})\b", lambda port: self._ports[port[0]], text)

    def _with_port(self, command: re.Match[str]) -> str:
        """An example on its port: the last argument, unless it has an address already."""
        has_port = any(port in command[0] for port in self._ports.values())
        return command[0] if has_port else f"{command[0]} {self._ports[PORT]} "

    def _configuration(self, path: re.Match[str]) -> str:
        """A configuration of the examples, with the ports of this run."""
        copy = self._folder / Path(path[1]).name
        copy.write_text(self._with_ports((ROOT / path[1]).read_text()))
        return f"/tmp/{copy.name}"

    def _there(self, output: bytes | bytearray) -> str:
        text = output.decode().replace(str(self._folder), "/tmp")
        for spoken_of, port in self._ports.items():
            text = re.sub(rf"\b{port}\b", spoken_of, text)
        return text


def _without_access(output: str) -> list[str]:
    return [line for line in settled(output).splitlines() if " rawstream.access " not in line]


@asynccontextmanager
async def terminals(
    port: int, folder: Path, programs: Path | None = None
) -> AsyncIterator[Terminals]:
    """Terminals in which /tmp is `folder`, and `environment(programs)` is active; what still runs
    at the end is killed."""
    async with trio.open_nursery() as nursery:
        both = Terminals(nursery, port, folder, programs)
        try:
            yield both
        finally:
            with trio.CancelScope(shield=True):
                await both.kill_all()
            nursery.cancel_scope.cancel()
