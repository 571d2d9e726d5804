"""`mailserv PLUGIN …`: a plugin's own commands, found, refused, and run on the database of a running server."""

from __future__ import annotations

import smtplib
from pathlib import Path

import pytest
from cli_kit import CONFIG, Command

from mailserv.clock import SystemClock
from mailserv.errors import ConfigError
from mailserv.settings import Plugins
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server

SOURCE = """
import click
from mailserv import hookimpl

class Plugin:
    def __init__(self, settings, services):
        self.table = services.table
        self.now = services.now

    @hookimpl
    def register_commands(self):
        @click.command("put")
        @click.argument("value")
        @click.option("--key", default="a")
        def put(value, key):
            '''Put a value.'''
            if value == "bad":
                raise click.ClickException("that is bad")
            self.table.put(key, value, self.now() + 100)
            click.echo(f"put {value}")
        return [put]
"""


@pytest.fixture
def jar(mailserv: Command) -> Command:
    """A server's folder with a single-file plugin that has one command."""
    (mailserv.folder / "jar.py").write_text(SOURCE)
    mailserv.data_dir.mkdir()
    mailserv.config.write_text(CONFIG + f'[plugins]\nenabled = ["jar"]\npath = "{mailserv.folder}"\n')
    return mailserv


def test_hook_register_commands_work_on_the_live_database(jar: Command) -> None:
    plugins = Plugins(enabled=("jar",), path=jar.folder)
    with mail_server(data_dir=jar.data_dir, plugins=plugins) as server:
        ran = jar("jar", "put", "x", "--key", "k")
        assert (ran.code, ran.out, ran.err) == (0, "put x\n", "")
        assert server.server.store.plugin_table("jar").get("k") == "x"


@pytest.mark.parametrize("form", [["--config", "{}"], ["--config={}"]])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_hook_register_commands_take_config_wherever_it_stands(
    jar: Command, monkeypatch: pytest.MonkeyPatch, form: list[str], at: int
) -> None:
    monkeypatch.setenv("MAILSERV_CONFIG", "/nonexistent")
    arguments = ["put", "x"]
    arguments[at:at] = [each.format(jar.config) for each in form]
    assert jar("jar", *arguments).out == "put x\n"


def test_hook_register_commands_fail_with_their_own_words(jar: Command) -> None:
    ran = jar("jar", "put", "bad")
    assert (ran.code, ran.err) == (1, "Error: that is bad\n")
    assert jar("jar", "put").code == 2
    assert jar("jar", "take").code == 2


@pytest.mark.parametrize("arguments", [[], ["--help"], ["put", "--help"]])
def test_hook_register_commands_tell_their_help_without_a_database(jar: Command, arguments: list[str]) -> None:
    jar.data_dir.rmdir()
    ran = jar("jar", *arguments)
    assert ran.code == 0
    assert "Put a value." in ran.out
    assert "mailserv jar" in ran.out
    assert not jar.data_dir.exists()


def test_a_plugin_that_is_not_enabled_or_has_no_commands_says_so(jar: Command) -> None:
    assert "the plugin greylist is not enabled" in jar("greylist", "list").err
    jar.config.write_text(CONFIG + '[plugins]\nenabled = ["sender"]\n')
    assert "the plugin sender has no commands" in jar("sender").err


def test_what_is_neither_a_command_nor_a_plugin_is_wrong_usage(mailserv: Command) -> None:
    ran = mailserv("gerylist", "list")
    assert ran.code == 2
    assert "No such command 'gerylist'" in ran.err
    mailserv.config.unlink()
    assert mailserv("gerylist").code == 2
    assert mailserv("jar", "--config").code == 2


def test_hook_register_commands_that_contradict_each_other_stop_the_start(tmp_path: Path) -> None:
    (tmp_path / "jar.py").write_text(SOURCE.replace("return [put]", 'return [put, put, "put"]'))
    with pytest.raises(ConfigError) as raised, mail_server(plugins=Plugins(enabled=("jar",), path=tmp_path)):
        pass
    assert raised.value.problems == [
        "plugin jar: register_commands gave 'put', not a Command",
        "plugins jar and jar both bring command jar put: disable one of them",
    ]


