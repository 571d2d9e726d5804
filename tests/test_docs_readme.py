"""README.md: what it tells you to type is tried here, as far as it can be without a machine of its own.

The `/etc`, `/var` and `/opt` of the page are folders of the test's, its ports are free ones; nothing else is changed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import dnslib
import pytest
import trustme
from serving import port_of, running

from mailserv.cli.main import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]
HOSTNAME = "mail.example.org"
PASSWORD = "correct horse"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def lines(beginning: str) -> list[str]:
    """The lines to type that begin so, without their comments."""
    typed = [line for block in blocks("sh") for line in block.splitlines()]
    return [line.partition("  #")[0].rstrip() for line in typed if line.startswith(beginning)]


def paragraph(words: str) -> str:
    """The block to type that holds these words."""
    (found,) = [block for block in blocks("sh") if words in block]
    return found


# ------------------------------------------------------------------ without running anything


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith(("http:", "https:"))]
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for link in links:
        path, _, anchor = link.partition("#")
        assert not path or (page.parent / path).exists(), link
        assert path or anchor in anchors, link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_file_that_is_named_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/.-])((?:bin|conf|docs|tests|plugins|bench)/[\w./-]*\w)", text)
    examples = re.compile("NAME|xclock")
    assert [name for name in named if not _is_there(name) and not examples.search(name)] == []


def _is_there(name: str) -> bool:
    """A test of a plugin is named from tests/ on (docs/rfc.md)."""
    return (ROOT / name).exists() or (ROOT / "tests" / name).exists()


@pytest.mark.parametrize("line", lines("mailserv "))
def test_a_command_has_the_options_that_are_typed(line: str) -> None:
    context = click.Context(cli, info_name="mailserv", **cli.context_settings)
    command: click.Command = cli
    arguments = shlex.split(line)[1:]
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        found = command.get_command(context, arguments.pop(0))
        assert found, line
        command = found
    if arguments != ["--version"]:
        command.make_context(command.name, arguments, parent=context)


def test_the_dns_records_can_be_read_and_are_all_there() -> None:
    (zone,) = blocks("zone")
    records = [(str(record.rname), dnslib.QTYPE[record.rtype]) for record in dnslib.RR.fromZone(zone)]
    assert set(records) == {
        ("mail.example.org.", "A"),
        ("mail.example.org.", "AAAA"),
        ("mail.example.org.", "TXT"),
        ("example.org.", "MX"),
        ("example.org.", "TXT"),
        ("_dmarc.example.org.", "TXT"),
    }


def test_the_firewall_lets_in_what_the_server_listens_on_and_port_80() -> None:
    (rule,) = lines("ufw allow")
    (settings,) = blocks("toml")
    assert set(rule.split()[-1].split(",")) == {*re.findall(r":(\d+)\"", settings), "80"}


@pytest.mark.parametrize("script", blocks("sh"), ids=lambda script: script.splitlines()[0])
def test_what_is_typed_is_shell(script: str) -> None:
    ran = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stderr) == (0, "")


# ------------------------------------------------------------------ a VPS of the test's own


@dataclass(frozen=True)
class Vps:
    """`root` stands for `/`; `bin` has a `mailserv`."""

    root: Path
    authority: trustme.CA

    @property
    def settings(self) -> Path:
        return self.root / "etc" / "mailserv" / "mailserv.toml"

    def moved(self, text: str) -> str:
        """The page's words with this folder for `/`."""
        text = re.sub(r"(?<![\w/])/(etc|var|opt)/", rf"{self.root}/\1/", text)
        return re.sub(r"-o root -g mailserv ", "", text)

    def shell(self, script: str, **more: str) -> str:
        env = {**os.environ, **more, "MAILSERV_CONFIG": str(self.settings)}
        env["PATH"] = f"{self.root}/bin:{env['PATH']}"
        ran = subprocess.run(
            ["sh", "-euc", self.moved(script)],
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        assert ran.returncode == 0, f"{script}\n{ran.stdout}{ran.stderr}"
        return ran.stdout + ran.stderr


@pytest.fixture
def vps(tmp_path: Path) -> Vps:
    """As it is after steps 1, 3 and 5: checkout, settings, certificate by the page's own hook."""
    made = Vps(tmp_path, trustme.CA())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mailserv").write_text(f'#!/bin/sh\nexec {sys.executable} -m mailserv "$@"\n')
    (tmp_path / "bin" / "mailserv").chmod(0o755)
    made.settings.parent.mkdir(parents=True)
    (tmp_path / "var" / "lib" / "mailserv").mkdir(parents=True, mode=0o700)
    (settings,) = blocks("toml")
    loopback = re.sub(r'"(0\.0\.0\.0|\[::\]):\d+"', '"127.0.0.1:0"', made.moved(settings))
    made.settings.write_text(loopback)
    issue(made)
    return made


def issue(vps: Vps) -> None:
    """What certbot does, and the hook of the page, made and run as the page says."""
    live = vps.root / "etc" / "letsencrypt" / "live" / HOSTNAME
    live.mkdir(parents=True)
    issued = vps.authority.issue_cert(HOSTNAME)
    issued.cert_chain_pems[0].write_to_path(live / "fullchain.pem")
    issued.private_key_pem.write_to_path(live / "privkey.pem")
    vps.authority.cert_pem.write_to_path(vps.root / "ca.pem")
    vps.shell(paragraph("renewal-hooks/deploy\n").replace("certbot certonly", ": certbot certonly"))
    vps.shell(paragraph("RENEWED_LINEAGE=/etc"))


@pytest.fixture
def ports(vps: Vps) -> Iterator[dict[str, int]]:
    with running("serve", cwd=vps.root, MAILSERV_CONFIG=str(vps.settings)) as process:
        ready = process.until(r"^ready ")
        vps.shell(f"echo '{PASSWORD}' | {lines('mailserv user add')[0]} --password-stdin")
        yield {
            "25": port_of(ready, "smtp"),
            "587": port_of(ready, "submission"),
            "995": port_of(ready, "pop3s"),
        }


def test_the_settings_are_good_and_the_key_is_not_for_everybody(vps: Vps) -> None:
    said = vps.shell("mailserv check")
    assert said.splitlines() == [f"{vps.settings}: good"]
    key = vps.root / "etc" / "mailserv" / "tls" / "privkey.pem"
    assert key.stat().st_mode & 0o777 == 0o640


def test_what_step_7_sends_arrives_and_is_fetched(vps: Vps, ports: dict[str, int]) -> None:
    """The page's curl and swaks lines with this server's ports. The name stays, so that the certificate is checked."""
    (stranger,) = [line for line in lines("swaks") if "stranger" in line]
    (fetch,) = lines("curl")
    if shutil.which("swaks"):
        said = vps.shell(stranger.replace("mail.example.org:25", f"127.0.0.1:{ports['25']}"))
        assert "queued as" in said
    else:
        vps.shell(
            "printf 'Subject: test\\r\\n\\r\\nhello\\r\\n' | curl -sS --upload-file - --mail-from stranger@example.net "
            f"--mail-rcpt alice@example.org --url smtp://127.0.0.1:{ports['25']}"
        )
    fetch = fetch.replace(f"{HOSTNAME}/", f"{HOSTNAME}:{ports['995']}/").replace(
        "@example.org", f"@example.org:'{PASSWORD}'"
    )
    found = vps.shell(f"{fetch} --resolve {HOSTNAME}:{ports['995']}:127.0.0.1 --cacert {vps.root}/ca.pem")
    assert "Return-Path: <stranger@example.net>" in found


@pytest.mark.interop
def test_what_step_7_submits_is_taken(vps: Vps, ports: dict[str, int]) -> None:
    (submit,) = [line for line in lines("swaks") if "--auth" in line]
    if shutil.which("swaks") is None:
        return
    to_alice = submit.replace("you@example.net", "alice@example.org")
    said = vps.shell(
        to_alice.replace("mail.example.org:587", f"127.0.0.1:{ports['587']}") + f" --auth-password '{PASSWORD}'"
    )
    assert "queued as" in said


def test_the_queue_and_user_commands_work_beside_the_server(vps: Vps, ports: dict[str, int]) -> None:
    assert "alice@example.org" in vps.shell("mailserv user list")
    assert vps.shell("mailserv queue list --json").strip() == "[]"
    vps.shell("mailserv queue retry --all; mailserv queue hold --all")


def test_the_backup_is_a_whole_database_and_its_spool(vps: Vps, ports: dict[str, int]) -> None:
    if shutil.which("sqlite3") is None:
        return
    vps.shell(paragraph(".backup").replace("apt install", ": apt install"))
    backup = vps.root / "var" / "backups" / "mailserv"
    assert (backup / "spool").is_dir()
    assert (backup / "mailserv" / "mailserv.toml").is_file()
    restored = vps.root / "var" / "lib" / "restored"
    restored.mkdir()
    shutil.copy(backup / "mailserv.db", restored)
    shutil.copytree(backup / "spool", restored / "spool")
    text = vps.settings.read_text().replace("/var/lib/mailserv", "/var/lib/restored")
    vps.settings.write_text(text)
    assert "alice@example.org" in vps.shell("mailserv user list")
