"""A file that is right becomes settings; what an operator should know becomes warnings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from mailserv.config import diff, load, parse_listen_address, parse_nameserver, read_section
from mailserv.errors import ConfigError
from mailserv.settings import Duration, Listen, Routed, Secret, Settings, Size

HEAD = """hostname = "mail.example.org"
local_domains = ["example.org"]
postmaster = "alice@example.org"
listen = [{ service = "smtp", address = "0.0.0.0:25" }]
"""
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_it(text: str) -> Path:
        path = tmp_path / "mailserv.toml"
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        return path

    return write_it


def problems(path: Path, **kw: bool) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, **kw)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def warnings(path: Path) -> list[str]:
    return [warning.removeprefix(f"{path}:") for warning in load(path).warnings]


def test_the_example_of_the_contract_is_read(write: Write) -> None:
    settings = load(
        write(
            HEAD.replace('listen = [{ service = "smtp", address = "0.0.0.0:25" }]', "")
            + """
data_dir = "/var/lib/mailserv"
[[listen]]
service = "smtp"
address = "0.0.0.0:25"
[[listen]]
service = "pop3"
address = "[::1]:0"
[tls]
plaintext_auth = "loopback"
[aliases]
"info@example.org" = ["alice@example.org", "bob@example.net"]
[limits]
message_size = "50MB"
recipients = 100
connections_per_minute = 0
[relay]
networks = ["127.0.0.0/8", "2001:db8::/32", "::ffff:192.0.2.0/120"]
[routes]
"example.net" = "smtp:[127.0.0.1]:2526"
"*" = { to = "smtp:[smart.example]:587", tls = "verify", user = "me", password = "hunter2" }
[queue]
retry = ["5m","15m","30m","1h","2h","4h"]
give_up = "5d"
delay_notice = "4h"
workers = 20
[dns]
nameservers = ["127.0.0.1:5353", "::1", "[::1]:53"]
[plugins]
enabled = ["alias"]
path = "/etc/mailserv/plugins"
[plugin.greylist]
delay = "5m"
"""
        )
    ).settings
    assert settings.listen == (
        Listen(service="smtp", address="0.0.0.0:25"),
        Listen(service="pop3", address="[::1]:0"),
    )
    assert settings.aliases == {"info@example.org": ("alice@example.org", "bob@example.net")}
    assert settings.relay.networks == (
        ip_network("127.0.0.0/8"),
        ip_network("2001:db8::/32"),
        ip_network("192.0.2.0/24"),
    )
    assert settings.routes["example.net"] == "smtp:[127.0.0.1]:2526"
    assert isinstance(settings.routes["*"], Routed)
    assert settings.routes["*"].password == "hunter2"
    assert settings.queue.retry == (300, 900, 1800, 3600, 7200, 14400)
    assert (settings.limits.message_size, settings.queue.give_up) == (50_000_000, 432_000)
    assert settings.plugins.path == Path("/etc/mailserv/plugins")
    assert settings.plugin == {"greylist": {"delay": "5m"}}


def test_what_the_file_leaves_out_has_the_defaults(write: Write) -> None:
    loaded = load(write(HEAD))
    assert loaded.warnings == []
    assert loaded.settings == Settings(
        hostname="mail.example.org",
        local_domains=("example.org",),
        postmaster="alice@example.org",
        listen=(Listen(service="smtp", address="0.0.0.0:25"),),
    )


def test_relative_paths_start_from_the_folder_of_the_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    assert load(write(HEAD.replace("listen", 'data_dir = "var"\nlisten', 1))).settings.data_dir == tmp_path / "var"


def test_invariant_10_a_secret_comes_from_a_file_or_the_environment_and_is_never_shown(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from file\n")
    secret.chmod(0o640)
    monkeypatch.setenv("SMARTHOST_PASSWORD", "from env")
    loaded = load(
        write(
            HEAD
            + '[routes]\n"a.example" = { to = "smtp:a.example", tls = "verify", user = "u", password = { file = "secret" } }\n'
            + '"b.example" = { to = "smtp:b.example", tls = "verify", user = "u", password = { env = "SMARTHOST_PASSWORD" } }\n'
        )
    )
    passwords = [route.password for route in loaded.settings.routes.values() if isinstance(route, Routed)]
    assert passwords == ["from file", "from env"]
    assert "from" not in repr(loaded.settings)
    assert loaded.warnings == []


def test_a_secret_that_others_can_read_is_a_warning(write: Write, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o644)
    path = write(
        HEAD
        + '[routes]\n"a.example" = { to = "smtp:a.example", tls = "verify", user = "u", password = { file = "secret" } }\n'
        + '"b.example" = { to = "smtp:b.example", tls = "verify", user = "u", password = "inline" }\n'
    )
    path.chmod(0o644)
    assert warnings(path) == [
        f'6: routes."a.example".password: {secret} is open to every user of this machine: chmod o= {secret}',
        f'7: routes."b.example".password: every user of this machine can read {path}: chmod o= {path}',
    ]


@pytest.mark.parametrize(("content", "text"), [(b"", "is empty"), (b"\xff", "is not UTF-8")])
def test_a_secret_file_that_is_no_use_is_refused(write: Write, tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "secret").write_bytes(content)
    path = write(HEAD + '[routes]\nx = { to = "smtp:x", tls = "verify", user = "u", password = { file = "secret" } }\n')
    assert any(text in problem for problem in problems(path))


@pytest.mark.parametrize("name", ["", "a\\u0000b", "~no-such-user/secret"])
def test_a_secret_file_that_has_no_name_is_refused(write: Write, name: str) -> None:
    route = f'x = {{ to = "smtp:x", tls = "verify", user = "u", password = {{ file = "{name}" }} }}'
    (problem,) = problems(write(f"{HEAD}[routes]\n{route}\n"))
    assert "path of a file" in problem or "a user who has none" in problem


def test_what_is_risky_or_odd_is_a_warning(write: Write) -> None:
    path = write("""hostname = "mail"
