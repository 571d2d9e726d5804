"""Authentication-Results: the field that we write, and those in our name that we take out (RFC 8601)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserv.filter.auth_results import results_field, without_forged
from mailserv.mail.auth_result import AuthResult

HOST = "mail.example.org"
REST = b"From: a@example.net\r\nSubject: x\r\n y\r\n"


@pytest.mark.parametrize(
    ("results", "printed"),
    [
        ((), b"none"),
        ((AuthResult("spf", "pass"),), b"spf=pass"),
        (
            (AuthResult("iprev", "pass", (("policy.iprev", "192.0.2.1"),), comment="mx.example.net"),),
            b"iprev=pass\r\n\t (mx.example.net)\r\n\t policy.iprev=192.0.2.1",
        ),
        (
            (AuthResult("iprev", "fail", (("policy.iprev", "2001:db8::1"),)),),
            b'iprev=fail\r\n\t policy.iprev="2001:db8::1"',
        ),
        (
            (
                AuthResult("spf", "fail", (("smtp.mailfrom", "a@example.net"),), 'not "allowed"'),
                AuthResult("dkim", "none"),
            ),
            b'spf=fail\r\n\t reason="not \\"allowed\\""\r\n\t smtp.mailfrom=a@example.net;\r\n\tdkim=none',
        ),
        (
            (AuthResult("x", "y", (("a.b", "c\r\nTo: d; e\0é"),), comment="()\\\r\n"),),
            b'x=y\r\n\t (???)\r\n\t a.b="c To: d; e??"',
        ),
    ],
)
def test_the_field_is_as_the_grammar_wants_it(results: tuple[AuthResult, ...], printed: bytes) -> None:
    assert results_field(HOST, results) == b"Authentication-Results: mail.example.org;\r\n\t" + printed + b"\r\n"


@pytest.mark.parametrize(
    "forged",
    [
        b"Authentication-Results: mail.example.org; spf=pass\r\n",
        b"AUTHENTICATION-results :MAIL.example.ORG;\r\n\tspf=pass\r\n\tsmtp.mailfrom=x\r\n",
        b"Authentication-Results: mail.example.org 1; none\r\n",
        b"Authentication-Results:\r\n mail.example.org; none\r\n",
        b"Authentication-Results: (a (;) \\) b) mail.example.org(c); none\r\n",
        b'Authentication-Results: "mail\\.example.org" ; none\r\n',
        b"Authentication-Results: mail.example.org\r\n",
        b"Authentication-Results: mail.example.org.; none\r\n",
    ],
)
@pytest.mark.parametrize(("before", "after"), [(b"", REST), (REST, b""), (REST, b"X: y\r\n")])
def test_a_field_in_our_name_is_taken_out_with_its_folded_lines(forged: bytes, before: bytes, after: bytes) -> None:
    assert without_forged(before + forged + after, HOST) == before + after
    assert without_forged(before + forged + forged + after, HOST) == before + after


@pytest.mark.parametrize(
    "kept",
    [
        b"Authentication-Results: mx.example.net; spf=pass smtp.mailfrom=mail.example.org\r\n",
        b"Authentication-Results: mail.example.org.evil.example; spf=pass\r\n",
        b"Authentication-Results: (mail.example.org) mx.example.net; spf=pass\r\n",
        b"Authentication-Results: \r\n",
        b'Authentication-Results: "mail.example.org; spf=pass\r\n',
        b"Authentication-Results: ((( mail.example.org\r\n",
        b"X-Authentication-Results: mail.example.org; spf=pass\r\n",
        b"Subject: Authentication-Results:\r\n Authentication-Results: mail.example.org;\r\n",
        b"ARC-Authentication-Results: i=1; mail.example.org; spf=pass\r\n",
    ],
)
def test_other_fields_stay_as_they_are(kept: bytes) -> None:
    assert without_forged(REST + kept + REST, HOST) == REST + kept + REST


@given(
    st.lists(
        st.sampled_from(
            [b"Authentication-Results:", b" mail.example.org", b";", b"\r\n", b" ", b"(", b'"', b"\\", b"x"]
        )
    )
)
def test_any_text_is_read_and_reading_it_again_changes_nothing(parts: list[bytes]) -> None:
    once = without_forged(b"".join(parts), HOST)
    assert b"\nAuthentication-Results: mail.example.org;" not in b"\n" + once
    assert without_forged(once, HOST) == once
