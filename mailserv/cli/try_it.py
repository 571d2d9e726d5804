"""`mailserv try`: a server to play with. No configuration, no root, nothing that leaves this machine."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from mailserv import logging
from mailserv.cli.running import run, signals
from mailserv.clock import SystemClock
from mailserv.cores import stay_on_one_core
from mailserv.mail.values import Duration
from mailserv.server import Server
from mailserv.settings import TLS, Listen, PluginPolicy, Plugins, Service, Settings
from mailserv.store.directory import reserve
from mailserv.store.passwords import hash_password
from mailserv.store.sqlite import open_store

HOSTNAME = "mail.example.test"  # RFC 2606 §2: .test is nobody's
DOMAIN = "example.test"
ACCOUNTS = {f"alice@{DOMAIN}": "wonderland", f"bob@{DOMAIN}": "builder"}
PATIENCE = Duration(120)  # for timeout@, which hears nothing for a minute
PORTS: dict[Service, int] = {"smtp": 2525, "submission": 2587, "pop3": 2110}


@dataclass(frozen=True, slots=True)
class Demo:
    """The folder it lives in, and the port of each service."""

    data_dir: Path
    ports: dict[Service, int]


@click.command("try")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var/try"),
    show_default=True,
    help="Where its mail is kept; delete it to start afresh.",
)
def try_it(data_dir: Path) -> None:
    """Start a server to play with, and show how to send and fetch a message.

    No configuration and no root. It listens on this machine only, for the domain example.test with the accounts alice
    and bob, and shows the life of each message as it happens. Nothing leaves this machine: the only way out leads back
    to the demo itself, which sees that and returns mail for any other domain as a bounce. Ctrl-C ends it.

    \b
    Example:
      mailserv try
    """
    os.umask(0o077)
    demo = Demo(data_dir.absolute(), {service: _free_port(port) for service, port in PORTS.items()})
    _prepare(demo.data_dir)
    with signals() as taken:
        stay_on_one_core(os.getpid())
        logging.configure("short", "info")
        click.echo(guide(demo))
        run(Server(settings(demo)), taken, _nothing)


def _nothing() -> None:
    """SIGHUP: there is no file to read again."""


def settings(demo: Demo) -> Settings:
    """The demo's settings. The only way out leads back to its own port 25: a loop, which is seen, so that mail bounces."""
    return Settings(
        hostname=HOSTNAME,
        data_dir=demo.data_dir,
        local_domains=(DOMAIN,),
        postmaster=f"alice@{DOMAIN}",
        listen=tuple(Listen(service=service, address=f"127.0.0.1:{port}") for service, port in demo.ports.items()),
        tls=TLS(certificate=demo.data_dir / "cert.pem", key=demo.data_dir / "key.pem"),
        routes={"*": f"smtp:[127.0.0.1]:{demo.ports['smtp']}"},
        plugins=Plugins(enabled=("magic",), policy={"magic": PluginPolicy(budget=PATIENCE)}),
        plugin={"magic": {"domains": [DOMAIN]}},
    )


def guide(demo: Demo) -> str:
    """What is running, and lines to copy: each a whole command that works as it stands."""
    alice, bob = ACCOUNTS
    ports = demo.ports
    accounts = "\n".join(f"  {address}  password {password}" for address, password in ACCOUNTS.items())
    return f"""
A mail server for {DOMAIN}, for this machine only: smtp on port {ports["smtp"]}, submission on {ports["submission"]}, \
pop3 on {ports["pop3"]}.

{accounts}

Copy these lines into another terminal. Send a message from alice to bob:

{_curl_send(demo, alice, bob)}

Fetch bob's first message:

curl -sS --url pop3://127.0.0.1:{ports["pop3"]}/1 --user {bob}:{ACCOUNTS[bob]}

Send to somebody elsewhere. Nothing leaves this machine, so it comes back to alice as a bounce; then fetch that:

{_curl_send(demo, alice, "somebody@example.com")}

curl -sS --url pop3://127.0.0.1:{ports["pop3"]}/1 --user {alice}:{ACCOUNTS[alice]}

The same with swaks, by the submission port and from the world outside:

swaks --server 127.0.0.1:{ports["submission"]} --auth PLAIN --auth-user {alice} --auth-password {ACCOUNTS[alice]} \
--from {alice} --to {bob}

swaks --server 127.0.0.1:{ports["smtp"]} --from stranger@example.net --to {bob}

To see what your own program makes of a refusal, let it send to tempfail@{DOMAIN}, permfail@{DOMAIN}, \
timeout@{DOMAIN}, or to a reply's code, as in 452@{DOMAIN}.

Its mail is kept in {demo.data_dir}; Ctrl-C ends it. The life of each message follows.
"""


def _curl_send(demo: Demo, sender: str, recipient: str) -> str:
    message = rf"From: {sender}\r\nTo: {recipient}\r\nSubject: Hello\r\n\r\nIt works.\r\n"
    return (
        f"printf '{message}' | curl -sS --url smtp://127.0.0.1:{demo.ports['submission']} "
        f"--user {sender}:{ACCOUNTS[sender]} --mail-from {sender} --mail-rcpt {recipient} --upload-file -"
    )


def _prepare(data_dir: Path) -> None:
    """The accounts with their passwords, and a certificate; what is there from an earlier try stays."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(reserve(data_dir))  # where another one is running no line is to be copied
    store = open_store(data_dir, SystemClock(), exclusive=False)
    try:
        for address, password in ACCOUNTS.items():
            if not store.has_account(address):
                store.add_account(address, hash_password(password), SystemClock().now())
    finally:
        store.close()
    if not (data_dir / "key.pem").exists():
        _make_certificate(data_dir / "cert.pem", data_dir / "key.pem")


def _make_certificate(certificate: Path, key_file: Path) -> None:
    """A self-signed one, so that STARTTLS and STLS can be tried; no client trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTNAME)])
    today = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOSTNAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _free_port(wanted: int) -> int:
    """`wanted`, or another one where that is taken. The listener takes it a moment later."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that has just been closed is free
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")