listen = [
  { service = "submission", address = "0.0.0.0:587" },
  { service = "metrics", address = "0.0.0.0:9100" },
  { service = "metrics", address = "8.8.8.8:9101" },
]
[relay]
networks = ["8.0.0.0/7"]
[routes]
"*" = { to = "smtp:[h]:587", user = "u", password = "p" }
[limits]
sessions = 5
recipients = 2000
[queue]
delay_notice = "5d"
""")
    assert [line.partition(": ")[2] for line in warnings(path)] == [
        'hostname: "mail" is no full name; other servers expect one that DNS knows',
        "local_domains: is empty: no mailbox is here, mail can only be relayed",
        'listen.service: submission without [tls] certificate and key, and plaintext_auth = "loopback": '
        "only clients on this machine can log in",
        "listen.address: everybody who reaches this address can read the metrics",
        "relay.networks: 8.0.0.0/7 is very wide: all of it may relay without a login",
        'routes."*".tls: "opportunistic": the password may cross the network in clear; use "verify"',
        "limits.sessions_per_ip: is more than sessions: one client can take all of them",
        "limits.recipients: is more than recipients_authenticated",
        "queue.delay_notice: is not before give_up: no delay notice would ever be sent",
    ]


def test_plain_logins_from_everywhere_are_a_warning(write: Write) -> None:
    assert any("in clear" in line for line in warnings(write(HEAD + '[tls]\nplaintext_auth = "always"\n')))


def test_nobody_behind_postmaster_is_a_warning(write: Write) -> None:
    without = HEAD.replace('postmaster = "alice@example.org"\n', "")
    assert any("postmaster: is not set" in line for line in warnings(write(without)))
    aliased = without + '[aliases]\n"Postmaster@example.org" = ["alice@example.org"]\n'
    assert warnings(write(aliased)) == []


@pytest.mark.parametrize(
    ("aliases", "circle"),
    [
        ({"a": ["b"], "b": ["a"]}, "a@example.org → b@example.org → a@example.org"),
        ({"A": ["b"], "b": ["c", "x"], "c": ["a"]}, "a@example.org → b@example.org → c@example.org → a@example.org"),
        ({"a": ["a", "b"], "b": ["x"]}, None),
        ({"a": ["b", "c"], "b": ["c"], "c": ["x"]}, None),
    ],
)
def test_a_circle_of_aliases_is_a_warning_told_once(
    write: Write, aliases: dict[str, list[str]], circle: str | None
) -> None:
    lines = [
        f'"{name}@example.org" = [{", ".join(f"{chr(34)}{t}@example.org{chr(34)}" for t in targets)}]'
        for name, targets in aliases.items()
    ]
    found = [line for line in warnings(write(HEAD + "[aliases]\n" + "\n".join(lines))) if "circle" in line]
    assert len(found) == (1 if circle else 0)
    if circle:
        assert circle in found[0]


def test_another_rooms_check_gets_its_line_and_hears_of_no_filler(write: Write) -> None:
    def check(settings: Settings) -> None:
        raise ConfigError(
            ['aliases."x@example.org": is odd', "hostname: is odd", "[plugins] enabled: is odd", "plugin x: raised"]
        )

    path = write('hostname = 5\n[aliases]\n"x@example.org" = ["y@example.org"]\n[plugins]\nenabled = []\n')
    with pytest.raises(ConfigError) as caught:
        load(path, [check])
    told = [problem.removeprefix(f"{path}:") for problem in caught.value.problems]
    assert '3: aliases."x@example.org": is odd' in told
    assert "5: plugins.enabled: is odd" in told
    assert "1: plugin x: raised" in told
    assert [line for line in told if "hostname" in line] == ["1: hostname: expected a string, got 5"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"x = 1\ny = \xff", "2: is not UTF-8, which TOML must be"),
        (b"x = 1\ny = = 2", "2: is not TOML: Invalid value (column 5)"),
        (b'"new\\nline" = 1\n', '1: "new\\nline": unknown setting'),
        (b"x = " + b"[" * 5000 + b"]" * 5000, " tables or arrays in it are nested too deep"),
        (b"x = " + b"9" * 5000, " a number in it has too many digits"),
    ],
)
def test_a_file_that_is_no_toml_is_refused_with_its_line(write: Write, content: bytes, told: str) -> None:
    path = write("")
    path.write_bytes(content)
    assert told in problems(path)


@pytest.mark.parametrize("line", ['data_dir = "~no-such-user/data"', 'data_dir = "file"'])
def test_a_data_dir_that_can_be_none_is_refused(write: Write, tmp_path: Path, line: str) -> None:
    (tmp_path / "file").write_text("")
    (problem,) = problems(write(f"{HEAD}{line}\n"))
    assert "data_dir: " in problem


def test_a_folder_of_plugins_that_is_not_there_is_a_warning(write: Write, tmp_path: Path) -> None:
    assert not [line for line in warnings(write(f'{HEAD}plugins.path = "."\n')) if "plugins.path" in line]
    (warning,) = [line for line in warnings(write(f'{HEAD}plugins.path = "no"\n')) if "plugins.path" in line]
    assert f"{tmp_path / 'no'} is no folder" in warning


def test_a_byte_order_mark_before_the_first_setting_is_no_mistake(write: Write) -> None:
    assert load(write(f"\ufeff{HEAD}")).settings.hostname == "mail.example.org"


def test_a_file_that_is_not_there_is_one_problem(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.toml") == [" cannot be read: No such file or directory"]


class GreylistSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    delay: Duration = Duration(300)
    room: Annotated[Size, msgspec.Meta(description="octets")] = Size(0)
    key: Secret = Secret("")
    file: Path = Path()


def test_relative_paths_of_a_plugin_start_from_the_folder_of_the_file_too(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    (tmp_path / "key").write_text("sesame")
    (tmp_path / "key").chmod(0o600)
    section = load(write(HEAD + '[plugin.greylist]\nfile = "names"\nkey = { file = "key" }\n')).settings.plugin[
        "greylist"
    ]
    found = read_section(GreylistSettings, section, "greylist")
    assert (found.file, found.key) == (tmp_path / "names", "sesame")


def test_a_plugin_section_has_the_same_types_and_messages() -> None:
    section = read_section(GreylistSettings, {"delay": "1h", "room": "1KiB", "key": "k"}, "greylist")
    assert (section.delay, section.room, section.key) == (3600, 1024, "k")
    with pytest.raises(ConfigError) as caught:
        read_section(GreylistSettings, {"dely": "1h", "room": "big"}, "greylist")
    assert [text.partition(":")[0] for text in caught.value.problems] == [
        "plugin.greylist.dely",
        "plugin.greylist.room",
    ]
    assert 'did you mean "delay"?' in caught.value.problems[0]


class TLSFiles:
    """A certificate for mail.example.org and its key, in files."""

    def __init__(self, folder: Path, name: str = "mail.example.org", expires: datetime | None = None) -> None:
        issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert(name, not_after=expires)
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"
        self.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())


WITH_TLS = HEAD + '[tls]\ncertificate = "cert.pem"\nkey = "key.pem"\n'


def test_a_good_certificate_is_no_cause_for_a_word(write: Write, tmp_path: Path) -> None:
    TLSFiles(tmp_path)
    assert load(write(WITH_TLS)).warnings == []


def test_a_certificate_for_another_name_is_a_warning(write: Write, tmp_path: Path) -> None:
    TLSFiles(tmp_path, "www.example.org")
    assert warnings(write(WITH_TLS)) == [
        f"6: tls.certificate: {tmp_path}/cert.pem is for www.example.org, not for mail.example.org"
    ]


def test_a_wildcard_certificate_covers_the_hostname(write: Write, tmp_path: Path) -> None:
    TLSFiles(tmp_path, "*.example.org")
    assert warnings(write(WITH_TLS)) == []


def test_an_expired_certificate_is_a_warning(write: Write, tmp_path: Path) -> None:
    TLSFiles(tmp_path, expires=datetime.now(UTC) - timedelta(days=2))
    assert ["ran out on" in line for line in warnings(write(WITH_TLS))] == [True]


def test_the_key_of_another_certificate_is_refused(write: Write, tmp_path: Path) -> None:
    TLSFiles(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "key.pem").write_bytes(TLSFiles(other).key.read_bytes())
    assert problems(write(WITH_TLS)) == [f"7: tls.key: {tmp_path}/key.pem is not the key of {tmp_path}/cert.pem"]


def test_a_key_with_a_passphrase_is_refused_without_asking_the_terminal(write: Write, tmp_path: Path) -> None:
    files = TLSFiles(tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    assert problems(write(WITH_TLS)) == [
        f"7: tls.key: {tmp_path}/key.pem holds no private key without a passphrase in PEM form"
    ]


def test_a_file_that_is_no_certificate_is_refused(write: Write, tmp_path: Path) -> None:
    TLSFiles(tmp_path).certificate.write_text("hello")
    assert problems(write(WITH_TLS)) == [f"6: tls.certificate: {tmp_path}/cert.pem holds no PEM certificate"]


def test_a_command_that_needs_no_tls_works_without_the_certificate(write: Write) -> None:
    assert load(write(WITH_TLS), check_files=False).settings.tls.certificate is not None


@pytest.mark.parametrize(
    ("text", "address"),
    [("0.0.0.0:25", ("0.0.0.0", 25)), ("[::]:25", ("::", 25)), ("localhost:0", ("127.0.0.1", 0))],
)
def test_a_listen_address_is_read(text: str, address: tuple[str, int]) -> None:
    assert parse_listen_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":25",
        "25",
        "[::1",
        "[::1]25",
        "1:2:3",
        "0.0.0.0:",
        "0.0.0.0:-1",
        "0.0.0.0:٢٥",
        "[x]:1",
        "[::ffff:192.0.2.1]:25",
    ],
)
def test_what_is_no_listen_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_listen_address(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]:1", ("::1", 1)),
    ],
)
def test_a_name_server_is_read(text: str, address: tuple[str, int]) -> None:
    assert parse_nameserver(text) == address


def test_a_reload_knows_what_it_can_change_and_what_it_cannot(write: Write) -> None:
    old = load(write(HEAD + '[queue]\nworkers = 5\n[aliases]\n"a@example.org" = ["b@example.org"]\n')).settings
    new = load(
        write(
            HEAD.replace("0.0.0.0:25", "0.0.0.0:26")
            + '[limits]\nrecipients = 200\n[queue]\nworkers = 6\ngive_up = "1d"\n'
            + '[aliases]\n"c@example.org" = ["b@example.org"]\n'
        )
    ).settings
    changes = diff(old, new)
    assert changes.reloadable == (
        'aliases."a@example.org"',
        'aliases."c@example.org"',
        "limits.recipients",
        "queue.give_up",
    )
    assert changes.restart == ("listen", "queue.workers")
    assert diff(old, old).reloadable == diff(old, old).restart == ()


@pytest.mark.parametrize(("address", "count"), [("192.168.0.1:24", 0), ("127.0.0.1:24", 0), ("8.8.8.8:24", 1)])
def test_lmtp_that_everybody_reaches_is_warned_of(write: Write, address: str, count: int) -> None:
    lmtp = HEAD.replace('listen = [{ service = "smtp", address = "0.0.0.0:25" }]', "")
    found = warnings(write(lmtp + f'[[listen]]\nservice = "lmtp"\naddress = "{address}"\n'))
    assert len([text for text in found if "past the rules of port 25" in text]) == count
