"""The metrics listener."""

from __future__ import annotations

import socket
import struct
import threading
import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

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


def test_a_scraper_that_goes_away_prints_nothing(
    listener: metrics.MetricsListener, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", listener.port), timeout=5) as client:
        client.sendall(b"GET /metr")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it ends with a reset
    listener.close()
    scrapes = [thread for thread in threading.enumerate() if "process_request_thread" in thread.name]
    for thread in scrapes:
        thread.join(5)
    assert capfd.readouterr() == ("", "")


def test_junk_in_accept_is_refused_and_prints_nothing(
    listener: metrics.MetricsListener, capfd: pytest.CaptureFixture[str]
) -> None:
    accept = "application/openmetrics-text;version=zz;escaping=x"
    with pytest.raises(HTTPError, match="406"):
        urlopen(Request(f"http://127.0.0.1:{listener.port}/metrics", headers={"Accept": accept}), timeout=5)
    listener.close()
    assert capfd.readouterr() == ("", "")


def test_when_no_thread_is_left_for_a_scrape_the_next_one_is_answered(listener: metrics.MetricsListener) -> None:
    before = threading.stack_size(2**46)  # octets: no thread can have so many
    try:
        with socket.create_connection(("127.0.0.1", listener.port), timeout=5) as client:
            assert client.recv(1) == b""
    finally:
        threading.stack_size(before)
    urlopen(f"http://127.0.0.1:{listener.port}/metrics", timeout=5).close()
    listener.close()


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
