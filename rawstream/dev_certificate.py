"""The certificate of `--dev-cert`, for this machine, and the authority that issues it.

A browser that has been told to trust the authority keeps doing so, because the authority is kept in
the user's data folder. Its key would let others pass for any site in that browser: only the user
may read the folder. In it are

    authority-key.pem  the authority: its key and its certificate in one file, so that no other
                       process sees one without the other
    authority.pem      its certificate alone, which browsers and curl are told to trust
    server-*.pem       a key and a certificate, one file for each set of names

The certificates of servers are kept, too: a browser that was told to go on in spite of its warning
remembers the certificate itself. This module needs trustme, which is not always installed.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

ORGANIZATION = "rawstream --dev-cert"
"""What browsers list the authority under."""

VALID = timedelta(days=820)
"""Apple's systems refuse certificates for more than 825 days."""

RENEWED = timedelta(days=30)
"""A certificate that ends sooner is made anew. A server keeps what it has loaded at its start."""


def make_certificate(names: Iterable[str]) -> tuple[Path, Path]:
    """Return the file of a certificate and its key for these names and for `LOCAL_NAMES`, and the
    file of its authority's certificate. What is not there yet is made. Raises `OSError`, or
    `ValueError` with a message that fits one line."""
    folder = _data_folder()
    folder.mkdir(0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    authority = _authority(folder / "authority-key.pem")
    public = folder / "authority.pem"
    if not public.exists() or public.read_bytes() != authority.cert_pem.bytes():
        _put(public, authority.cert_pem.bytes(), os.replace)
    every = sorted({*LOCAL_NAMES, *filter(None, map(_certifiable, names))})
    digest = hashlib.sha256(" ".join(every).encode()).hexdigest()[:16]
    file = folder / f"server-{digest}.pem"
    if not _is_usable(file, authority):
        _put(file, _issued(authority, every), os.replace)
    return file, public


def _data_folder() -> Path:
    """The user's own folder for what programs keep, by the custom of the system."""
    base = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(base):  # others are to be ignored (XDG Base Directory Specification)
        return Path(base, "rawstream")
    try:
        home = Path.home()
    except RuntimeError:
        raise ValueError("there is no home folder for a certificate: set XDG_DATA_HOME") from None
    if sys.platform == "darwin":
        return home / "Library/Application Support/rawstream"
    return home / ".local/share/rawstream"


def _authority(file: Path) -> trustme.CA:
    """The authority of this file, which is made if it is not there."""
    if not file.exists():
        made = trustme.CA(organization_name=ORGANIZATION, path_length=0)
        with suppress(FileExistsError):  # another process was first: its authority is used
            _put(file, made.private_key_pem.bytes() + made.cert_pem.bytes(), os.link)
    pem = file.read_bytes()
    try:
        _certificate(pem)
    except (TypeError, ValueError):
        # It is not replaced unasked: browsers would have to be told to trust the new one.
        raise ValueError(
            f"{file}: no valid certificate and key; delete the file, and a new authority is made"
        ) from None
    return trustme.CA.from_pem(pem, pem)


def _certificate(pem: bytes) -> x509.Certificate:
    """The certificate that stands there with its key. Raises `TypeError` if the key has a password,
    `ValueError` for anything else that is wrong, and if the certificate ends soon."""
    certificate = x509.load_pem_x509_certificate(pem)
    if load_pem_private_key(pem, None).public_key() != certificate.public_key():
        raise ValueError("the key is another one's")
    if certificate.not_valid_after_utc < datetime.now(timezone.utc) + RENEWED:
        raise ValueError("it ends soon")
    return certificate


def _certifiable(name: str) -> str:
    """A host name or address as it stands in a certificate; "" if it stands for any."""
    name = name.strip("[]").partition("%")[0].rstrip(".").lower()
    return "" if name in ("*", "0.0.0.0", "::") else name


def _is_usable(file: Path, authority: trustme.CA) -> bool:
    try:
        issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
        _certificate(file.read_bytes()).verify_directly_issued_by(issuer)
    except (FileNotFoundError, InvalidSignature, TypeError, ValueError):
        return False
    return True


def _issued(authority: trustme.CA, names: list[str]) -> bytes:
    """A new key and certificate for these names."""
    now = datetime.now(timezone.utc)
    try:
        issued = authority.issue_cert(
            *names,
            organization_name=ORGANIZATION,
            not_before=now - timedelta(days=1),  # for the clocks of virtual machines and phones
            not_after=now + VALID - timedelta(days=1),
        )
    except ValueError as error:
        raise ValueError(f"no certificate for {', '.join(names)}: {error}") from None
    return issued.private_key_and_cert_chain_pem.bytes()


def _put(file: Path, pem: bytes, place: Callable[[str, Path], None]) -> None:
    """Write a file that only the user may read. It is whole when `place` (`os.replace`, or
    `os.link` if it must not be there yet) gives it its name."""
    descriptor, temporary = tempfile.mkstemp(dir=file.parent)  # its permissions are 0600
    try:
        with open(descriptor, "wb") as written:
            written.write(pem)
        place(temporary, file)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
