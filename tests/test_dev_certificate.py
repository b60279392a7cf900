"""`--dev-cert`: curl trusts its authority, which outlives the servers and is nobody else's."""

from __future__ import annotations

import datetime
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from cryptography import x509
from log_servers import LOGS
from peers import COMMAND, Curl, fetched, program, running, served

from rawstream import dev_certificate
from rawstream.dev_certificate import make_certificate

CERTIFICATE_UNKNOWN = 60
"""The exit status of curl."""


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that everything is kept in, also by programs that the test starts."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data/rawstream"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# -- As a client sees it --------------------------------------------------------------------------


async def test_curl_trusts_the_authority_in_this_run_and_the_next(curl: Curl, kept: Path) -> None:
    found = []
    for _ in range(2):
        async with running("--dev-cert", "--port", "0") as server:
            assert server.url.startswith("https://127.0.0.1:")
            port = server.url.rpartition(":")[2]
            for host in ("localhost", "127.0.0.1"):
                url = f"https://{host}:{port}/hello"
                assert await curl("--cacert", str(kept / "authority.pem"), url) == (0, b"hello\n")
                assert await curl(url) == (CERTIFICATE_UNKNOWN, b"")
            server.process.send_signal(signal.SIGTERM)
            said = (await server.error_output()).splitlines()[0]
        assert re.fullmatch(r"rawstream: .* --cacert: (/.*)", said)
        assert said.endswith(f" {kept}/authority.pem")
        found.append(contents(kept))
    assert found[0] == found[1]


async def test_the_certificate_is_for_the_names_of_the_options_too(curl: Curl, kept: Path) -> None:
    names = ("--host", "127.0.0.2", "--allow-host", "My.Example", "--allow-host", "*")
    async with running("--dev-cert", "--port", "0", *names) as server:
        port = server.url.rpartition(":")[2]
        trusting = ("--cacert", str(kept / "authority.pem"))
        for name in ("my.example", "localhost", "127.0.0.2"):
            at = ("--connect-to", f"::127.0.0.2:{port}")
            answer = await curl(*trusting, *at, f"https://{name}:{port}/hello")
            assert answer == (0, b"hello\n"), name
        status, _ = await curl(*trusting, *at, f"https://other.example:{port}/hello")
        assert status == CERTIFICATE_UNKNOWN
        server.process.send_signal(signal.SIGTERM)
        await server.error_output()


async def test_two_servers_that_start_at_once_have_one_authority(curl: Curl, kept: Path) -> None:
    answers = []
    both = trio.Event()
    waiting = iter([lambda: None, both.set])

    async def serve_and_ask(name: str) -> None:
        async with running("--dev-cert", "--port", "0", "--allow-host", name) as server:
            next(waiting)()
            await both.wait()
            url = f"{server.url}/hello"
            answers.append(await curl("--cacert", str(kept / "authority.pem"), url))
            server.process.send_signal(signal.SIGTERM)
            await server.error_output()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_and_ask, "one.example")
            nursery.start_soon(serve_and_ask, "two.example")
    assert answers == [(0, b"hello\n")] * 2


def test_the_logs_and_the_wire_have_it_too(kept: Path, tmp_path: Path) -> None:
    program("curl")
    log = tmp_path / "app.log"
    log.write_text("INFO one\n")
    trusting = ("--cacert", str(kept / "authority.pem"))
    options = ("--dev-cert", "--port", "0")
    with served(*LOGS, str(log), *options, announced=b"authority.pem") as logs:
        assert logs.stdout is not None
        [url] = re.findall(r"rawstream logs on (https://\S+)", logs.stdout.readline().decode())
        listed = fetched(f"{url}/logs", *trusting)
        assert listed == f"app.log\tfile\t{log}\n".encode()
        proxy = (*COMMAND, "wire", "--to", url, "--insecure", *options)
        with served(*proxy, announced=b"authority.pem") as wire:
            assert wire.stdout is not None
            [url] = re.findall(r"rawstream wire on (https://\S+),", wire.stdout.readline().decode())
            assert fetched(f"{url}/logs", *trusting) == listed


# -- What cannot be -------------------------------------------------------------------------------


