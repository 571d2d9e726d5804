"""Mail finds its way by DNS to a postfix on port 25, in a network of its own."""

from __future__ import annotations

import email
import re
from pathlib import Path

import pytest
from flufl.bounce import all_failures
from interop_kit import Certificates, mailserv
from mail_samples import SAMPLES
from own_network import in_own_network
from private_postfix import postfix

from mailserv.testing.dns import FakeZone

pytestmark = [pytest.mark.interop, pytest.mark.needs("postfix", "root", "ip", "netns")]

DOMAINS = ("first.example", "second.example", "six.example", "implicit.example")
RECORDS = {
    "first.example": ["MX 10 mx.example.net.", "MX 20 dead.example.net."],
    "second.example": ["MX 20 mx.example.net.", "MX 10 dead.example.net."],  # the best one does not answer
    "six.example": ["MX 10 both.example.net."],
    "implicit.example": ["A 127.0.0.1"],
    "null.example": ["MX 0 ."],
    "mx.example.net": ["A 127.0.0.1"],
    "dead.example.net": ["A 127.0.0.2"],
    "both.example.net": ["AAAA ::1", "A 127.0.0.1"],  # nobody listens on ::1
}
POSTFIX = f"""\
virtual_mailbox_domains = {", ".join(DOMAINS)}
virtual_mailbox_maps = inline:{{ {", ".join(f"{{ carol@{domain} = {domain}/ }}" for domain in DOMAINS)} }}
smtpd_relay_restrictions = permit_auth_destination, reject
"""


def test_mail_is_delivered_to_port_25_by_mx_and_returned_without(tmp_path: Path, certificates: Certificates) -> None:
    def work() -> None:
        with FakeZone(RECORDS) as zone:
            dns = f'[dns]\nnameservers = ["{zone.nameserver}"]\n'
            with mailserv(tmp_path, certificates, dns) as ours, postfix(certificates, POSTFIX, port=25) as theirs:
                alice = ours.add_account()
                for domain in (*DOMAINS, "null.example", "missing.example"):
                    ours.submit(alice, f"carol@{domain}", SAMPLES["dot_lines"])
                for domain in DOMAINS:
                    theirs.log.wait_for(f"to=<carol@{domain}>.*status=sent")
                    assert len(theirs.mailbox(domain)) == 1
                told = ours.after("event=delivery ", len(DOMAINS) + 2)
                outcomes = {re.findall(r"recipient=carol@(\S+)", line)[0]: line for line in told}
                for domain in DOMAINS:
                    assert "outcome=delivered" in outcomes[domain]
                    assert "[127.0.0.1]:25" in outcomes[domain]
                failures = [all_failures(email.message_from_bytes(mail)) for mail in ours.mailbox(alice)]
                assert sorted(address for _, gone in failures for address in gone) == [
                    b"carol@missing.example",
                    b"carol@null.example",
                ]

    in_own_network(work)
