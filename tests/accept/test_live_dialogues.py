"""Every dialogue file, played against a server that listens."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from dialogue import Dialogue, all_dialogues, run_live

from mailserv.mail.address import NULL_REVERSE_PATH
from mailserv.mail.message import Acceptance, BytesContent, MailboxDelivery
from mailserv.settings import TLS, Limits, Size
from mailserv.testing.server import MailServer, mail_server

DIALOGUES = all_dialogues()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def tls_files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> TLS:
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("mail.example.org", "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return TLS(certificate=folder / "cert.pem", key=folder / "key.pem")


@pytest.fixture(scope="module")
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    authority.configure_trust(context)
    return context


def fill(server: MailServer, address: str, messages: tuple[bytes, ...]) -> None:
    for number, message in enumerate(messages):
        server.server.store.accept(
            Acceptance(
                queue_id=f"M{number}",
                reverse_path=NULL_REVERSE_PATH,
                content=BytesContent(message),
                received_at=float(number),
                parameters={} if message.partition(b"\r\n\r\n")[0].isascii() else {"SMTPUTF8": ""},
                mailboxes=(MailboxDelivery(address, address, b""),),
            )
        )


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda d: d.name)
def test_a_listening_server_says_what_the_dialogue_says(
    dialogue: Dialogue, tls_files: TLS, client_context: ssl.SSLContext, tmp_path: Path
) -> None:
    values = dialogue.settings
    accounts = values["mailboxes"].split()
    with mail_server(
        accounts=dict.fromkeys(accounts, values["password"]),
        data_dir=tmp_path / "data",
        hostname=values["hostname"],
        local_domains=tuple({address.partition("@")[2] for address in accounts}),
        limits=Limits(message_size=Size(values["message_size"]), sessions_per_ip=0, connections_per_minute=0),
        tls=tls_files if values["tls"] == "yes" else TLS(),
        services=(values["service"],),
        plugins=list(dialogue.plugins),
        plugin=dialogue.plugins,
    ) as server:
        fill(server, accounts[0], dialogue.messages)
        run_live(lambda: server.connect(values["service"]), dialogue, client_context)
