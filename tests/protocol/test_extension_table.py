"""Extensions by keyword, verb and parameter; nobody gets what its service or session does not have."""

from __future__ import annotations

import pytest
from smtp_cases import make_view

from mailserv.mail import reply
from mailserv.mail.extension import Parameter, SessionView, SMTPExtension, Verb
from mailserv.protocol.extensions import ExtensionTable


def takes_all(view: SessionView, value: str | None) -> reply.Reply | None:
    return None


def refuses_all(view: SessionView, value: str | None) -> reply.Reply | None:
    return reply.MESSAGE_TOO_BIG


def say(view: SessionView, argument: str) -> reply.Reply:
    return reply.OK


def extension(keyword: str, **more: object) -> SMTPExtension:
    return SMTPExtension(keyword, "", **more)  # type: ignore[arg-type]


def test_ehlo_lists_what_is_offered_in_order() -> None:
    table = ExtensionTable(
        [
            SMTPExtension("SIZE", lambda view: str(view.message_size)),
            SMTPExtension("STARTTLS", lambda view: "" if view.can_start_tls else None),
            SMTPExtension("", ""),
            SMTPExtension("AUTH", lambda _: "PLAIN", services=frozenset({"submission"})),
            SMTPExtension("HELP", ""),
        ]
    )
    assert table.ehlo_lines(make_view(message_size=7)) == ["SIZE 7", "HELP"]
    assert table.ehlo_lines(make_view(service="submission", can_start_tls=True)) == [
        "SIZE 50000000",
        "STARTTLS",
        "AUTH PLAIN",
        "HELP",
    ]


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        (extension("SIZE"), extension("size"), "keyword SIZE"),
        (extension("A", verbs=(Verb("XA", say),)), extension("B", verbs=(Verb("xa", say),)), "verb XA"),
        (extension("A"), extension("B", verbs=(Verb("MAIL", say),)), "verb MAIL"),
        (
            extension("A", mail_params=(Parameter("RET", takes_all),)),
            extension("B", mail_params=(Parameter("ret", takes_all),)),
            "MAIL parameter RET",
        ),
        (
            extension("A", rcpt_params=(Parameter("NOTIFY", takes_all),)),
            extension("B", rcpt_params=(Parameter("NOTIFY", takes_all),)),
            "RCPT parameter NOTIFY",
        ),
    ],
)
def test_two_claimants_of_one_key_are_refused(first: SMTPExtension, second: SMTPExtension, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        ExtensionTable([first, second])


def test_several_extensions_may_have_no_keyword_and_one_name_may_serve_mail_and_rcpt() -> None:
    both = Parameter("X", takes_all)
    table = ExtensionTable([extension("", mail_params=(both,)), extension("", rcpt_params=(both,))])
    assert table.mail_param("X", make_view()) is both
    assert table.rcpt_param("X", make_view()) is both


def test_a_verb_belongs_to_its_services() -> None:
    verb = Verb("XA", say)
    table = ExtensionTable([extension("A", verbs=(verb,), services=frozenset({"submission"}))])
    assert table.verb("XA", "submission") is verb
    assert table.verb("XA", "smtp") is None
    assert table.verbs("submission") == {"XA": ""}
    assert table.verbs("smtp") == {}
    assert table.knows_verb("XA")
    assert table.knows_verb("TURN")
    assert not table.knows_verb("XYZZY")


def test_a_parameter_is_known_while_its_extension_is_offered() -> None:
    parameter = Parameter("XP", takes_all)
    offered_on_tls = SMTPExtension("A", lambda view: "" if view.peer.tls else None, mail_params=(parameter,))
    table = ExtensionTable([offered_on_tls])
    assert table.mail_param("XP", make_view(tls=True)) is parameter
    assert table.mail_param("XP", make_view()) is None
    assert table.rcpt_param("XP", make_view(tls=True)) is None


def test_parameters_are_checked_by_their_extensions() -> None:
    table = ExtensionTable(
        [
            extension(
                "A",
                mail_params=(Parameter("GOOD", takes_all), Parameter("BAD", refuses_all)),
                rcpt_params=(Parameter("R", takes_all),),
            )
        ]
    )
    view = make_view()
    assert table.check_mail([("GOOD", None)], view) == {"GOOD": ""}
    assert table.check_mail([("GOOD", "Value")], view) == {"GOOD": "Value"}
    assert table.check_mail([("GOOD", "1"), ("BAD", "1")], view) == reply.MESSAGE_TOO_BIG
    assert table.check_mail([("R", "1")], view) == reply.UNKNOWN_PARAMETER
    assert table.check_rcpt([("R", "1")], view) == {"R": "1"}


def test_the_command_line_grows_by_what_mail_or_rcpt_may_carry() -> None:
    assert ExtensionTable([]).line_growth == 0
    table = ExtensionTable(
        [
            extension("A", mail_params=(Parameter("A", takes_all, growth=10),)),
            extension("B", mail_params=(Parameter("B", takes_all, growth=5),)),
            extension("C", rcpt_params=(Parameter("C", takes_all, growth=12),)),
        ]
    )
    assert table.line_growth == 15


def body(*values: str, check: object = takes_all) -> Parameter:
    return Parameter("BODY", check, growth=len(values[0]), values=frozenset(values))  # type: ignore[arg-type]


def test_extensions_share_a_parameter_by_its_values() -> None:
    table = ExtensionTable(
        [
            extension("8BITMIME", mail_params=(body("7BIT", "8BITMIME", check=refuses_all),)),
            extension("BINARYMIME", mail_params=(body("BINARYMIME"),)),
        ]
    )
    assert table.check_mail([("BODY", "binarymime")], make_view()) == {"BODY": "binarymime"}
    assert table.check_mail([("BODY", "7bit")], make_view()) == reply.MESSAGE_TOO_BIG
    assert table.check_mail([("BODY", "other")], make_view()) == reply.MESSAGE_TOO_BIG  # the first one refuses it
    assert table.check_mail([("BODY", None)], make_view()) == reply.MESSAGE_TOO_BIG
    assert table.line_growth == len("BINARYMIME")  # one line has one of them


@pytest.mark.parametrize("second", [body("8BITMIME", "9BIT"), Parameter("BODY", takes_all)])
def test_a_value_or_a_whole_parameter_is_shared_with_nobody(second: Parameter) -> None:
    first = extension("8BITMIME", mail_params=(body("7BIT", "8BITMIME"),))
    with pytest.raises(ValueError, match="two claim the MAIL parameter BODY"):
        ExtensionTable([first, extension("XBODY", mail_params=(second,))])
