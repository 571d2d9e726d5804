"""Programs that fetch mail, each told the same things in its own words."""

from __future__ import annotations

import os
import poplib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from clients_page import ADDRESS, HOST, PASSWORD, PORT, snippet
from interop_kit import SECONDS, Account, Mailserv, Ran, run
from lmtp_sink import lmtp_sink
from terminal import on_terminal

Way = Literal["stls", "pop3s", "plain"]


NOT_OPENED = b"Unable to open mailbox"  # neomutt's words; it then waits for somebody to press a key


class FetchFailed(Exception):
    """The program says that it could not fetch; holds its exit code and what it printed."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """From where to fetch and how. What a program remembers from one run to the next is kept in `home`."""

    server: Mailserv
    home: Path
    account: Account
    way: Way = "pop3s"
    keep: bool = False

    @property
    def port(self) -> int:
        return self.server.ports["pop3s" if self.way == "pop3s" else "pop3"]

    @property
    def authority(self) -> Path:
        return self.server.certificates.authority

    def settings(self, program: str, more: Mapping[str, str], host: str = "127.0.0.1") -> str:
        """docs/clients.md's words for this program, `more` of them replaced."""
        own = {ADDRESS: self.account.address, PASSWORD: self.account.password, HOST: host, PORT: str(self.port)}
        return snippet(program, {**more, **own})


Fetcher = Callable[[Fetching], list[bytes]]
"""Fetches what it has not fetched before; the messages, in any order, their line ends as the program left them."""


def mpop(fetching: Fetching) -> list[bytes]:
    tls = {"stls": "tls_starttls on", "pop3s": "tls_starttls off", "plain": "tls off\nauth user"}[fetching.way]
    keep = f"keep {'on' if fetching.keep else 'off'}"
    settings = fetching.settings("mpoprc", {"tls_starttls off": tls, "keep off": keep})
    settings += f"timeout {SECONDS:.0f}\ntls_trust_file {fetching.authority}\nreceived_header off\n"
    _maildir(fetching)
    _run(fetching, "mpop", "--file", _private(fetching, "mpoprc", settings))
    return _taken(fetching)


def getmail(fetching: Fetching) -> list[bytes]:
    """Over LMTP instead of into its Maildir: that it refuses to root."""
    trust = f"timeout = {SECONDS:.0f}\n"
    trust += f"ca_certs = {fetching.authority}\n" if fetching.way == "pop3s" else ""
    with lmtp_sink() as sink:
        here = f"type = MDA_lmtp\nhost = 127.0.0.1\nport = {sink.port}\noverride = {ADDRESS}"
        replacing = {
            "type = Maildir\npath = ~/Mail/inbox/": here,
            "SimplePOP3SSLRetriever": "SimplePOP3SSLRetriever" if fetching.way == "pop3s" else "SimplePOP3Retriever",
            "delete = true": f"delete = {str(not fetching.keep).lower()}",
            "\n[destination]": f"{trust}\n[destination]",
        }
        rcfile = _private(fetching, "getmailrc", fetching.settings("getmailrc", replacing))
        _run(fetching, "getmail", "--getmaildir", fetching.home, "--rcfile", rcfile)
    return [_unstuffed(taken.content) for taken in sink.messages]


def fetchmail(fetching: Fetching) -> list[bytes]:
    """Into one file of SMTP transactions: a program for each message takes ten times as long."""
    tls = {"stls": "sslproto TLS1.2+", "pop3s": "ssl", "plain": 'sslproto ""'}[fetching.way]
    trust = f'sslcertck sslcertfile "{fetching.authority}"' if fetching.way != "plain" else ""
    batch = fetching.home / "batch"
    replacing = {
        "uidl no dns": f"timeout {SECONDS:.0f} uidl no dns",
        "options ssl sslcertck no keep": f"options {tls} {trust} {'keep' if fetching.keep else 'no keep'}",
        'mda "/usr/bin/procmail -d alice"': f'bsmtp "{batch}"',
    }
    settings = fetching.settings("fetchmailrc", replacing, host="localhost")  # it compares no addresses
    rcfile = _private(fetching, "fetchmailrc", f"set no bouncemail\n{settings}")
    _run(fetching, "fetchmail", "--invisible", "--fetchmailrc", rcfile, "--idfile", fetching.home / "ids", fine=(0, 1))
    return _batched(batch) if batch.exists() else []