def refused(*command: str) -> str:
    """The line on stderr of a program that ends with exit status 1."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1, done.stderr
    [line] = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("arguments", [[], ["logs", "-"], ["wire", "--to", "http://a"]])
def test_without_the_library_one_line_says_what_to_install(arguments: list[str]) -> None:
    code = "import sys; sys.modules['trustme'] = None; from rawstream.__main__ import main; main()"
    line = refused(sys.executable, "-c", code, *arguments, "--dev-cert", "--port", "0")
    assert line == 'rawstream: --dev-cert needs trustme: pip install "rawstream[http2]"'


def test_an_authority_that_is_broken_is_not_replaced_but_reported(kept: Path) -> None:
    make_certificate(())
    file = kept / "authority-key.pem"
    whole = file.read_bytes()
    key, mark, certificate = whole.partition(b"-----BEGIN CERTIFICATE-----")
    another = trustme.CA().private_key_pem.bytes()
    for broken in (b"", whole[:100], key, mark + certificate, another + mark + certificate):
        file.write_bytes(broken)
        with pytest.raises(ValueError, match=r"^/.*/authority-key\.pem: no valid certificate"):
            make_certificate(())
        assert file.read_bytes() == broken
    line = refused(*COMMAND, "--dev-cert", "--port", "0")
    assert line.startswith(f"rawstream: --dev-cert: {file}: no valid certificate and key; delete ")


def test_a_folder_that_cannot_be_written_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/dev/null")
    line = refused(*COMMAND, "--dev-cert", "--port", "0")
    assert line == "rawstream: --dev-cert: /dev/null/rawstream: Not a directory"


def test_a_name_that_no_certificate_can_have_is_named() -> None:
    with pytest.raises(ValueError, match=r"no certificate for .*my_app.*: "):
        make_certificate(["my_app"])


# -- What is kept ---------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_user_may_read_what_is_kept(kept: Path) -> None:
    before = os.umask(0)
    try:
        make_certificate(())
    finally:
        os.umask(before)
    assert mode(kept) == 0o700
    assert len(contents(kept)) == 3  # no temporary file is left
    assert {mode(path) for path in kept.iterdir()} == {0o600}
    kept.chmod(0o755)
    make_certificate(())
    assert mode(kept) == 0o700


def test_who_comes_second_takes_the_authority_of_the_first(
    monkeypatch: pytest.MonkeyPatch, kept: Path
) -> None:
    first = list[bytes]()

    class Late(trustme.CA):
        """One that is made while another process has been faster."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            if not first:
                first.append(b"")
                first[0] = make_certificate(())[1].read_bytes()

    monkeypatch.setattr(trustme, "CA", Late)
    certificate, authority = make_certificate(())
    assert authority.read_bytes() == first[0]
    assert authority.read_bytes() in (kept / "authority-key.pem").read_bytes()
    assert_issued(certificate, authority)


def assert_issued(certificate: Path, authority: Path) -> x509.Certificate:
    issued, by = (x509.load_pem_x509_certificate(p.read_bytes()) for p in (certificate, authority))
    issued.verify_directly_issued_by(by)
    return issued


def test_a_certificate_of_a_server_is_made_anew_if_it_is_of_no_use(kept: Path) -> None:
    certificate, authority = make_certificate(())
    whole = certificate.read_bytes()
    trusted = authority.read_bytes()
    other = trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.bytes()
    for useless in (b"", whole[:100], other):
        certificate.write_bytes(useless)
        authority.unlink()
        assert make_certificate(()) == (certificate, authority)
        assert_issued(certificate, authority)
        assert authority.read_bytes() == trusted
    (kept / "authority-key.pem").unlink()
    make_certificate(())
    assert_issued(certificate, authority)
    assert authority.read_bytes() != trusted


def test_what_ends_soon_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(dev_certificate, "VALID", datetime.timedelta(days=10))
        certificate, authority = make_certificate(())
    soon = assert_issued(certificate, authority)
    assert make_certificate(()) == (certificate, authority)
    late = assert_issued(certificate, authority)
    assert late.not_valid_after_utc - soon.not_valid_after_utc > datetime.timedelta(days=800)
    # As Apple's systems want it.
    assert late.not_valid_after_utc - late.not_valid_before_utc <= datetime.timedelta(days=825)


def test_an_authority_that_ends_soon_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    tomorrow = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    monkeypatch.setattr(trustme, "DEFAULT_EXPIRY", tomorrow)
    with pytest.raises(ValueError, match="no valid certificate and key; delete the file"):
        make_certificate(())


def test_the_folder_is_where_the_system_keeps_such_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def kept_in() -> str:
        return str(make_certificate(())[1].parent.relative_to(tmp_path))

    monkeypatch.setenv("HOME", str(tmp_path))
    assert kept_in() == "data/rawstream"
    monkeypatch.setenv("XDG_DATA_HOME", "not/absolute")
    assert kept_in() == ".local/share/rawstream"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert kept_in() == "Library/Application Support/rawstream"

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(ValueError, match="no home folder"):
        kept_in()
