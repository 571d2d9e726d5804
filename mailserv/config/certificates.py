"""The certificate of `[tls]`: is it there, readable, whole, in date, and for our name?"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from mailserv.config.problems import Findings
from mailserv.settings import Settings

_NAMELESS = "has no domain name in its subjectAltName, where clients look for"


def check_certificate(settings: Settings, findings: Findings, now: datetime | None = None) -> None:
    """Add what would keep TLS from working as problems, what clients may complain of as warnings."""
    certificate, key = settings.tls.certificate, settings.tls.key
    if certificate is None or key is None:
        return
    readable = [_is_readable(path, name, findings) for path, name in ((certificate, "certificate"), (key, "key"))]
    if all(readable) and _belong_together(certificate, key, findings):
        _check_contents(certificate, settings.hostname, now or datetime.now(UTC), findings)


def _is_readable(path: Path, name: str, findings: Findings) -> bool:
    try:
        path.read_bytes()
    except OSError as error:
        findings.wrong(("tls", name), f"cannot read {path}: {error.strerror}")
        return False
    return True


def _belong_together(certificate: Path, key: Path, findings: Findings) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            findings.wrong(("tls", "key"), f"{key} is not the key of {certificate}")
        elif not _certificates(certificate):
            findings.wrong(("tls", "certificate"), f"{certificate} holds no PEM certificate")
        else:
            findings.wrong(("tls", "key"), f"{key} holds no private key without a passphrase in PEM form")
        return False
    return True


def _no_password() -> str:
    """A server that starts by itself has nobody to ask; without this, OpenSSL would ask the terminal."""
    return ""


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        return []


def _check_contents(path: Path, hostname: str, now: datetime, findings: Findings) -> None:
    leaf = _certificates(path)[0]
    if leaf.not_valid_after_utc < now:
        findings.warn(("tls", "certificate"), f"{path} ran out on {leaf.not_valid_after_utc:%Y-%m-%d}")
    if leaf.not_valid_before_utc > now:
        findings.warn(("tls", "certificate"), f"{path} is not valid before {leaf.not_valid_before_utc:%Y-%m-%d}")
    names = _names(leaf)
    parent = hostname.casefold().partition(".")[2]
    if hostname.casefold() not in names and f"*.{parent}" not in names:
        shown = ", ".join(sorted(names)[:5])
        said = f"is for {shown}, not for {hostname}" if names else f"{_NAMELESS} {hostname}"
        findings.warn(("tls", "certificate"), f"{path} {said}")


def _names(leaf: x509.Certificate) -> set[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {name.casefold() for name in names.get_values_for_type(x509.DNSName)}
