"""docs/metrics.md lists every metric of ours with its labels, and no other; and each of the server's own counts."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from talking import Talk, auth_plain, greeted

from mailserv.settings import Limits
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"
ALICE, CAROL = "alice@example.org", "carol@far.example"
CONTENT = b"From: alice@example.org\r\nSubject: counted\r\n\r\nOne.\r\n"
LIMITS = Limits(sessions=2, sessions_per_ip=0, connections_per_minute=0)
Values = dict[str, dict[tuple[str, ...], float]]


def documented() -> dict[str, set[str]]:
    """Labels by the metric's name."""
    rows = re.findall(r"^\| `(mailserv_\w+)` \| ([\w, ]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: set(labels.split(", ")) for name, labels in rows}


def scraped(server: MailServer) -> Values:
    """Values by the metric's name and its labels' values, in the order of the labels' names."""
    host, port = server.address("metrics")
    with urlopen(f"http://{host}:{port}/metrics", timeout=5) as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    found: Values = {}
    for family in families:
        if family.name.startswith("mailserv_") and not family.name.endswith("_created"):
            found.setdefault(family.name if family.type == "gauge" else f"{family.name}_total", {})
            for sample in family.samples:
                assert set(sample.labels) == documented()[sample.name], sample
                found[sample.name][tuple(sample.labels[name] for name in sorted(sample.labels))] = sample.value
    return found


def run_into_everything(server: MailServer) -> Values:
    """What makes each metric of the server's own grow, and how they stand then, one message being in the queue."""
    server.send(ALICE, [ALICE], CONTENT, login=(ALICE, "secret"))
    server.send(ALICE, [CAROL], CONTENT, login=(ALICE, "secret"))  # refused there: a bounce
    server.wait_for_mail(ALICE, 2)
    server.wait_for_empty_queue()
    server.send(ALICE, ["later@far.example"], CONTENT, login=(ALICE, "secret"))
    server.wait_for_log("delivery", outcome="deferred")
    assert len(server.queue()) == 1
    with greeted(server.address("submission")) as talk:
        assert talk.say(auth_plain(ALICE, "wrong")).startswith("535")
    server.wait_for_log("session", count=4)
    with greeted(server.address("smtp")) as one, greeted(server.address("smtp")):
        assert one.say("MAIL FROM:<x@example.net>").startswith("250")
        assert one.say(f"RCPT TO:<{CAROL}>").startswith("550")
        one.say_all(f"RCPT TO:<{ALICE}>", "DATA")
        assert one.say(b"Received: from a far place\r\n" * 200 + CONTENT + b".").startswith("554")  # it went round
        with Talk.to(server.address("smtp")) as refused:
            assert refused.hear().startswith("421")
        return scraped(server)


def grown(before: Values, after: Values) -> Values:
    """By how much each has grown."""
    return {
        name: {labels: value - before.get(name, {}).get(labels, 0.0) for labels, value in samples.items()}
        for name, samples in after.items()
    }


def test_the_page_has_every_metric_and_each_of_the_servers_own_counts() -> None:
    refusing = {"RCPT": ["550 5.1.1 No such user here", "450 4.2.1 Try again later"]}
    with (
        ScriptedMX(refusing) as mx,
        mail_server(
            services=("smtp", "submission", "metrics"),
            limits=LIMITS,
            routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"},
        ) as server,
    ):
        before = scraped(server)
        found = grown(before, run_into_everything(server))
    assert set(before) == set(documented())
    assert found["mailserv_sessions"][("smtp",)] == 2
    assert found["mailserv_sessions_refused_total"][("smtp", "4.7.0")] == 1
    assert found["mailserv_messages_accepted_total"][("submission",)] == 3
    assert found["mailserv_commands_refused_total"][("550", "smtp")] == 1
    assert found["mailserv_commands_refused_total"][("554", "smtp")] == 1
    assert found["mailserv_logins_total"][("ok", "submission")] == 3
    assert found["mailserv_logins_total"][("failed", "submission")] == 1
    assert found["mailserv_queue_recipients"][("ready",)] == 1
    assert found["mailserv_delivery_attempts_total"][("failed", "smtp")] == 1
    assert found["mailserv_delivery_attempts_total"][("deferred", "smtp")] == 1
    assert found["mailserv_bounces_total"][("bounced",)] == 1
