"""`python -m bench.probe PORT RECIPIENT COUNT REUSE OCTETS`: sessions that take the time of single messages.

A process of its own with blocking sockets, a thread a session: few sessions beside a load that somebody else makes, so
that what they cost does not count. They send until a line comes on standard input, then say what they saw as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from bench.smtp_client import SMTPClient, message
from bench.waiting import START_SECONDS


class Probe:
    """One session after another, or one for all messages."""

    def __init__(self, port: int, recipient: str, *, reuse: bool, octets: int) -> None:
        self._port = port
        self._recipient = recipient
        self._reuse = reuse
        self._content = message(octets)
        self.seconds: list[float] = []
        self.error = ""

    def run(self, over: threading.Event) -> None:
        try:
            while not over.is_set():
                with SMTPClient(self._port) as client:
                    self._send(client)
                    while self._reuse and not over.is_set():
                        self._send(client)
        except (OSError, ValueError) as error:
            self.error = str(error)

    def _send(self, client: SMTPClient) -> None:
        started = time.perf_counter()
        client.send("probe@example.net", self._recipient, self._content)
        self.seconds.append(time.perf_counter() - started)


def main() -> None:
    port, recipient, count, reuse, octets = sys.argv[1:]
    over = threading.Event()
    probes = [Probe(int(port), recipient, reuse=bool(int(reuse)), octets=int(octets)) for _ in range(int(count))]
    threads = [threading.Thread(target=probe.run, args=(over,), daemon=True) for probe in probes]
    print("ready", flush=True)
    used = time.process_time()
    for thread in threads:
        thread.start()
    sys.stdin.readline()
    over.set()
    for thread in threads:
        thread.join(START_SECONDS)
    stuck = [thread for thread in threads if thread.is_alive()]
    errors = [probe.error for probe in probes if probe.error] + ["still waits for a reply" for _ in stuck]
    seconds = [taken for probe in probes for taken in probe.seconds]
    print(json.dumps({"seconds": seconds, "cpu": time.process_time() - used, "error": "; ".join(errors[:1])}))


if __name__ == "__main__":
    main()
