"""SCRAM-SHA-256 with mpop, msmtp and neomutt, whose side of it is GNU SASL's; APOP with mpop and fetchmail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fetchers import NOT_OPENED
from interop_kit import SECONDS, Certificates, Ran, run
from terminal import on_terminal

from mailserv.settings import TLS, Limits, Service
from mailserv.testing.server import MailServer, mail_server

pytestmark = pytest.mark.interop
ALICE = "alice@example.org"
Client = Callable[[MailServer, Path, str], Ran]
MESSAGE = b"Subject: over SCRAM\r\n\r\nHello.\r\n"


@pytest.fixture
def server() -> Iterator[MailServer]:
    limits = Limits(sessions_per_ip=0, connections_per_minute=0)
    apop = {"plugin": {"apop": {"secrets": {ALICE: "shared"}}}}
    services: tuple[Service, ...] = ("smtp", "submission", "pop3")
    with mail_server(plugins=["scram", "apop"], config=apop, services=services, limits=limits) as running:
        running.send("sender@example.net", [ALICE], MESSAGE)
        with_password(running)
        yield running


def with_password(server: MailServer) -> None:
    """The account's first login, from which on it can use SCRAM."""
    server.send(ALICE, [ALICE], MESSAGE, login=(ALICE, "secret"))


def settings(
    server: MailServer, folder: Path, service: str, password: str, more: str, auth: str = "scram-sha-256"
) -> Path:
    path = folder / service
    path.touch(0o600)
    host, port = server.address("pop3" if service == "mpop" else "submission")
    path.write_text(
        f"account default\nhost {host}\nport {port}\nuser {ALICE}\npassword {password}\n"
        f"auth {auth}\ntls off\ntimeout {SECONDS:.0f}\n{more}"
    )
    return path


def mpop(server: MailServer, folder: Path, password: str, auth: str = "scram-sha-256") -> Ran:
    for name in ("new", "cur", "tmp"):
        (folder / "Maildir" / name).mkdir(parents=True)
    more = f"uidls_file {folder}/uidls\nreceived_header off\ndelivery maildir {folder}/Maildir\n"
    return run("mpop", "--file", settings(server, folder, "mpop", password, more, auth), home=folder, expect=None)


def msmtp(server: MailServer, folder: Path, password: str) -> Ran:
    file = settings(server, folder, "msmtp", password, f"from {ALICE}\n")
    return run("msmtp", "--file", file, ALICE, home=folder, expect=None, given=MESSAGE)


@pytest.mark.needs("mpop")
def test_mpop_fetches(server: MailServer, tmp_path: Path) -> None:
    ran = mpop(server, tmp_path, "secret")
    assert ran.code == 0, ran.text
    assert len(list((tmp_path / "Maildir" / "new").iterdir())) == 2
    assert server.wait_for_log("auth_ok", service="pop3", login=ALICE)


@pytest.mark.needs("mpop")
def test_mpop_fetches_over_tls(certificates: Certificates, tmp_path: Path) -> None:
    """Where it could bind the login to the channel, and we do not offer to (SCRAM-SHA-256-PLUS)."""
    tls = TLS(certificate=certificates.chain, key=certificates.key)
    with mail_server(plugins=["scram"], services=("smtp", "submission", "pop3"), tls=tls) as server:
        with_password(server)
        more = f"tls on\ntls_starttls on\ntls_trust_file {certificates.authority}\nuidls_file {tmp_path}/uidls\n"
        file = settings(server, tmp_path, "mpop", "secret", f"{more}delivery mbox {tmp_path}/mail\n")
        run("mpop", "--file", file, home=tmp_path)
        assert server.wait_for_log("auth_ok", service="pop3", login=ALICE)
        assert server.wait_for_log("pop3_session", tls="TLSv1.3", retrieved=1)


@pytest.mark.needs("neomutt")
def test_neomutt_opens_the_maildrop_and_names_itself_twice(server: MailServer, tmp_path: Path) -> None:
    host, port = server.address("pop3")
    rcfile = tmp_path / "neomuttrc"
    rcfile.write_text(
        f"set folder = {tmp_path}\nset spool_file = pop://{host}:{port}/\nset pop_user = {ALICE}\nset pop_pass = secret\n"
        "set pop_authenticators = SCRAM-SHA-256\nset pop_auth_try_all = no\nset ssl_starttls = no\nset ssl_force_tls = no\n"
        "set quit = yes\nset sleep_time = 0\npush <quit>\n"
    )
    painted = on_terminal("neomutt", "-n", "-F", rcfile, home=tmp_path, end_at=NOT_OPENED)
    assert NOT_OPENED not in painted, painted
    assert server.wait_for_log("auth_ok", service="pop3", login=ALICE)


@pytest.mark.needs("msmtp")
def test_msmtp_sends(server: MailServer, tmp_path: Path) -> None:
    ran = msmtp(server, tmp_path, "secret")
    assert ran.code == 0, ran.text
    assert len(server.wait_for_mail(ALICE, 3)) == 3
    assert server.wait_for_log("auth_ok", 2, service="submission", login=ALICE)


@pytest.mark.needs("mpop", "msmtp")
@pytest.mark.parametrize(("client", "service"), [(mpop, "pop3"), (msmtp, "submission")])
def test_a_wrong_password_is_refused(server: MailServer, tmp_path: Path, client: Client, service: str) -> None:
    assert client(server, tmp_path, "wrong").code != 0
    assert server.wait_for_log("auth_failed", service=service, login=ALICE, reason="credentials")
    assert len(server.mailbox(ALICE)) == 2


@pytest.mark.needs("mpop")
def test_mpop_fetches_by_apop(server: MailServer, tmp_path: Path) -> None:
    ran = mpop(server, tmp_path, "shared", "apop")
    assert ran.code == 0, ran.text
    assert len(list((tmp_path / "Maildir" / "new").iterdir())) == 2


@pytest.mark.needs("fetchmail")
def test_fetchmail_fetches_by_apop(server: MailServer, tmp_path: Path) -> None:
    host, port = server.address("pop3")
    rcfile = tmp_path / "fetchmailrc"
    rcfile.touch(0o600)
    rcfile.write_text(
        f"poll {host} service {port} protocol apop timeout {SECONDS:.0f} no dns\n"
        f'  user "{ALICE}" password "shared" options sslproto "" keep no rewrite mda "cat >>{tmp_path}/mail"\n'
    )
    ran = run("fetchmail", "--invisible", "--nosyslog", "--fetchmailrc", rcfile, home=tmp_path)
    assert (tmp_path / "mail").read_bytes().count(b"Subject: over SCRAM") == 2, ran.text
