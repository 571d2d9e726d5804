"""Programs that fetch mail, each told the same things in its own words."""

from __future__ import annotations

import os
import poplib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from interop_kit import SECONDS, Account, Mailserv, Ran, run


class FetchFailed(Exception):
    """The program says that it could not fetch; holds its exit code and what it printed."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """From where to fetch and how. What a program remembers from one run to the next is kept in `home`."""

    server: Mailserv
    home: Path
    account: Account
    way: Literal["stls", "pop3s"] = "pop3s"
    keep: bool = False

    @property
    def port(self) -> int:
        return self.server.ports["pop3" if self.way == "stls" else "pop3s"]

    @property
    def authority(self) -> Path:
        return self.server.certificates.authority


Fetcher = Callable[[Fetching], list[bytes]]
"""Fetches what it has not fetched before; the messages, in any order, their line ends as the program left them."""


def mpop(fetching: Fetching) -> list[bytes]:
    settings = f"""account default
host 127.0.0.1
port {fetching.port}
user {fetching.account.address}
password {fetching.account.password}
timeout {SECONDS:.0f}
tls on
tls_starttls {"on" if fetching.way == "stls" else "off"}
tls_trust_file {fetching.authority}
keep {"on" if fetching.keep else "off"}
uidls_file {fetching.home}/uidls
received_header off
delivery maildir {_maildir(fetching)}
"""
    _run(fetching, "mpop", "--file", _private(fetching, "mpoprc", settings))
    return _taken(fetching)


def getmail(fetching: Fetching) -> list[bytes]:
    settings = f"""[retriever]
type = SimplePOP3SSLRetriever
server = 127.0.0.1
port = {fetching.port}
username = {fetching.account.address}
password = {fetching.account.password}
ca_certs = {fetching.authority}
timeout = {SECONDS:.0f}
[destination]
type = MDA_external
path = {_deliverer(fetching)}
allow_root_commands = true
[options]
read_all = false
delete = {str(not fetching.keep).lower()}
delivered_to = false
received = false
"""
    rcfile = _private(fetching, "getmailrc", settings)
    _run(fetching, "getmail", "--getmaildir", fetching.home, "--rcfile", rcfile)
    return _taken(fetching)


def fetchmail(fetching: Fetching) -> list[bytes]:
    tls = "sslproto TLS1.2+" if fetching.way == "stls" else "ssl"
    settings = f"""set no bouncemail
poll localhost service {fetching.port} protocol pop3 timeout {SECONDS:.0f} uidl no dns
  user "{fetching.account.address}" password "{fetching.account.password}"
  options {tls} sslcertck sslcertfile "{fetching.authority}" {"keep" if fetching.keep else "no keep"} no rewrite
  mda "{_deliverer(fetching)}"
"""
    rcfile = _private(fetching, "fetchmailrc", settings)
    _run(fetching, "fetchmail", "--invisible", "--fetchmailrc", rcfile, "--idfile", fetching.home / "ids", fine=(0, 1))
    return _taken(fetching)


def curl(fetching: Fetching) -> list[bytes]:
    """curl remembers nothing: the unique-ids of before are in a file, as a script would do it."""
    remembered = fetching.home / "uids"
    before = remembered.read_text().split() if remembered.exists() else []
    listed = _curl(fetching, "", "--request", "UIDL").out.decode().splitlines()
    uids = dict(line.split() for line in listed if line)  # of nothing curl makes an empty line
    wanted = [number for number, uid in uids.items() if uid not in before]
    files = [fetching.home / f"curl-{number}" for number in wanted]
    if wanted:
        first, *others = zip(wanted, files, strict=True)
        urls = [part for number, file in others for part in (_url(fetching, number), "--output", str(file))]
        _curl(fetching, first[0], "--output", str(first[1]), *urls)
    for _ in () if fetching.keep else wanted:
        _curl(fetching, wanted[0], "--request", "DELE", "--head")  # one session each: the rest moves up
    remembered.write_text(" ".join(uids.values()))
    return [file.read_bytes() for file in files]


def by_poplib(fetching: Fetching) -> list[bytes]:
    """The same by Python's own client."""
    context = fetching.server.certificates.client_context()
    if fetching.way == "stls":
        client = poplib.POP3("127.0.0.1", fetching.port, SECONDS)
        client.stls(context)
    else:
        client = poplib.POP3_SSL("127.0.0.1", fetching.port, timeout=SECONDS, context=context)
    try:
        client.user(fetching.account.address)
        client.pass_(fetching.account.password)
        return _by_client(client, fetching)
    except poplib.error_proto as error:
        raise FetchFailed(str(error)) from None
    finally:
        client.quit()


def _by_client(client: poplib.POP3, fetching: Fetching) -> list[bytes]:
    remembered = fetching.home / "uids"
    before = remembered.read_text().split() if remembered.exists() else []
    uids = dict(line.decode().split() for line in client.uidl()[1])
    wanted = [number for number, uid in uids.items() if uid not in before]
    mail = [b"".join(line + b"\n" for line in client.retr(int(number))[1]) for number in wanted]
    for number in () if fetching.keep else wanted:
        client.dele(int(number))
    remembered.write_text(" ".join(uids.values()))
    return mail


def _url(fetching: Fetching, number: str) -> str:
    return f"{'pop3s' if fetching.way == 'pop3s' else 'pop3'}://127.0.0.1:{fetching.port}/{number}"


def _curl(fetching: Fetching, number: str, *options: str) -> Ran:
    login = f"{fetching.account.address}:{fetching.account.password}"
    command = ["curl", "--silent", "--show-error", "--ssl-reqd", "--cacert", str(fetching.authority), "--user", login]
    return _run(fetching, *command, _url(fetching, number), *options)


def _maildir(fetching: Fetching) -> Path:
    folder = fetching.home / "Maildir"
    for name in ("new", "cur", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return folder


def _deliverer(fetching: Fetching) -> Path:
    """A program that puts what it reads into the Maildir."""
    new = _maildir(fetching) / "new"
    program = _private(fetching, "deliver", f'#!/bin/sh\nexec cat >"$(mktemp "{new}/XXXXXXXX")"\n')
    program.chmod(0o700)
    return program


def _private(fetching: Fetching, name: str, text: str) -> Path:
    """A file that only its owner reads: these programs refuse passwords in any other."""
    path = fetching.home / name
    path.touch(0o600)
    path.write_text(text)
    return path


def _taken(fetching: Fetching) -> list[bytes]:
    """Take what was delivered out of the Maildir."""
    mail = []
    for path in (fetching.home / "Maildir" / "new").iterdir():
        mail.append(path.read_bytes())
        os.unlink(path)
    return mail


def _run(fetching: Fetching, *command: str | Path, fine: tuple[int, ...] = (0,)) -> Ran:
    ran = run(*command, home=fetching.home, expect=None)
    if ran.code not in fine:
        raise FetchFailed(f"exit code {ran.code}: {ran.text[-4000:]}")
    return ran


FETCHERS = {
    "mpop": (mpop, ("stls", "pop3s")),
    "fetchmail": (fetchmail, ("stls", "pop3s")),
    "getmail": (getmail, ("pop3s",)),  # it has no STLS
    "curl": (curl, ("stls", "pop3s")),
    "poplib": (by_poplib, ("stls", "pop3s")),
}
every_fetcher = pytest.mark.parametrize(
    ("fetch", "way"),
    [
        pytest.param(fetch, way, id=f"{name}-{way}", marks=pytest.mark.needs(*({name} - {"poplib"})))
        for name, (fetch, ways) in FETCHERS.items()
        for way in ways
    ],
)
