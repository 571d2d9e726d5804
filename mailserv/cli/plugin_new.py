"""`mailserv plugin new`: a package that can be installed as it stands, to be changed into what is wanted."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

import click

from mailserv.cli.common import config_option, refuse
from mailserv.cli.plugin_found import all_found, settings_for

PYPROJECT = """\
[build-system]
requires = ["setuptools>=70.1"]
build-backend = "setuptools.build_meta"

[project]
name = "mailserv-NAME"
version = "0.1.0"
description = "A mailserv plugin"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["mailserv"]

[project.entry-points."mailserv.plugins"]
NAME = "mailserv_NAME:Plugin"

[tool.setuptools]
packages = ["mailserv_NAME"]
package-data = { mailserv_NAME = ["py.typed"] }

[tool.pytest.ini_options]
pythonpath = ["."]
"""

CODE = '''\
"""NAME: refuses recipients that the settings name. Change it into what you want; docs/hooks.md has every hook."""

from __future__ import annotations

from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import Address
from mailserv.mail.envelope import Envelope
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Services
from mailserv.mail.verdict import Verdict, reject


class NAMESettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[plugin.NAME]"""

    refused: Annotated[tuple[str, ...], msgspec.Meta(description="addresses that get no mail from strangers")] = ()


class Plugin:
    Settings = NAMESettings

    def __init__(self, settings: NAMESettings, services: Services) -> None:
        self._refused = frozenset(address.lower() for address in settings.refused)

    @hookimpl
    def smtp_rcpt(self, peer: Peer, envelope: Envelope, forward_path: Address) -> Verdict | None:
        if peer.login or str(forward_path).lower() not in self._refused:
            return None
        return reject("This address takes no mail", reason=f"{forward_path} is in refused")
'''

TEST = '''\
"""NAME on the real server. The fixture `mail_server` comes with mailserv."""

from __future__ import annotations

import smtplib
from typing import Any

import pytest
from mailserv_NAME import Plugin

MESSAGE = b"Subject: Hi\\r\\n\\r\\nHi.\\r\\n"


def test_a_refused_recipient_gets_no_mail(mail_server: Any) -> None:
    server = mail_server(plugins=[Plugin], config={"plugin": {"NAME": {"refused": ["alice@example.org"]}}})
    with pytest.raises(smtplib.SMTPRecipientsRefused, match="This address takes no mail"):
        server.send("carol@example.net", ["alice@example.org"], MESSAGE)


def test_without_settings_mail_arrives(mail_server: Any) -> None:
    server = mail_server(plugins=[Plugin])
    server.send("carol@example.net", ["alice@example.org"], MESSAGE)
    (message,) = server.wait_for_mail("alice@example.org")
    assert message.endswith(b"Hi.\\r\\n")
'''

README = """\
# mailserv-NAME

A plugin for mailserv.

```sh
mailserv plugin install ./mailserv-NAME
mailserv plugin check NAME
```

```toml
[plugins]
enabled = ["NAME"]

[plugin.NAME]
refused = ["nobody@example.org"]
```

Its tests need mailserv with its extra `test` (`pip install -e "/path/to/mailserv[test]"`, a checkout); then `pytest` in
this folder runs them.
"""

FILES = {
    "pyproject.toml": PYPROJECT,
    "README.md": README,
    "mailserv_NAME/__init__.py": CODE,
    "mailserv_NAME/py.typed": "",
    "tests/test_NAME.py": TEST,
}


@click.command("new")
@click.argument("name")
@config_option
def new(name: str, config: Path | None) -> None:
    """Write a plugin NAME into the folder ./mailserv-NAME: a package with settings, a hook, a test and a README.

    It can be installed and its test passes as it stands.

    \b
    Example:
      mailserv plugin new hello && mailserv plugin install ./mailserv-hello
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise refuse(f"{name!r} is no name for a plugin: small letters, digits and _, and a letter first")
    if name in all_found(settings_for(config)):
        raise refuse(f"there is a plugin {name} already")
    folder = Path(f"mailserv-{name}")
    if folder.exists():
        raise refuse(f"{folder} is there already")
    for path, text in files(name).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    click.echo(f"wrote {folder}; next: mailserv plugin install ./{folder}")


def files(name: str) -> dict[str, str]:
    """Path in the package → text."""
    kind = "".join(word.capitalize() for word in name.split("_")) + "Settings"
    return {
        path.replace("NAME", name): text.replace("NAMESettings", kind).replace("NAME", name)
        for path, text in FILES.items()
    }
