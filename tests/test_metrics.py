"""The metrics listener."""

from __future__ import annotations

import socket
import threading
import time
from urllib.request import urlopen

import pytest

from mailserv import metrics


@pytest.fixture
def listener() -> metrics.MetricsListener:
    return metrics.serve_metrics("127.0.0.1", 0)


def test_a_scrape_shows_the_counters(listener: metrics.MetricsListener) -> None:
    metrics.ACCEPTED.labels(service="smtp").inc(0)
    with urlopen(f"http://127.0.0.1:{listener.port}/metrics", timeout=5) as response:
        text = response.read().decode()
    listener.close()
    assert 'mailserv_messages_accepted_total{service="smtp"}' in text


def test_a_scrape_prints_nothing(listener: metrics.MetricsListener, capfd: pytest.CaptureFixture[str]) -> None:
    urlopen(f"http://127.0.0.1:{listener.port}/metrics", timeout=5).close()
    listener.close()
    assert capfd.readouterr() == ("", "")


def test_close_gives_the_port_and_the_thread_back_at_once(listener: metrics.MetricsListener) -> None:
    started = time.monotonic()
    listener.close()
    listener.close()
    assert time.monotonic() - started < 1
    assert not [thread for thread in threading.enumerate() if thread.name == "metrics"]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", listener.port), timeout=5)


def test_a_silent_client_keeps_nobody_waiting(listener: metrics.MetricsListener) -> None:
    with socket.create_connection(("127.0.0.1", listener.port), timeout=5):
        urlopen(f"http://127.0.0.1:{listener.port}/metrics", timeout=5).close()
        listener.close()


def test_it_listens_on_ipv6_too() -> None:
    listener = metrics.serve_metrics("::1", 0)
    urlopen(f"http://[::1]:{listener.port}/metrics", timeout=5).close()
    listener.close()
    assert listener.port > 0


def test_an_idle_listener_uses_no_processor_time(listener: metrics.MetricsListener) -> None:
    before = time.process_time()
    threading.Event().wait(0.5)
    used = time.process_time() - before
    listener.close()
    assert used < 0.05


def test_a_port_in_use_is_an_error_at_once(listener: metrics.MetricsListener) -> None:
    with pytest.raises(OSError, match="in use"):
        metrics.serve_metrics("127.0.0.1", listener.port)
    listener.close()
