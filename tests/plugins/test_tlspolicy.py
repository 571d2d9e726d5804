"""mailserv_tlspolicy: which entry counts for a domain, and what becomes of mail to a host that offers too little."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from policing import make_plugins

from mailserv.errors import ConfigError
from mailserv.testing.dns import FakeZone
from mailserv.testing.server import mail_server
from mailserv.testing.sink import ScriptedMX

ALICE, CAROL = "alice@example.org", "carol@far.example"
TABLE = {
    "far.example": "verify",
    ".far.example": "require",
    "deep.sub.far.example": "none",
    "bücher.example": "require",
    "[192.0.2.2]": "verify",
    "[IPv6:2001:DB8:0::1]": "require",
    "*": "opportunistic",
}


@pytest.mark.parametrize(
    ("next_hop", "host", "mode"),
    [
        ("far.example", "mx.elsewhere.example", "verify"),
        ("FAR.example", "mx.elsewhere.example", "verify"),
        ("sub.far.example", "mx.far.example", "require"),
        ("a.b.far.example", "mx.far.example", "require"),
        ("deep.sub.far.example", "mx.far.example", "none"),
        ("notfar.example", "mx.far.example", "opportunistic"),
        ("xn--bcher-kva.example", "mx.far.example", "require"),
        ("[mx.far.example]:587", "mx.far.example", "require"),
        ("[192.0.2.1]:25", "192.0.2.1", "opportunistic"),
        ("[192.0.2.2]", "192.0.2.2", "verify"),
        ("[IPv6:::ffff:c000:202]", "::ffff:c000:202", "verify"),
        ("[192.0.2.2]:25", "192.0.2.2", "verify"),
        ("[IPv6:2001:db8::1]", "2001:db8::1", "require"),
        ("[2001:db8::1]:25", "2001:db8::1", "require"),
    ],
)
def test_the_most_exact_entry_counts(next_hop: str, host: str, mode: str) -> None:
    runner = make_plugins("tlspolicy", {"domains": TABLE}).runner
    assert runner.provide("tls_policy", next_hop=next_hop, host=host) == mode


def test_without_an_entry_it_has_no_opinion() -> None:
    runner = make_plugins("tlspolicy", {"domains": {".far.example": "require"}}).runner
    assert runner.provide("tls_policy", next_hop="far.example", host="mx.far.example") is None


@pytest.mark.parametrize(
    "domains",
    [
        {"far.example": "strict"},
        {"a b": "require"},
        {"*.far.example": "require"},
        {".[192.0.2.2]": "require"},
        {"far.example": "require", "FAR.example": "none"},
    ],
)
def test_an_entry_that_can_not_be_is_refused_at_start(domains: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"^plugin\.tlspolicy\.domains"):
        make_plugins("tlspolicy", {"domains": domains})


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mx.far.example").configure_cert(context)
    return context


@pytest.mark.parametrize(
    ("mode", "offers_tls", "arrives"),
    [("require", True, True), ("require", False, False), ("verify", True, False), ("opportunistic", False, True)],
)
def test_a_host_that_offers_too_little_gets_no_mail(tmp_path: Path, mode: str, offers_tls: bool, arrives: bool) -> None:
    config: dict[str, Any] = {"plugin": {"tlspolicy": {"domains": {"far.example": mode}}}}
    with FakeZone() as zone, ScriptedMX(tls=server_tls() if offers_tls else None) as mx:
        zone.add("far.example", "MX 10 mx.far.example.")
        zone.add("mx.far.example", f"A {mx.host}")
        config["dns"] = {"nameservers": [zone.nameserver]}
        with mail_server(plugins=["tlspolicy"], config=config, smtp_port=mx.port, data_dir=tmp_path) as server:
            server.send(ALICE, [CAROL], b"Hi.\r\n", login=(ALICE, "secret"))
            (line,) = server.wait_for_log("delivery")
            assert line["outcome"] == ("delivered" if arrives else "deferred")
            assert [message.is_tls for message in mx.messages] == ([offers_tls] if arrives else [])
