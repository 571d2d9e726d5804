"""STARTTLS and AUTH towards the next hop, by policy, on real sockets with real certificates."""

from __future__ import annotations

import base64
import io
import ssl

import pytest
from sending import delivery, hop, impatient, numbered, outcomes

from mailserv import logging
from mailserv.deliver.tls_policy import ClientContexts, HopPolicy, hop_policies, policy_for
from mailserv.errors import ConfigError
from mailserv.mail.outcome import Deferred, Delivered
from mailserv.mail.route import Route
from mailserv.protocol.smtp_client import Login, TLSWish
from mailserv.settings import Routed, Secret
from mailserv.testing.sink import DROP, SILENCE, Raw


def send(smtp, mx, count=1):
    return list(smtp.deliver(numbered(hop(mx), count)))


def test_tls_is_used_where_it_is_offered_whatever_the_certificate(serve, transport, server_tls):
    mx = serve(tls=server_tls)
    attempts = send(transport(), mx, 3)
    assert all(isinstance(a.outcomes[0], Delivered) for a in attempts)
    assert all(m.is_tls for m in mx.messages)
    assert mx.commands[:3] == ["EHLO me.example.org", "STARTTLS", "EHLO me.example.org"]
    assert mx.connections == 1


def test_no_tls_is_used_where_the_route_says_none(serve, transport, server_tls):
    mx = serve(tls=server_tls)
    send(transport(policies={hop(mx): HopPolicy("none")}), mx)
    assert not mx.messages[0].is_tls


# The ways in which STARTTLS ends the connection instead of securing it.
BREAKING = {
    "closed after 220": Raw(b"220 go\r\n", close=True),
    "silent in the handshake": Raw(b"220 go\r\n"),
    "closed": DROP,
    "closed in the reply": Raw(b"220 g", close=True),
    "silent": SILENCE,
    "421": Raw(b"421 4.3.0 Out of entropy\r\n", close=True),
}


@pytest.mark.parametrize("how", BREAKING)
def test_where_starttls_breaks_opportunistic_tls_tries_plain_once_on_a_fresh_connection(serve, transport, how):
    mx = serve({"STARTTLS": BREAKING[how]}, capabilities=("STARTTLS",))
    [attempt] = send(transport(timeouts=impatient(starttls=0.2, handshake=0.2)), mx)
    assert isinstance(attempt.outcomes[0], Delivered)
    assert not mx.messages[0].is_tls
    assert mx.connections == 2
    assert mx.commands.count("STARTTLS") == 1


@pytest.mark.parametrize("mode", ["require", "verify"])
@pytest.mark.parametrize("how", BREAKING)
def test_where_starttls_breaks_required_tls_never_falls_back(serve, transport, mode, how):
    mx = serve({"STARTTLS": BREAKING[how]}, capabilities=("STARTTLS",))
    smtp = transport(policies={hop(mx): HopPolicy(mode)}, timeouts=impatient(starttls=0.2, handshake=0.2))
    [attempt] = send(smtp, mx)
    assert isinstance(attempt.outcomes[0], Deferred)
    assert mx.messages == []
    assert mx.connections == 1


def test_a_host_that_is_gone_after_starttls_broke_defers_the_mail(serve, transport):
    mx = serve({"STARTTLS": DROP, "GREETING": ["220 hi", "421 4.3.2 Going down"]}, capabilities=("STARTTLS",))
    [attempt] = send(transport(), mx)
    assert outcomes([attempt]) == [("Q0", "Deferred", 421)]


@pytest.mark.parametrize("mode", ["require", "verify"])
@pytest.mark.parametrize(
    ("script", "with_tls", "enhanced"),
    [
        ({}, False, "4.7.4"),
        ({"STARTTLS": "454 4.7.0 Not now"}, True, "4.7.0"),
        ({"STARTTLS": Raw(b"220 go\r\n", close=True)}, True, "4.7.5"),
        ({"STARTTLS": DROP}, True, "4.4.2"),
    ],
)
def test_required_tls_never_falls_back(serve, transport, server_tls, mode, script, with_tls, enhanced):
    mx = serve(script, tls=server_tls if with_tls else None)
    [attempt] = send(transport(policies={hop(mx): HopPolicy(mode)}), mx)
    assert isinstance(attempt.outcomes[0], Deferred)
    assert attempt.outcomes[0].reply.enhanced == enhanced
    assert mx.messages == []


