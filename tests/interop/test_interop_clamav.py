"""mailserv_clamav with Debian's clamd, which knows one virus of our own: no signatures are downloaded."""

from __future__ import annotations

import base64
import hashlib
import smtplib
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from interop_kit import PATH, SECONDS, Lines

from mailserv.testing.server import MailServer, mail_server

pytestmark = pytest.mark.needs("clamd")
ALICE, CAROL = "alice@example.org", "carol@far.example"
VIRUS = b"This is a virus by its signature only, and harms nobody.\r\n"
NAME = "Mailserv.Test"
SETTINGS = """\
LocalSocket {folder}/clamd
DatabaseDirectory {folder}/signatures
TemporaryDirectory {folder}
StreamMaxLength 1M
Foreground yes
"""
ATTACHED = (
    b"Subject: look\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    b"Content-Type: application/octet-stream; name=look.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.b64encode(VIRUS)
    + b"\r\n--b--\r\n"
)
CLEAN = b"Subject: hello\r\n\r\nHi.\r\n"


@contextmanager
def clamd() -> Iterator[Path]:
    """Its socket. A short path: a socket's may have 108 octets."""
    with tempfile.TemporaryDirectory(prefix="clamd-") as name:
        folder = Path(name)
        (folder / "signatures").mkdir()
        signature = f"{hashlib.md5(VIRUS, usedforsecurity=False).hexdigest()}:{len(VIRUS)}:{NAME}\n"
        (folder / "signatures" / "own.hdb").write_text(signature)
        (folder / "clamd.conf").write_text(SETTINGS.format(folder=folder))
        with subprocess.Popen(
            ["clamd", "-c", str(folder / "clamd.conf")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": PATH},
        ) as process:
            assert process.stdout is not None
            log = Lines(process.stdout)
            try:
                log.wait_for("Self checking every")  # said when it listens
                yield folder / "clamd"
            finally:
                process.terminate()
                process.wait(SECONDS)
                assert log.join()


@pytest.fixture(scope="module")
def socket_path() -> Iterator[Path]:
    with clamd() as path:
        yield path


@contextmanager
def scanning(path: Path, **settings: str) -> Iterator[MailServer]:
    section = {"plugin": {"clamav": {"address": f"unix:{path}", **settings}}}
    with mail_server(plugins=["clamav"], config=section) as server:
        yield server


@pytest.mark.parametrize("content", [b"Subject: x\r\n\r\n" + b"y\r\n" * 200_000, CLEAN], ids=["large", "small"])
def test_what_is_clean_passes(socket_path: Path, content: bytes) -> None:
    with scanning(socket_path) as server:
        server.send(CAROL, [ALICE], content)
        assert server.wait_for_mail(ALICE)[0].endswith(content)


def test_a_virus_in_an_attachment_is_refused_by_name(socket_path: Path) -> None:
    with scanning(socket_path) as server:
        with pytest.raises(smtplib.SMTPDataError) as raised:
            server.send(CAROL, [ALICE], ATTACHED)
        assert raised.value.smtp_code == 554
        assert f"5.7.1 The message has a virus: {NAME}".encode() in bytes(raised.value.smtp_error)  # type: ignore[arg-type]
        assert server.mailbox(ALICE) == []


def test_a_virus_may_be_let_in_with_its_name(socket_path: Path) -> None:
    with scanning(socket_path, infected="tag") as server:
        server.send(CAROL, [ALICE], ATTACHED)
        assert f"\r\nX-Virus-Found: {NAME}".encode() in server.wait_for_mail(ALICE)[0]


def test_a_message_that_clamd_finds_too_large_waits(socket_path: Path) -> None:
    with scanning(socket_path) as server:
        with pytest.raises(smtplib.SMTPDataError) as raised:
            server.send(CAROL, [ALICE], b"Subject: x\r\n\r\n" + (b"z" * 900 + b"\r\n") * 2000)
        assert raised.value.smtp_code == 451
        server.wait_for_log("clamav_unavailable")
