"""A certificate for the server of a test, and a client's context that trusts it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

from mailserv.settings import TLS


@dataclass(frozen=True, slots=True)
class Trust:
    """`tls` is for the server's settings; `context()` for clients of mail.example.org."""

    tls: TLS
    authority: trustme.CA

    @classmethod
    def make(cls, folder: Path) -> Trust:
        authority = trustme.CA()
        issued = authority.issue_cert("mail.example.org")
        issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        issued.private_key_pem.write_to_path(folder / "key.pem")
        return cls(TLS(certificate=folder / "cert.pem", key=folder / "key.pem"), authority)

    def context(self, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context
