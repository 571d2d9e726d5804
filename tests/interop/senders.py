"""Programs that send mail, each told the same things in its own words."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from interop_kit import SECONDS, Account, Mailserv, run

Way = Literal["plain", "starttls", "tls"]
Mechanism = Literal["", "PLAIN", "LOGIN"]

NOBODY = Account("", "")


class Refused(Exception):
    """The program could not send; holds its exit code and what it printed."""


@dataclass(frozen=True, slots=True)
class Sending:
    """What to send and how. `login`'s mechanism is "" without one."""

    server: Mailserv
    home: Path
    service: str = "smtp"
    way: Way = "plain"
    mechanism: Mechanism = ""
    login: Account = NOBODY
    reverse_path: str = "somebody@example.net"

    @property
    def port(self) -> int:
        return self.server.ports[self.service]


Sender = Callable[[Sending, list[str], bytes], None]


def swaks(sending: Sending, forward_paths: list[str], content: bytes) -> None:
    message = sending.home / "message"
    message.write_bytes(content + b".\r\n")  # swaks takes this away and, without it, would add a line end
    command: list[str | Path] = ["swaks", "--server", "127.0.0.1", "--port", str(sending.port), "--silent", "2"]
    command += ["--from", sending.reverse_path, "--to", ",".join(forward_paths), "--data", f"@{message}"]
    if sending.way != "plain":
        command += ["--tls" if sending.way == "starttls" else "--tls-on-connect"]
        command += ["--tls-verify", "--tls-ca-path", sending.server.certificates.authority]
    if sending.mechanism:
        command += ["--auth", sending.mechanism]
        command += ["--auth-user", sending.login.address, "--auth-password", sending.login.password]
    _run(sending, command)


def curl(sending: Sending, forward_paths: list[str], content: bytes) -> None:
    message = sending.home / "message"
    message.write_bytes(content)
    scheme = "smtps" if sending.way == "tls" else "smtp"
    command: list[str | Path] = ["curl", "--silent", "--show-error", "--verbose", "--upload-file", message]
    command += [f"{scheme}://127.0.0.1:{sending.port}/client.example.net", "--mail-from", sending.reverse_path]
    for forward_path in forward_paths:
        command += ["--mail-rcpt", forward_path]
    if sending.way != "plain":
        command += ["--ssl-reqd", "--cacert", sending.server.certificates.authority]
    if sending.mechanism:
        command += ["--user", f"{sending.login.address}:{sending.login.password}"]
        command += ["--login-options", f"AUTH={sending.mechanism}"]
    _run(sending, command)


def _run(sending: Sending, command: list[str | Path]) -> None:
    ran = run(*command, home=sending.home, expect=None)
    if ran.code:
        raise Refused(f"exit code {ran.code}: {ran.text[-4000:]}")


def by_smtplib(sending: Sending, forward_paths: list[str], content: bytes) -> None:
    context = sending.server.certificates.client_context()
    kind = smtplib.SMTP if sending.way != "tls" else lambda *a, **k: smtplib.SMTP_SSL(*a, context=context, **k)
    with kind("127.0.0.1", sending.port, "client.example.net", timeout=SECONDS) as client:
        try:
            if sending.way == "starttls":
                client.starttls(context=context)
            client.ehlo()
            if sending.mechanism:
                client.user, client.password = sending.login.address, sending.login.password
                method = {"PLAIN": client.auth_plain, "LOGIN": client.auth_login}[sending.mechanism]
                client.auth(sending.mechanism, method)
            client.sendmail(sending.reverse_path, forward_paths, content, ["BODY=8BITMIME"])
        except smtplib.SMTPResponseException as error:
            raise Refused(f"{error.smtp_code} {error.smtp_error!r}") from None
        except smtplib.SMTPRecipientsRefused as error:
            raise Refused(" ".join(f"{code} {text!r}" for code, text in error.recipients.values())) from None


SENDERS = [
    pytest.param(swaks, id="swaks", marks=pytest.mark.needs("swaks", "perl:Net::SSLeay")),
    pytest.param(curl, id="curl", marks=pytest.mark.needs("curl")),
    pytest.param(by_smtplib, id="smtplib"),
]
