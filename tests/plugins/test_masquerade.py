"""mailserv_masquerade: which reverse-path the next hop is told, and where bounces go."""

from __future__ import annotations

import pytest
from delivering import make_delivery
from policing import make_plugins

from mailserv.errors import ConfigError
from mailserv.testing.server import mail_server
from mailserv.testing.sink import ScriptedMX

SETTINGS = {
    "addresses": {"root@db1.internal": "ops@example.org", "root+disk@db1.internal": "disks@example.org"},
    "domains": {".internal": "example.org", ".lab.internal": "lab.example.org", "Internal": "example.net"},
}


@pytest.mark.parametrize(
    ("reverse_path", "told"),
    [
        ("root@db1.internal", "ops@example.org"),
        ("ROOT@DB1.Internal", "ops@example.org"),
        ("Root+tag@db1.internal", "ops@example.org"),
        ("root+disk@db1.internal", "disks@example.org"),
        ("backup+tag@db1.internal", "backup+tag@example.org"),
        ("Backup@db1.internal", "Backup@example.org"),
        ("x@a.b.internal", "x@example.org"),
        ("x@pc.lab.internal", "x@lab.example.org"),
        ("x@lab.internal", "x@example.org"),
        ("x@internal", "x@example.net"),
        ("x@notinternal", None),
        ("alice@example.org", None),
        ("", None),
    ],
)
def test_the_most_exact_entry_counts_and_the_null_path_stays(reverse_path: str, told: str | None) -> None:
    runner = make_plugins("masquerade", SETTINGS).runner
    answer = runner.provide("rewrite_sender", delivery=make_delivery("smtp:far.example", reverse_path=reverse_path))
    assert (answer and str(answer)) == told


@pytest.mark.parametrize(
    "section",
    [
        {"addresses": {"root": "a@example.org"}},
        {"addresses": {"a@b": "ops"}},
        {"addresses": {"a@b": "ops@example.org", "A@B": "web@example.org"}},
        {"domains": {".internal": "@x"}},
        {"domains": {"exa mple": "example.org"}},
    ],
)
def test_what_is_no_address_stops_the_start_and_is_named(section: dict[str, dict[str, str]]) -> None:
    with pytest.raises(ConfigError, match=rf"^plugin\.masquerade\.{next(iter(section))}"):
        make_plugins("masquerade", section)


def test_hook_rewrite_sender_tells_the_next_hop_and_changes_nothing_else() -> None:
    content = b"From: root@db1.internal\r\nSubject: cron\r\n\r\ndone\r\n"
    with (
        ScriptedMX({"RCPT TO:<gone@": "550 5.1.1 No such user"}) as mx,
        mail_server(
            plugins=["masquerade"],
            plugin={"masquerade": {"addresses": {"alice@example.org": "ops@public.example"}}},
            routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"},
            config={"relay": {"networks": ["127.0.0.0/8"]}},
        ) as server,
    ):
        server.send("alice@example.org", ["carol@far.example", "gone@far.example"], content)
        (taken,) = mx.wait_for_messages(1)
        assert taken.mail.startswith("<ops@public.example>")
        assert taken.content.endswith(content)
        (bounce,) = server.wait_for_mail("alice@example.org")
        assert b"gone@far.example" in bounce
        server.send("alice@example.org", ["alice@example.org"], content)
        assert server.wait_for_mail("alice@example.org", 2)[1].startswith(b"Return-Path: <alice@example.org>")
