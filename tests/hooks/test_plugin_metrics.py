"""What plugins count of themselves, at /metrics."""

from __future__ import annotations

import re
import smtplib
from urllib.request import urlopen

import pytest

from mailserv.mail.measuring import Silent
from mailserv.metrics import PluginMetrics
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server

ALICE = "alice@example.org"


def scraped(server: MailServer, metric: str) -> dict[str, float]:
    """The label after the plugin's → the value, for greylist."""
    host, port = server.address("metrics")
    with urlopen(f"http://{host}:{port}/metrics", timeout=20) as response:
        text = response.read().decode()
    found = re.findall(rf'^{metric}{{(?:event|name)="(\w+)",plugin="greylist"}} (\S+)$', text, re.MULTILINE)
    found += re.findall(rf'^{metric}{{plugin="greylist",(?:event|name)="(\w+)"}} (\S+)$', text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def test_greylist_tells_how_many_it_sent_away_and_how_many_came_back() -> None:
    clock = FakeClock()
    with mail_server(plugins=["greylist"], clock=clock, services=("smtp", "metrics")) as server:
        before = scraped(server, "mailserv_plugin_events_total")
        for sender in ("a@far.example", "b@far.example"):
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                server.send(sender, [ALICE], b"Hi.\r\n")
        assert scraped(server, "mailserv_plugin_level") == {"waiting": 2}
        clock.advance(301)
        server.send("a@far.example", [ALICE], b"Hi.\r\n")
        after = scraped(server, "mailserv_plugin_events_total")
        assert {name: after[name] - before[name] for name in after} == {"greylisted": 2, "passed": 1}
        assert scraped(server, "mailserv_plugin_level") == {"waiting": 1}


@pytest.mark.parametrize("name", ["", "Refused", "a b", "1st", "x" * 64, 'a"b', "a\n"])
def test_a_name_that_prometheus_would_not_take_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a metric"):
        PluginMetrics("probe").count(name)
    with pytest.raises(ValueError, match="no name of a metric"):
        PluginMetrics("probe").level(name)


def test_where_no_server_runs_nothing_is_counted_and_nothing_breaks() -> None:
    silent = Silent()
    silent.count("refused").add(2)
    silent.level("waiting").set(3)