def neomutt(fetching: Fetching) -> list[bytes]:
    """Open the maildrop, tag what it has not read, copy or move it into a Maildir, leave."""
    take = "copy" if fetching.keep else "save"
    settings = fetching.settings("neomuttrc", {"pops://": "pops://" if fetching.way == "pop3s" else "pop://"})
    settings += f"""set ssl_ca_certificates_file = {fetching.authority}
set ssl_starttls = {"yes" if fetching.way == "stls" else "no"}
set ssl_force_tls = {"no" if fetching.way == "plain" else "yes"}
set confirm_append = no
set sleep_time = 0
push '<tag-pattern>~U<enter><tag-prefix-cond><{take}-message>=inbox<enter><end-cond><quit>'
"""
    _maildir(fetching)
    (fetching.home / ".cache" / "neomutt" / "messages").mkdir(parents=True, exist_ok=True)
    rcfile = _private(fetching, "neomuttrc", settings)
    painted = on_terminal("neomutt", "-n", "-F", rcfile, home=fetching.home, end_at=NOT_OPENED)
    if NOT_OPENED in painted:
        raise FetchFailed(painted[-4000:].decode(errors="replace"))
    return [re.sub(rb"Content-Length: \d+\nLines: \d+\n\n", b"\n", mail, count=1) for mail in _taken(fetching)]


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
        if not fetching.keep:
            _curl(fetching, wanted[0], "--request", "DELE", "--head", *(_url(fetching, each) for each in wanted[1:]))
    remembered.write_text(" ".join(uids.values()))
    return [file.read_bytes() for file in files]


def by_poplib(fetching: Fetching) -> list[bytes]:
    """The same by Python's own client."""
    context = fetching.server.certificates.client_context()
    client: poplib.POP3
    if fetching.way == "pop3s":
        client = poplib.POP3_SSL("127.0.0.1", fetching.port, timeout=SECONDS, context=context)
    else:
        client = poplib.POP3("127.0.0.1", fetching.port, SECONDS)
    try:
        if fetching.way == "stls":
            client.stls(context)
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
    command = ["curl", "--silent", "--show-error", "--cacert", str(fetching.authority), "--user", login]
    if fetching.way != "plain":
        command.append("--ssl-reqd")
    return _run(fetching, *command, _url(fetching, number), *options)


def _batched(path: Path) -> list[bytes]:
    """Take the contents of SMTP transactions out of a file, each with the Return-Path that it had in the mailbox."""
    mail = []
    for transaction in path.read_bytes().split(b"\r\n.\r\n")[:-1]:
        commands, _, content = transaction.partition(b"\r\nDATA\r\n")
        (reverse_path,) = re.findall(rb"^MAIL FROM:(<.*?>)", commands)
        mail.append(b"Return-Path: " + reverse_path + b"\n" + _unstuffed(content + b"\r\n"))
    path.unlink()
    return mail


def _unstuffed(content: bytes) -> bytes:
    """Without the dots of SMTP (RFC 5321 §4.5.2)."""
    return re.sub(rb"^\.", b"", content, flags=re.MULTILINE)


def _maildir(fetching: Fetching) -> Path:
    """The folder that docs/clients.md names."""
    folder = fetching.home / "Mail" / "inbox"
    for name in ("new", "cur", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return folder


def _private(fetching: Fetching, name: str, text: str) -> Path:
    """A file that only its owner reads: these programs refuse passwords in any other."""
    path = fetching.home / name
    path.touch(0o600)
    path.write_text(text)
    return path


def _taken(fetching: Fetching) -> list[bytes]:
    """Take what was delivered out of the Maildir."""
    mail = []
    for path in [*_maildir(fetching).glob("new/*"), *_maildir(fetching).glob("cur/*")]:
        mail.append(path.read_bytes())
        os.unlink(path)
    return mail


def _run(fetching: Fetching, *command: str | Path, fine: tuple[int, ...] = (0,)) -> Ran:
    ran = run(*command, home=fetching.home, expect=None)
    if ran.code not in fine:
        raise FetchFailed(f"exit code {ran.code}: {ran.text[-4000:]}")
    return ran


FETCHERS: dict[str, tuple[Fetcher, tuple[Way, ...]]] = {
    "mpop": (mpop, ("stls", "pop3s")),
    "fetchmail": (fetchmail, ("pop3s", "stls")),
    "getmail": (getmail, ("pop3s",)),  # it has no STLS
    "neomutt": (neomutt, ("stls", "pop3s")),
    "curl": (curl, ("pop3s", "stls")),
    "poplib": (by_poplib, ("stls", "pop3s")),
}
"""Each with its ways to TLS."""


def _needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.needs(*({name} - {"poplib"}))


every_fetcher = pytest.mark.parametrize(
    ("fetch", "way"),
    [
        pytest.param(fetch, way, id=f"{name}-{way}", marks=_needs(name))
        for name, (fetch, ways) in FETCHERS.items()
        for way in ways
    ],
)
every_program = pytest.mark.parametrize("program", [pytest.param(name, marks=_needs(name)) for name in FETCHERS])
