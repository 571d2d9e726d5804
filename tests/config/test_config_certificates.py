"""What `mailserv check` says of a certificate that clients will not take."""

from __future__ import annotations

from pathlib import Path

import trustme

from mailserv.config import load

CONFIG = """hostname = "mail.example.org"
local_domains = ["example.org"]
postmaster = "alice@example.org"
listen = [{ service = "smtp", address = "0.0.0.0:25" }]
tls = { certificate = "cert.pem", key = "key.pem" }
"""


def test_a_certificate_that_names_no_domain_is_told_where_the_name_belongs(tmp_path: Path) -> None:
    issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert("192.0.2.1")
    (tmp_path / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    (tmp_path / "key.pem").write_bytes(issued.private_key_pem.bytes())
    (tmp_path / "mailserv.toml").write_text(CONFIG, encoding="utf-8")
    [warning] = load(tmp_path / "mailserv.toml").warnings
    assert warning.endswith(
        "cert.pem has no domain name in its subjectAltName, where clients look for mail.example.org"
    )
