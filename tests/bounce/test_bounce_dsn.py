"""The document: RFC 3464 fields, words for people, what is returned; read back by others' parsers."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator
from typing import Any

import pytest
from bouncing import (
    BUSY,
    CONTENT,
    NO_USER,
    NOW,
    bouncer,
    data,
    delayed,
    delivery,
    failed,
    parsed,
    report,
    returned,
    row,
    words,
)
from flufl.bounce import all_failures, scan_message
from hypothesis import given
from hypothesis import strategies as st

from mailserv.bounce.returned import RETURNED_SIZE, quoted_printable
from mailserv.errors import StoreUnavailable
from mailserv.mail.address import NULL_REVERSE_PATH, Address
from mailserv.mail.message import Acceptance
from mailserv.mail.outcome import Deferred, Failed, Outcome
from mailserv.mail.reply import Reply
from mailserv.mail.value import replace

# Others' parsers.


def flufl(acceptance: Acceptance) -> tuple[frozenset[bytes], frozenset[bytes]]:
    temporary, permanent = all_failures(email.message_from_bytes(data(acceptance)))
    return frozenset(temporary), frozenset(permanent)


def test_flufl_bounce_recognises_a_failure() -> None:
    notice = failed((row("bob@example.net"), NO_USER), (row("carol@example.net"), BUSY))
    assert scan_message(email.message_from_bytes(data(notice))) == {b"bob@example.net", b"carol@example.net"}
    assert flufl(notice) == (frozenset(), {b"bob@example.net", b"carol@example.net"})


def test_flufl_bounce_recognises_a_delay() -> None:
    assert flufl(delayed()) == ({b"bob@example.net"}, frozenset())


def test_flufl_bounce_gives_the_address_that_was_written_to() -> None:
    assert flufl(failed((row(original=Address("info", "example.org")), NO_USER)))[1] == {b"info@example.org"}
    assert flufl(failed((row(parameters={"ORCPT": "rfc822;x+2By@example.com"}), NO_USER)))[1] == {b"x+y@example.com"}


class Unreadable:
    """Content on a disk that gives it no more."""

    size = 100

    def blocks(self) -> Iterator[bytes]:
        raise StoreUnavailable("spool/Q: Input/output error")


@pytest.mark.parametrize("ret", ["HDRS", "FULL"])
def test_of_content_that_cannot_be_read_its_sender_is_told_all_the_same(ret: str) -> None:
    about = replace(delivery(parameters={"RET": ret}), content=Unreadable())
    for notice in (failed(about=about), delayed(about=about)):
        assert report(notice)[1]["Final-Recipient"] == "rfc822; bob@example.net"
        assert returned(notice).get_content_type() == "text/rfc822-headers"


def test_a_notice_is_a_report_of_three_parts() -> None:
    message = parsed(failed())
    assert message.get_content_type() == "multipart/report"
    assert message["Content-Type"].params["report-type"] == "delivery-status"
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]


# The header section.


def test_the_header_section_says_what_it_is_and_what_it_answers() -> None:
    notice = failed()
    message = parsed(notice)
    assert message["From"] == "Mail Delivery System <MAILER-DAEMON@mx.example.org>"
    assert message["To"] == "alice@example.org"
    assert message["Subject"] == "Your message could not be delivered"
    assert message["Date"] == "Thu, 01 Jan 2026 00:00:00 +0000"
    assert message["Message-ID"] == f"<{notice.queue_id}@mx.example.org>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["MIME-Version"] == "1.0"
    assert message["In-Reply-To"] == message["References"] == "<original@example.org>"
    assert data(notice).startswith(f"Received: by mx.example.org id {notice.queue_id}; Thu,".encode())


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Message-ID: not one\r\n",
        b"Message-ID: <no space please@x>\r\n",
        b"Message-ID: <a@b>\r\n\tBcc: <c@d>\r\nX: <y>\r\n",
        b"Message-ID: <" + b"a" * 5000 + b"@x>\r\n",
        b"Message-ID: <\xff@x>\r\n",
        b"X: Message-ID: <a@b>\r\n",
    ],
)
def test_a_message_id_that_is_none_is_not_referred_to(header: bytes) -> None:
    text = data(failed(about=delivery(header + b"\r\nbody\r\n"))).partition(b"\r\n\r\n")[0]
    if header.startswith(b"Message-ID: <a@b>"):
        assert b"Bcc" not in text
    else:
        assert b"References" not in text


# delivery-status.


def test_the_report_of_a_failure_has_the_fields_of_rfc_3464() -> None:
    message, recipient = report(failed())
    assert message == {
        "Reporting-MTA": "dns; mx.example.org",
        "Arrival-Date": "Wed, 31 Dec 2025 23:00:00 +0000",
        "X-Mailserv-Queue-Id": "ORIGINALQID00001",
    }
    assert recipient == {
        "Final-Recipient": "rfc822; bob@example.net",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.example.net",
        "Diagnostic-Code": "smtp; 550 5.1.1 No such user",
        "Last-Attempt-Date": "Thu, 01 Jan 2026 00:00:00 +0000",
    }


def test_the_report_of_a_delay_says_until_when_it_is_tried() -> None:
    _, recipient = report(delayed())
    assert recipient["Action"] == "delayed"
    assert recipient["Status"] == "4.3.2"
    assert recipient["Will-Retry-Until"] == "Fri, 02 Jan 2026 00:00:00 +0000"


def test_each_recipient_has_its_own_block() -> None:
    rows = [(row(f"u{number}@example.net"), NO_USER) for number in range(5)]
    blocks = report(failed(*rows))[1:]
    assert [block["Final-Recipient"] for block in blocks] == [f"rfc822; u{number}@example.net" for number in range(5)]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (NO_USER, "5.1.1"),
        (Failed(Reply(550, "", "no")), "5.0.0"),
        (Failed(Reply(554, "5.7.26", "no")), "5.7.26"),
        (Failed(Reply(451, "4.4.1", "no")), "5.4.1"),
        (Failed(Reply(550, "2.1.5", "ok?")), "5.1.5"),
        (Failed(Reply(550, "9.1.1", "?")), "5.0.0"),
        (Failed(Reply(550, "5.1.1 evil", "?")), "5.0.0"),
        (BUSY, "4.3.2"),
        (Deferred(Reply(421, "", "later")), "4.4.7"),
        (Deferred(Reply(552, "5.2.2", "full")), "4.2.2"),
    ],
)
def test_the_class_of_the_status_is_that_of_the_outcome(outcome: Outcome, status: str) -> None:
    assert report(failed((row(), outcome)))[1]["Status"] == status


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("mx.example.net [192.0.2.25]:25", "dns; mx.example.net"),
        ("mx.example.net", "dns; mx.example.net"),
        ("[192.0.2.25]:25", "dns; [192.0.2.25]"),
        ("[IPv6:2001:db8::1]:25", "dns; [IPv6:2001:db8::1]"),
        ("", None),
    ],
)
def test_the_remote_server_is_named_when_there_was_one(remote: str, expected: str | None) -> None:
    fields = report(failed((row(), Failed(Reply(550, "5.1.1", "no"), remote))))[1]
    assert fields.get("Remote-MTA") == expected
    kind = "smtp" if expected else "x-mailserv"
    assert fields["Diagnostic-Code"] == f"{kind}; 550 5.1.1 no"


@pytest.mark.parametrize("kind", [Deferred, Failed])
def test_what_was_found_out_here_about_a_remote_server_is_not_told_as_its_words(kind: type[Deferred | Failed]) -> None:
    """RFC 3464 §2.3.5, §2.3.6: Remote-MTA is who reported it, and "smtp" what it said."""
    outcome = kind(Reply(451, "4.4.1", "No connection: timed out"), "mx.example.net [192.0.2.25]:25", is_ours=True)
    notice = failed((row(), outcome))
    fields = report(notice)[1]
    assert "Remote-MTA" not in fields
    assert fields["Diagnostic-Code"] == "x-mailserv; 451 4.4.1 No connection: timed out"
    assert "mx.example.net [192.0.2.25]:25: 451 4.4.1 No connection" in " ".join(words(notice).split())


@pytest.mark.parametrize(
    ("parameters", "original", "expected"),
    [
        ({}, "bob@example.net", None),
        ({}, "info@example.org", "rfc822; info@example.org"),
        ({"ORCPT": "rfc822;Carol@example.com"}, "info@example.org", "rfc822; Carol@example.com"),
        ({"ORCPT": "rfc822;a+2Bb@example.com"}, "bob@example.net", "rfc822; a+b@example.com"),
        ({"ORCPT": "rfc822;a+0D+0ABcc:x@example.com"}, "bob@example.net", "rfc822; a Bcc:x@example.com"),
        ({"ORCPT": "rfc822;not=xtext"}, "bob@example.net", None),
        ({"ORCPT": "rfc822;"}, "bob@example.net", None),
        ({"ORCPT": "nonsense"}, "bob@example.net", None),
        ({"ORCPT": "x y;z"}, "bob@example.net", None),
    ],
)
def test_the_original_recipient_is_told(parameters: dict[str, str], original: str, expected: str | None) -> None:
    local, _, domain = original.partition("@")
    fields = report(failed((row(parameters=parameters, original=Address(local, domain)), NO_USER)))[1]
    assert fields.get("Original-Recipient") == expected


def test_a_postmaster_without_domain_is_no_original_recipient() -> None:
    assert "Original-Recipient" not in report(failed((row(original=Address("postmaster", "")), NO_USER)))[1]


@pytest.mark.parametrize(
    ("envid", "expected"),
    [
        ("QQ314159", "QQ314159"),
        ("a+2Bb+20c", "a+b c"),
        ("x+0D+0AAction:+20delivered", "x Action: delivered"),
        ("=", None),
    ],
)
def test_the_envelope_id_comes_back(envid: str, expected: str | None) -> None:
    fields = report(failed(about=delivery(parameters={"ENVID": envid})))[0]
    assert fields.get("Original-Envelope-Id") == expected


# What peers say.


def test_lesson_6_what_a_remote_server_says_is_cleaned() -> None:
    said = "No\r\n\r\nAction: delivered\r\n--=_X\0 \x1b[31m caf\xe9 \u202e " + "y" * 5000
    notice = failed((row(), Failed(Reply(550, "5.1.1", said), "evil\r\nX-Injected: 1 [192.0.2.1]")))
    message, recipient = report(notice)
    assert recipient["Action"] == "failed"
    assert recipient["Diagnostic-Code"].startswith("smtp; 550 5.1.1 No Action: delivered --=_X? ?[31m caf? ?")
    assert len(recipient["Diagnostic-Code"]) < 600
    assert "X-Injected" not in message
    assert "X-Injected" not in recipient
    assert "café" in words(notice)
    assert_fit_for_smtp(notice)


def assert_fit_for_smtp(acceptance: Acceptance) -> None:
    """CRLF only, no NUL, no line over 998 octets, 7-bit unless the parameters say otherwise."""
    content = data(acceptance)
    assert content.endswith(b"\r\n")
    assert content.count(b"\r") == content.count(b"\n") == content.count(b"\r\n")
    assert b"\0" not in content
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert content.isascii() == ("BODY" not in acceptance.parameters)
    head = content.partition(b"\r\n\r\n")[0]
    assert head.isascii() == ("SMTPUTF8" not in acceptance.parameters)


any_text = st.text(max_size=200)


@given(any_text, any_text, st.sampled_from(["", "5.1.1", "x"]), st.binary(max_size=300), any_text, st.booleans())
def test_whatever_was_said_and_sent_the_notice_can_be_sent_and_read(
    said: str, remote: str, enhanced: str, content: bytes, parameter: str, whole: bool
) -> None:
    about = delivery(content, parameters={"ENVID": parameter, "RET": "FULL" if whole else "HDRS"})
    outcome = Failed(Reply(550, enhanced, said), remote)
    notice = failed((row(parameters={"ORCPT": f"rfc822;{parameter}"}), outcome), about=about)
    assert_fit_for_smtp(notice)
    parts = email.message_from_bytes(data(notice)).get_payload()
    assert len(parts) == 3
    assert report(notice)[1]["Action"] == "failed"
    assert report(notice)[1]["Final-Recipient"] == "rfc822; bob@example.net"


# Words.


def test_the_words_of_a_failure_tell_what_happened_and_what_to_do() -> None:
    text = words(failed())
    assert "This is the mail system at mx.example.org." in text
    assert "your message of Wed, 31 Dec 2025 23:00:00 +0000 could not be delivered to this address" in text
    assert "<bob@example.net> mx.example.net [192.0.2.25]:25 said: 550 5.1.1 No such user" in text
    assert "look at the address for a slip" in text
    assert "no longer tried" in text
    assert "ORIGINALQID00001" in text


def test_the_words_of_giving_up_tell_how_often_it_was_tried() -> None:
    text = words(failed((row(attempts=41), BUSY), (row("carol@example.net"), BUSY)))
    assert "Tried 42 times, then given up." in text
    assert "Given up." in text
    assert "these addresses" in text


def test_the_words_of_a_delay_tell_until_when_and_to_wait() -> None:
    text = words(delayed())
    assert "do not send it again" in text
    assert "It will be tried again until Fri, 02 Jan 2026 00:00:00 +0000." in text
    assert "given up" not in text
    assert parsed(delayed())["Subject"] == "Your message is late, and still on its way"


def test_a_delay_without_an_end_names_none() -> None:
    [notice] = bouncer().delayed(delivery(), [(row(), BUSY)], NOW, give_up_at=0.0)
    assert "It will be tried again. If" in words(notice)
    assert "Will-Retry-Until" not in report(notice)[1]


def test_an_alias_is_told_by_the_name_that_was_written_to() -> None:
    through = row(original=Address("info", "example.org"))
    assert "<bob@example.net> (you wrote to <info@example.org>)" in words(failed((through, NO_USER)))
    untold = failed((through, NO_USER), about=delivery(reverse_path=NULL_REVERSE_PATH))
    assert "(for <info@example.org>)" in words(untold)


def test_the_lines_of_the_words_are_short() -> None:
    said = "lorem ipsum " * 40
    notice = failed((row(), Failed(Reply(550, "5.1.1", said), "mx.example.net [192.0.2.25]:25")))
    part = data(notice).split(b"--=_")[1]
    assert max(map(len, part.split(b"\r\n"))) <= 78


# Addresses outside ASCII (RFC 6533).


def test_a_recipient_outside_ascii_is_told_in_seven_bits() -> None:
    address = Address("élise\\x", "xn--bcher-kva.example")
    notice = failed((row(original=address), NO_USER))
    fields = report(notice)[1]
    assert fields["Original-Recipient"] == 'utf-8; "\\x{E9}lise\\x{5C}\\x{5C}x"@xn--bcher-kva.example'
    assert "élise" in words(notice)
    assert notice.parameters == {}
    assert_fit_for_smtp(notice)


def test_plus_and_equals_are_no_characters_of_seven_bits() -> None:
    notice = failed((row("élise+a=b@example.net"), NO_USER))
    assert report(notice)[1]["Final-Recipient"] == "utf-8; \\x{E9}lise\\x{2B}a\\x{3D}b@example.net"


def test_a_sender_outside_ascii_is_told_over_smtputf8() -> None:
    notice = failed(about=delivery(reverse_path=Address("josé", "example.net"), parameters={"SMTPUTF8": ""}))
    assert notice.parameters == {"BODY": "8BITMIME", "SMTPUTF8": ""}
    assert parsed(notice)["To"] == "josé@example.net"
    assert_fit_for_smtp(notice)


# What is returned.


def test_the_header_section_is_returned_and_the_body_is_not() -> None:
    for notice in (failed(), failed(about=delivery(parameters={"RET": "HDRS"}))):
        part = returned(notice)
        assert part.get_content_type() == "text/rfc822-headers"
        assert part.get_payload(decode=True) == CONTENT.partition(b"\r\n\r\n")[0] + b"\r\n"
        assert b"hungry" not in data(notice)


def test_ret_full_returns_the_message() -> None:
    part = returned(failed(about=delivery(parameters={"RET": "full"})))
    assert part.get_content_type() == "message/rfc822"
    [message] = part.get_payload()
    assert message["Subject"] == "Lunch?"
    assert message.get_payload() == "Are you hungry?\r\n"


def test_an_8_bit_message_is_returned_as_it_is_and_declared() -> None:
    content = b"Subject: x\r\nContent-Type: text/plain; charset=latin-1\r\n\r\nna\xefve\r\n"
    notice = failed(about=delivery(content, parameters={"RET": "FULL", "BODY": "8BITMIME"}))
    assert notice.parameters == {"BODY": "8BITMIME"}
    assert returned(notice)["Content-Transfer-Encoding"] == "8bit"
    assert content in data(notice)
    assert_fit_for_smtp(notice)


@pytest.mark.parametrize(
    "content",
    [
        CONTENT + b"x\r\n" * RETURNED_SIZE,
        b"Subject: caf\xc3\xa9\r\n\r\nbody\r\n",
        CONTENT + b"x" * 999 + b"\r\n",
        CONTENT + b"nul\0\r\n",
        CONTENT + b"bare\n",
        CONTENT + b"bare\r",
    ],
    ids=["large", "UTF-8 header", "long line", "NUL", "LF", "CR"],
)
def test_a_message_that_cannot_be_returned_as_it_is_gives_its_header_section(content: bytes) -> None:
    notice = failed(about=delivery(content, parameters={"RET": "FULL"}))
    assert returned(notice).get_content_type() == "text/rfc822-headers"
    assert_fit_for_smtp(notice)


@pytest.mark.parametrize(
    "header",
    [b"Subject: caf\xc3\xa9\r\n", b"Subject: \xff\xfe\r\n", b"X: " + b"y" * 2000 + b"\r\n", b"X: \0 = \t \r\nY: z\r\n"],
    ids=["UTF-8", "raw 8-bit", "long line", "NUL"],
)
def test_a_header_section_that_is_not_seven_bit_lines_is_encoded(header: bytes) -> None:
    notice = failed(about=delivery(header + b"\r\nbody"))
    part = returned(notice)
    assert part["Content-Transfer-Encoding"] == "quoted-printable"
    assert part.get_payload(decode=True) == header
    assert notice.parameters == {}
    assert_fit_for_smtp(notice)


@pytest.mark.parametrize("line", [b"X: yyyyyyyyyyyyyyyyyyyyyyyyy\r\n", b"X: " + b"y" * 100_000])
def test_a_huge_header_section_is_cut(line: bytes) -> None:
    notice = failed(about=delivery(line * (200_000 // len(line)) + b"\r\n\r\nbody"))
    payload = returned(notice).get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert RETURNED_SIZE - 100 < len(payload) <= RETURNED_SIZE
    assert_fit_for_smtp(notice)


def test_content_without_a_header_section_returns_none() -> None:
    assert returned(failed(about=delivery(b"\r\nbody"))).get_payload(decode=True) == b""


def test_returned_text_cannot_end_the_part_it_stands_in() -> None:
    plain = data(failed())
    boundary = re.findall(rb'boundary="([^"]+)"', plain)[0]
    forged = b"X: 1\r\n--" + boundary + b"--: 2\r\nY: 3\r\n"
    notice = failed(about=delivery(forged + b"\r\nbody"))
    assert returned(notice).get_payload(decode=True) == forged
    assert re.findall(rb'boundary="([^"]+)"', data(notice))[0] == boundary + b"_"


@given(st.binary(max_size=500))
def test_quoted_printable_comes_back_whole(octets: bytes) -> None:
    encoded = quoted_printable(octets)
    assert encoded.isascii()
    assert max(map(len, encoded.split(b"\r\n"))) <= 76
    part: Any = email.message_from_bytes(
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + encoded
    )
    assert part.get_payload(decode=True) == octets
