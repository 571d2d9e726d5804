"""The load: postfix's smtp-source, and a few probes that take the time of single messages."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import Failed
from bench.server import PATH
from bench.waiting import START_SECONDS

LOAD_SECONDS = 300.0  # the longest that one load may take
OCTETS = 4096
SESSIONS_PER_PROBE = 25
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Load:
    """So many messages through so many sessions at once; each session for one message, or (`reuse`) for many."""

    messages: int
    sessions: int
    reuse: bool
    octets: int = OCTETS

    @property
    def name(self) -> str:
        return f"{self.sessions} {'many' if self.reuse else 'one'}"

    def warm_up(self) -> Load:
        """A smaller one that makes a server start the processes, threads and connections that it wants."""
        return Load(min(self.messages, max(200, 2 * self.sessions)), self.sessions, self.reuse, self.octets)


def smtp_source(port: int, recipient: str, load: Load) -> float:
    """Send it all; the seconds it took. Failed when a message was refused."""
    command = ["smtp-source", "-s", str(load.sessions), "-m", str(load.messages), "-l", str(load.octets)]
    command += ["-f", "source@example.net", "-t", recipient, *(["-d"] if load.reuse else [])]
    started = time.monotonic()
    try:
        done = subprocess.run(
            [*command, f"inet:127.0.0.1:{port}"],
            env={"PATH": PATH},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LOAD_SECONDS,
            check=False,
        )
    except OSError:
        raise Failed("smtp-source is not installed (Debian: postfix)") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"smtp-source was not done within {LOAD_SECONDS:.0f} s") from None
    took = time.monotonic() - started
    if done.returncode:
        raise Failed(f"smtp-source: {(done.stdout + done.stderr).strip()[-200:]}")
    return took


@dataclass(slots=True)
class Probed:
    """What the probes saw; filled at the end of the block of `probes`."""

    seconds: list[float] = field(default_factory=list)
    """From MAIL to the 250 after the content, of each message."""
    cpu: float = 0.0
    """CPU seconds that they took themselves."""


@contextmanager
def probes(port: int, recipient: str, load: Load) -> Iterator[Probed]:
    """Beside a load, sessions of our own that do the same and take the time: one for each SESSIONS_PER_PROBE."""
    count = max(1, load.sessions // SESSIONS_PER_PROBE)
    arguments = [str(port), recipient, str(count), str(int(load.reuse)), str(load.octets)]
    with subprocess.Popen(
        [sys.executable, "-m", "bench.probe", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        try:
            if process.stdout.readline() != "ready\n":
                raise Failed("the probes did not start")
            probed = Probed()
            yield probed
            out, _ = process.communicate("end\n", LOAD_SECONDS)
            said = json.loads(out)
            if said["error"]:
                raise Failed(f"a probe: {said['error']}")
            probed.seconds, probed.cpu = said["seconds"], said["cpu"]
        except (subprocess.TimeoutExpired, ValueError):
            raise Failed("the probes did not end") from None
        finally:
            process.kill()
            process.wait(START_SECONDS)