@pytest.mark.parametrize(("mode", "taken"), [("opportunistic", 1), ("require", 0)])
def test_a_server_that_wants_a_certificate_of_ours_says_so_after_the_handshake_and_counts_as_without_tls(
    serve, transport, authority, mode, taken
):
    """RFC 8446 §4.4.2.4: in TLS 1.3 the client's handshake is done by then."""
    demanding = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(demanding)
    authority.configure_trust(demanding)
    demanding.verify_mode = ssl.CERT_REQUIRED
    mx = serve(tls=demanding)
    [attempt] = transport(policies={hop(mx): HopPolicy(tls=mode)}).deliver([delivery(hop(mx))])
    assert isinstance(attempt.outcomes[0], Delivered if taken else Deferred)
    assert [m.is_tls for m in mx.messages] == [False] * taken


def test_required_tls_takes_any_certificate(serve, transport, server_tls):
    mx = serve(tls=server_tls)
    send(transport(policies={hop(mx): HopPolicy("require")}), mx)
    assert mx.messages[0].is_tls


def test_verified_tls_takes_a_certificate_for_the_hosts_name_from_a_known_authority(
    serve, transport, server_tls, contexts
):
    mx = serve(tls=server_tls)
    send(transport(policies={hop(mx): HopPolicy("verify")}, contexts=contexts), mx)
    assert mx.messages[0].is_tls


def test_verified_tls_refuses_an_unknown_authority(serve, transport, server_tls):
    mx = serve(tls=server_tls)
    [attempt] = send(transport(policies={hop(mx): HopPolicy("verify")}), mx)
    assert attempt.outcomes[0].reply.enhanced == "4.7.5"
    assert "certificate" in attempt.outcomes[0].reply.text


def test_verified_tls_refuses_a_certificate_for_another_name(serve, zone, transport, server_tls, contexts):
    mx = serve(tls=server_tls)
    zone.add("other.example", "A 127.0.0.1")
    next_hop = f"[other.example]:{mx.port}"
    smtp = transport(zone.nameserver, policies={next_hop: HopPolicy("verify")}, contexts=contexts)
    [attempt] = smtp.deliver([delivery(next_hop)])
    assert "mismatch" in attempt.outcomes[0].reply.text


@pytest.mark.parametrize("mode", ["opportunistic", "require"])
def test_lesson_9_replies_injected_before_the_handshake_end_the_session(serve, transport, server_tls, mode):
    mx = serve({"STARTTLS": Raw(b"220 go\r\n250-injected\r\n250 AUTH PLAIN\r\n")}, tls=server_tls)
    [attempt] = send(transport(policies={hop(mx): HopPolicy(mode)}), mx)
    assert attempt.outcomes[0].reply.enhanced == "4.5.0"
    assert "before the TLS handshake" in attempt.outcomes[0].reply.text
    assert mx.connections == 1, "somebody sits on the line: not in plain text either"


def test_a_login_is_given_over_tls(serve, transport, server_tls):
    mx = serve(tls=server_tls, capabilities=("AUTH PLAIN LOGIN",))
    send(transport(policies={hop(mx): HopPolicy(user="alice", password="geheim")}), mx)
    assert mx.logins == [("alice", "geheim")]
    assert mx.messages[0].login == "alice"
    assert mx.messages[0].is_tls


def test_a_login_by_auth_login(serve, transport):
    mx = serve(capabilities=("AUTH LOGIN",))
    send(transport(policies={hop(mx): HopPolicy(user="alice", password="geheim")}), mx)
    assert mx.logins == [("alice", "geheim")]


def test_on_loopback_a_login_may_do_without_tls(serve, transport):
    mx = serve(capabilities=("AUTH PLAIN",))
    send(transport(policies={hop(mx): HopPolicy(user="alice", password="geheim")}), mx)
    assert mx.logins == [("alice", "geheim")]


def test_a_refused_login_defers_the_mail_and_warns_the_operator(serve, transport, server_tls):
    mx = serve({"AUTH": "535 5.7.8 Bad credentials"}, tls=server_tls, capabilities=("AUTH PLAIN",))
    log = io.StringIO()
    logging.configure("logfmt", "debug", log)
    try:
        [attempt] = send(transport(policies={hop(mx): HopPolicy(user="alice", password="geheim")}), mx)
    finally:
        logging.close()
    assert isinstance(attempt.outcomes[0], Deferred)
    assert log.getvalue().count("level=warning event=smarthost_login_failed") == 1
    secrets = {"geheim", base64.b64encode(b"\0alice\0geheim").decode()}
    assert not [secret for secret in secrets if secret in log.getvalue() or secret in repr(attempt)]


