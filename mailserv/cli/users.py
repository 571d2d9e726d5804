"""`mailserv user`: accounts, each a mailbox and a login."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from mailserv.cli.common import config_option, json_option, opened_store, print_json, print_table, refuse, utc_time
from mailserv.cli.config import enabled_plugins, read
from mailserv.clock import SystemClock
from mailserv.errors import AddressSyntaxError, DuplicateError
from mailserv.mail.address import parse_domain, parse_mailbox
from mailserv.settings import Settings
from mailserv.store.passwords import hash_password

F = TypeVar("F", bound=Callable[..., Any])

MAX_PASSWORD = 1024  # characters; more is a wrong file


@click.group("user")
def user() -> None:
    """Add, list and remove accounts.

    An account is a mailbox and a login, both named by its address. Changes count at once, also while the server runs.
    """


def _password_options(command: F) -> F:
    """Where the password comes from when it is not typed."""
    from_file = click.option(
        "--password-file", type=click.Path(path_type=Path), metavar="FILE", help="Read the password from FILE."
    )
    from_stdin = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
    return from_file(from_stdin(command))


@user.command("add")
@click.argument("address")
@_password_options
@config_option
def add(address: str, password_file: Path | None, password_stdin: bool, config: Path | None) -> None:
    """Add the account ADDRESS; its domain is one of local_domains.

    On a terminal the password is asked for twice.

    \b
    Examples:
      mailserv user add alice@example.org
      pwgen 20 1 | tee /dev/tty | mailserv user add alice@example.org --password-stdin
    """
    settings = read(config)
    key = _local_address(address, settings)
    password = _password(password_file, password_stdin)
    with opened_store(settings, make=True) as store:
        try:
            store.add_account(key, hash_password(password), SystemClock().now(), _verifiers(password, settings))
        except DuplicateError:
            raise refuse(f"{key} is there already; mailserv user passwd {key} changes its password") from None
    click.echo(f"added {key}")


@user.command("passwd")
@click.argument("address")
@_password_options
@config_option
def passwd(address: str, password_file: Path | None, password_stdin: bool, config: Path | None) -> None:
    """Give the account ADDRESS another password.

    \b
    Example:
      mailserv user passwd alice@example.org
    """
    settings = read(config)
    key = parse_account(address)
    password = _password(password_file, password_stdin)
    with opened_store(settings) as store:
        if not store.set_password(key, hash_password(password), _verifiers(password, settings)):
            raise refuse(f"there is no account {key}")
    click.echo(f"changed the password of {key}")


@user.command("list")
@json_option
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """List the accounts."""
    with opened_store(read(config)) as store:
        rows = [(account.address, utc_time(account.created_at)) for account in store.accounts()]
    if as_json:
        print_json([{"address": address, "created_at": created_at} for address, created_at in rows])
    else:
        print_table(("ADDRESS", "CREATED"), rows)


@user.command("remove")
@click.argument("address")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def remove(address: str, yes: bool, config: Path | None) -> None:
    """Remove the account ADDRESS with every message of its mailbox.

    On a terminal you are asked first.
    """
    settings = read(config)
    key = parse_account(address)
    if not yes and sys.stdin.isatty():
        click.confirm(f"Remove {key} and all of its mail?", abort=True, err=True)
    with opened_store(settings) as store:
        if not store.remove_account(key):
            raise refuse(f"there is no account {key}")
    click.echo(f"removed {key}")


def _verifiers(password: str, settings: Settings) -> dict[str, str]:
    """What the SASL mechanisms of the enabled plugins want kept of it, by mechanism. Raises ConfigError."""
    if not settings.plugins.enabled:
        return {}
    made = {
        mechanism.name: mechanism.make_verifier(password)
        for mechanism in enabled_plugins(settings).mechanisms
        if mechanism.make_verifier
    }
    return {name: verifier for name, verifier in made.items() if verifier is not None}


def parse_account(address: str) -> str:
    """`Address.key`. Raises UsageError."""
    try:
        return parse_mailbox(address).key
    except AddressSyntaxError as error:
        raise click.UsageError(f"{address!r} is no address: {error}") from error


def _local_address(address: str, settings: Settings) -> str:
    key = parse_account(address)
    try:
        domain = parse_mailbox(key).domain
    except AddressSyntaxError:
        raise refuse(f"{address}: a name that needs quotes cannot log in; POP3 has no place for them") from None
    local = [parse_domain(name) for name in settings.local_domains]
    if domain not in local:
        known = f"local_domains are {', '.join(local)}" if local else "local_domains is empty"
        raise refuse(f"{domain} is not ours: {known}")
    return key


def _password(file: Path | None, from_stdin: bool) -> str:
    """From where the options say, else from the terminal. Never from the command line, which every user can see."""
    if file is not None and from_stdin:
        raise click.UsageError("--password-file and --password-stdin are one too many")
    try:
        if file is not None:
            return _checked(file.read_text(encoding="utf-8"))
        if from_stdin:
            return _checked(sys.stdin.read())
    except OSError as error:
        raise refuse(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise refuse("the password is not UTF-8") from None
    if not sys.stdin.isatty():
        raise click.UsageError("no terminal to ask for the password: use --password-file or --password-stdin")
    typed: str = click.prompt("Password", hide_input=True, confirmation_prompt="Again", err=True)
    return _checked(typed)


def _checked(text: str) -> str:
    password = text.removesuffix("\n").removesuffix("\r")
    if not password:
        raise refuse("the password is empty")
    if len(password) > MAX_PASSWORD or not password.isprintable():
        raise refuse(f"the password is not one line of at most {MAX_PASSWORD} printable characters")
    return password
