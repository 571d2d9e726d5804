"""conf/mailserv.service: systemd understands it, and it gives the server no more than it needs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mailserv.config.units import parse_duration
from mailserv.settings import Limits

UNIT = Path(__file__).parent.parent / "conf" / "mailserv.service"


def service() -> dict[str, list[str]]:
    """The keys of [Service]; a key may stand more than once."""
    values: dict[str, list[str]] = {}
    section = ""
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            values.setdefault(key, []).append(value)
    return values


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "notify"),
        ("User", "mailserv"),
        ("StateDirectory", "mailserv"),
        ("AmbientCapabilities", "CAP_NET_BIND_SERVICE"),
        ("CapabilityBoundingSet", "CAP_NET_BIND_SERVICE"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
    ],
)
def test_the_service_is_confined(key: str, value: str) -> None:
    assert service()[key] == [value]


def test_it_starts_when_names_and_the_date_are_there() -> None:
    (line,) = (line for line in UNIT.read_text(encoding="utf-8").splitlines() if line.startswith("After="))
    assert line.removeprefix("After=").split() == ["network-online.target", "nss-lookup.target", "time-sync.target"]


def test_systemd_waits_longer_than_the_server_drains() -> None:
    assert parse_duration(service()["TimeoutStopSec"][0] + "s") > Limits().drain


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """Without systemd on this machine, each line is at least a section or a key."""
    text = (
        UNIT.read_text(encoding="utf-8").replace("/usr/local/bin/mailserv", "/bin/true").replace("User=mailserv\n", "")
    )
    if shutil.which("systemd-analyze") is None:
        assert all(line[:1] in ("#", "[", "") or "=" in line for line in text.splitlines())
        return
    (tmp_path / "mailserv.service").write_text(text.replace("Group=mailserv\n", ""))
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "mailserv.service")], capture_output=True, text=True
    )
    assert [line for line in ran.stderr.splitlines() if "mailserv.service" in line] == []