def test_a_handshake_that_is_no_tls_falls_back_only_when_it_may(serve, transport, server_tls):
    mx = serve({"STARTTLS": [Raw(b"220 go\r\n", close=True)]}, tls=server_tls, capabilities=("AUTH PLAIN",))
    policy = HopPolicy("require", "alice", "geheim")
    assert outcomes(send(transport(policies={hop(mx): policy}), mx)) == [("Q0", "Deferred", 451)]
    assert mx.logins == []


@pytest.mark.parametrize(
    ("policy", "is_loopback", "wish"),
    [
        (HopPolicy(), False, TLSWish.IF_OFFERED),
        (HopPolicy(user="a"), False, TLSWish.ALWAYS),
        (HopPolicy(user="a"), True, TLSWish.IF_OFFERED),
        (HopPolicy("none"), False, TLSWish.NEVER),
        (HopPolicy("require"), True, TLSWish.ALWAYS),
        (HopPolicy("verify"), True, TLSWish.ALWAYS),
    ],
)
def test_what_a_policy_demands(policy, is_loopback, wish):
    assert policy.wish(is_loopback=is_loopback) is wish


def test_a_login_needs_tls_but_on_loopback():
    assert HopPolicy().login(is_loopback=False) is None
    assert HopPolicy(user="a", password="b").login(is_loopback=False) == Login("a", "b", needs_tls=True)
    assert HopPolicy(user="a", password="b").login(is_loopback=True) == Login("a", "b", needs_tls=False)


def test_policies_are_found_by_next_hop():
    route = Route("smtp", "[smart.example]:587")
    entry = Routed(to="smtp:[smart.example]:587", tls="verify", user="alice", password=Secret("geheim"))
    policies = hop_policies([(route, entry), (route, entry)])
    assert policy_for(policies, "[smart.example]:587") == HopPolicy("verify", "alice", "geheim")
    assert policy_for(policies, "other.example") == HopPolicy()
    assert "geheim" not in repr(policies)


def test_two_policies_for_one_next_hop_are_a_mistake():
    route = Route("smtp", "[smart.example]:587")
    entries = [Routed(to="smtp:[smart.example]:587", tls=mode) for mode in ("verify", "none")]
    with pytest.raises(ConfigError, match=r"smart\.example"):
        hop_policies([(route, entry) for entry in entries])


def test_tls_below_1_2_is_not_spoken():
    contexts = ClientContexts.make()
    for context in (contexts.unverified, contexts.verified):
        assert context.minimum_version.name == "TLSv1_2"


def test_authorities_can_be_named(tmp_path, authority, serve, transport, server_tls):
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    mx = serve(tls=server_tls)
    contexts = ClientContexts.make(str(tmp_path / "ca.pem"))
    send(transport(policies={hop(mx): HopPolicy("verify")}, contexts=contexts), mx)
    assert mx.messages[0].is_tls


def test_a_reloaded_policy_holds_from_the_next_connection_on(serve, transport, server_tls):
    mx = serve(tls=server_tls)
    smtp = transport()
    send(smtp, mx)
    mx.hang_up()
    smtp.reload({hop(mx): HopPolicy("none")})
    send(smtp, mx)
    assert [m.is_tls for m in mx.messages] == [True, False]


def test_a_connection_that_was_opened_by_another_policy_carries_no_more(serve, transport, server_tls):
    """Neither an idle one nor one in the middle of a batch: what must not go in plain text does not."""
    mx = serve(tls=server_tls)
    plain, safe = {hop(mx): HopPolicy("none")}, {hop(mx): HopPolicy("require")}
    smtp = transport(policies=plain)
    send(smtp, mx)
    smtp.reload(safe)
    send(smtp, mx)
    smtp.reload(plain)

    def batch():
        yield delivery(hop(mx), queue_id="Q1")
        smtp.reload(safe)
        yield delivery(hop(mx), queue_id="Q2")  # it is asked for while the first is under way: it is the last
        yield delivery(hop(mx), queue_id="Q3")

    assert outcomes(list(smtp.deliver(batch()))) == [(f"Q{n}", "Delivered", 250) for n in (1, 2, 3)]
    assert [m.is_tls for m in mx.messages] == [False, True, False, False, True]


def test_a_reload_that_changes_no_policy_keeps_what_is_open(serve, transport):
    mx = serve()
    smtp = transport(policies={hop(mx): HopPolicy("none")})
    send(smtp, mx)
    smtp.reload({hop(mx): HopPolicy("none"), "[192.0.2.1]:25": HopPolicy("verify")})
    send(smtp, mx)
    assert mx.connections == 1
