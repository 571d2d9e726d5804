"""Tests with mail software that nobody here wrote. What a test needs and this machine has not, is told at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import trustme
from interop_kit import PATH, Certificates, Mailserv, mailserv

DEBIAN = {
    "swaks": "swaks",
    "curl": "curl",
    "mpop": "mpop",
    "msmtp": "msmtp",
    "fetchmail": "fetchmail",
    "getmail": "getmail6",
    "neomutt": "neomutt",
    "postfix": "postfix",
    "smtp-source": "postfix",
    "smtp-sink": "postfix",
    "dovecot": "dovecot-core",
    "dovecot:imap": "dovecot-imapd",
    "dovecot:lmtp": "dovecot-lmtpd",
    "clamd": "clamav-daemon",
    "ip": "iproute2",
    "perl:Net::SSLeay": "libnet-ssleay-perl",
    "sasl:plain": "libsasl2-modules",
}
"""What `@pytest.mark.needs` may name (and "root" and "netns"), and the package that brings it."""

NOT_RUN = pytest.StashKey[dict[str, str]]()


@cache
def missing(need: str) -> str:
    """Why `need` is not there; empty when it is."""
    kind, _, name = need.partition(":") if ":" in need else ("", "", need)
    if need == "root":
        return "" if os.geteuid() == 0 else "only root can run it"
    if need == "netns":
        return "" if _succeeds("unshare", "--net", "true") else "this machine makes no network namespaces"
    if kind == "perl":
        there = _succeeds("perl", f"-M{name}", "-e", "1")
    elif kind == "dovecot":
        there = Path("/usr/lib/dovecot", name).exists()
    elif kind == "sasl":
        there = any(Path("/usr/lib").glob(f"*/sasl2/lib{name}.so"))
    else:
        there = shutil.which(need, path=PATH) is not None
    return "" if there else f"{name} is not installed (Debian: {DEBIAN[need]})"


def _succeeds(*command: str) -> bool:
    return bool(shutil.which(command[0])) and not subprocess.run(command, capture_output=True).returncode


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*what): programs of others that the test talks to")
    config.stash[NOT_RUN] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out what cannot run here, and remember why."""
    not_run = config.stash[NOT_RUN]
    kept, taken_out = [], []
    for item in items:
        needs = [need for mark in item.iter_markers("needs") for need in mark.args]
        reasons = sorted({reason for reason in map(missing, needs) if reason})
        if reasons:
            not_run[item.nodeid] = ", ".join(reasons)
            taken_out.append(item)
        else:
            kept.append(item)
    if taken_out:
        config.hook.pytest_deselected(items=taken_out)
        items[:] = kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    not_run = config.stash[NOT_RUN]
    if not_run:
        terminalreporter.section(f"{len(not_run)} tests with other software were NOT RUN")
        what = Counter((reason, nodeid.partition("::")[0]) for nodeid, reason in not_run.items())
        for (reason, file), count in sorted(what.items()):
            terminalreporter.write_line(f"{reason}: {count} of {file}")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate for this machine's loopback address, and the authority that clients are told to trust."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost", common_name="localhost")  # fetchmail wants one
    authority.cert_pem.write_to_path(folder / "authority.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for pem in issued.cert_chain_pems:
        pem.write_to_path(folder / "chain.pem", append=True)
    return Certificates(folder / "authority.pem", folder / "chain.pem", folder / "key.pem")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Mailserv]:
    """One `mailserv serve` for all that needs no settings of its own; tests keep apart by their accounts."""
    with mailserv(tmp_path_factory.mktemp("mailserv"), certificates) as running:
        yield running