CAROL, DAVE, ALICE = "carol@far.example", "dave@far.example", "alice@example.org"


def is_greylisted(server: MailServer, sender: str = CAROL) -> bool:
    with smtplib.SMTP(*server.address("smtp"), "client.example.net") as client:
        client.ehlo()
        client.mail(sender)
        return client.rcpt(ALICE)[0] == 451


@pytest.fixture
def grey(mailserv: Command) -> Command:
    mailserv.data_dir.mkdir()
    mailserv.config.write_text(CONFIG + '[plugins]\nenabled = ["greylist"]\n')
    return mailserv


@pytest.mark.parametrize("address", ["127.0.0.9", "127.0.0.0/24", "Carol@far.example", ALICE])
def test_greylist_lists_and_forgets_on_a_running_server(grey: Command, address: str) -> None:
    clock = FakeClock()
    clock.set_now(SystemClock().now() - 1000)  # the command has the real one
    with mail_server(data_dir=grey.data_dir, plugins=["greylist"], clock=clock) as server:
        assert is_greylisted(server)
        assert "may come back at" in grey("greylist", "list", address).out
        assert grey("greylist", "forget", address).out == "forgotten: 1\n"
        assert grey("greylist", "list").out == ""
        clock.advance(300)
        assert is_greylisted(server), "it was forgotten, and waits anew"
        clock.advance(300)
        assert not is_greylisted(server)
        (line,) = grey("greylist", "list", address).out.splitlines()
        assert line.startswith("127.0.0.0/24          a sender and a recipient  is known until 20")
        assert grey("greylist", "forget", address).out == "forgotten: 1\n"
        assert is_greylisted(server)


def test_greylist_forgets_a_network_and_what_led_to_it(grey: Command) -> None:
    clock = FakeClock()
    clock.set_now(SystemClock().now() - 1000)
    config = {"plugin": {"greylist": {"auto_whitelist": 1}}}
    with mail_server(data_dir=grey.data_dir, plugins=["greylist"], clock=clock, config=config) as server:
        assert is_greylisted(server)
        clock.advance(300)
        assert not is_greylisted(server)
        assert not is_greylisted(server, DAVE)
        assert "all of it" in grey("greylist", "list", "127.0.0.1").out
        assert grey("greylist", "forget", "127.0.0.1").out == "forgotten: 2\n"
        assert is_greylisted(server, DAVE)


def test_greylist_lists_and_forgets_a_client_of_a_full_network(grey: Command) -> None:
    clock = FakeClock()
    clock.set_now(SystemClock().now() - 1000)
    config = {"plugin": {"greylist": {"waiting_per_network": 1}}}
    with mail_server(data_dir=grey.data_dir, plugins=["greylist"], clock=clock, config=config) as server:
        assert [is_greylisted(server), is_greylisted(server, DAVE)] == [True, True]
        lines = grey("greylist", "list", "127.0.0.1").out.splitlines()
        assert sorted(line[:31] for line in lines) == [
            "127.0.0.0/24          a sender ",
            "127.0.0.1/32          all of it",
        ]
        assert grey("greylist", "forget", "127.0.0.1").out == "forgotten: 2\n"
        clock.advance(300)
        assert [is_greylisted(server), is_greylisted(server, DAVE)] == [True, True]


def test_greylist_says_what_it_does_not_know(grey: Command) -> None:
    ran = grey("greylist", "forget", "192.0.2.1")
    assert (ran.code, ran.err) == (1, "Error: nothing is known of 192.0.2.1\n")
    assert grey("greylist", "forget", "carol").code == 2
    assert grey("greylist", "list", "@").code == 2


def test_what_a_broken_plugin_says_is_one_line_without_anything_that_a_terminal_obeys(jar: Command) -> None:
    (jar.folder / "jar.py").write_text('raise ValueError("no\\nway \\x1b[31m")\n')
    ran = jar("jar", "put", "x")
    assert ran.code == 1
    assert "plugin jar: cannot be loaded: ValueError: no\\nway \\x1b[31m\n" in ran.err
