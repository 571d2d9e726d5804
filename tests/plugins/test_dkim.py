"""mailserv_dkim: whose mail is signed, over what, and that others find the signatures good."""

from __future__ import annotations

import itertools
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from delivering import Blocks, make_delivery
from dkim.canonicalization import Relaxed
from hypothesis import given
from hypothesis import strategies as st
from policing import make_plugins

from mailserv.errors import ConfigError
from mailserv.mail.message import BytesContent, Content, field_name, header_fields
from mailserv.mail.value import replace
from mailserv.testing.server import mail_server
from mailserv.testing.sink import ScriptedMX
from mailserv_dkim import author_domain
from mailserv_dkim.canonical import body_hash, relaxed_field
from mailserv_dkim.signing import signed_data

ALICE = "alice@example.org"
LOGIN = (ALICE, "secret")
MESSAGE = (
    b"From: Alice <alice@example.org>\r\nTo: Bob\r\n <bob@far.example>\r\nSubject:  two   words \r\n"
    b"Received: a\r\nReceived: b\r\n\r\nHello.  \r\n\tto you\r\n\r\n\r\n"
)
SHORT = """-----BEGIN PRIVATE KEY-----
MIIBVAIBADANBgkqhkiG9w0BAQEFAASCAT4wggE6AgEAAkEAvVhdaiflmvuo94EF
bMZWSTcrBunhCne6JztKcQrKogXzf1Tg9tF/RTOoaa8lr5oTBnXN3z8RT6vqkEjL
vXODRwIDAQABAkBb50IgPpFBspkG2UcKzxIeo3ps9qRWclqWpD6zs6s7DJVTH12v
sIl27KablHAITACZr7yz0EWCyajJkmsm08IBAiEA9pzTlKUk7MLQABG2ugQjyauz
jr7JoNerD5NzQEV2PMcCIQDEjXuT4zVb9z3/azZX5gR3sjgo2qkYbv8au3XZz9kF
gQIhAPCN41jwigcktG4M2VezqBEVGk4YTmdFWEgWRWqhFweLAiAYecnWu6dsYVhu
Ewq8XV9XDHFj3P7LlR7dVFSzn+dVgQIgLubMAZNniF7vnYpjjXNPL2DAfHgXG0Zr
NhjznFxDq4U=
-----END PRIVATE KEY-----
"""  # 512 bits
LONG_AGO = "1528637909"  # RFC 8463, appendix A.3
SIX_PACK = (
    b"From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\n"
    b"Subject: Is dinner ready?\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
    b"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\n"
    b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
)


def write(path: Path, key: Any, encryption: KeySerializationEncryption | None = None) -> str:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    return str(path)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files by what they are."""
    folder = tmp_path_factory.mktemp("dkim")
    (folder / "short").write_text(SHORT)
    return {
        "rsa": write(folder / "rsa", generate_rsa(65537, 2048)),
        "ed25519": write(folder / "ed25519", Ed25519PrivateKey.generate()),
        "short": str(folder / "short"),
        "elliptic": write(folder / "elliptic", generate_private_key(SECP256R1())),
        "locked": write(folder / "locked", Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")),
        "missing": str(folder / "missing"),
        "folder": str(folder),
    }


def key(keys: Mapping[str, str], kind: str = "rsa", domain: str = "example.org") -> dict[str, str]:
    return {"domain": domain, "selector": f"{kind}1", "file": keys[kind]}


def sent(
    settings: Mapping[str, Any], message: bytes | Content, login: str = ALICE, peer_ip: str = "", **more: Any
) -> bytes:
    """What a next hop would get."""
    content = BytesContent(message) if isinstance(message, bytes) else message
    delivery = replace(make_delivery("smtp:far.example", **more), login=login, peer_ip=peer_ip)
    answer = make_plugins("dkim", settings).runner.transform("delivery_rewrite", delivery=delivery, content=content)
    return b"".join(answer.blocks())


def records(settings: Mapping[str, Any]) -> dict[str, str]:
    """TXT records by name, as the log tells them."""
    with mail_server(plugins=["dkim"], plugin={"dkim": settings}) as server:
        lines = server.wait_for_log("dkim_record", len(settings["keys"]))
    return {line["name"]: line["record"] for line in lines}


def is_good(message: bytes, found: Mapping[str, str], number: int = 0) -> bool:
    """What dkimpy says of a signature."""
    return dkim.DKIM(message).verify(number, dnsfunc=lambda name, timeout=5: found[name.decode().rstrip(".")].encode())


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
@pytest.mark.parametrize(
    "message",
    [
        MESSAGE,
        MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n",
        MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n",
        b"From: alice@mail.example.org\r\nfrOM-not: x\r\nX: \r\n\r\n\r\n \t\r\n\r\n",
        b"From: =?utf-8?q?=C3=A9?= <alice@example.org>\r\nSubject: \xc3\xa9\r\nList-Id: x\r\n\r\n\xff\xc3\xa9\r\n",
        MESSAGE + b"0123456789\r\n" * 50_000,
    ],
    ids=["usual", "empty body", "no body", "spaces only", "eight bits", "large"],
)
def test_others_find_the_signature_good(keys: dict[str, str], kind: str, message: bytes) -> None:
    settings = {"keys": [key(keys, kind)]}
    signed = sent(settings, message)
    assert signed.endswith(message)
    assert signed.startswith(b"DKIM-Signature: v=1; a=%s-sha256; c=relaxed/relaxed; d=example.org;" % kind.encode())
    assert all(len(line) < 80 for line in signed[: -len(message)].split(b"\r\n"))
    assert is_good(signed, records(settings))
    assert not is_good(signed.replace(b"alice@", b"mallory@", 1), records(settings))


@pytest.mark.parametrize(
    "added", [b"From: x@example.org", b"Reply-To: x@example.org", b"Subject: x", b"Cc: x@example.org", b"To: x"]
)
def test_nobody_can_add_a_field_that_readers_look_at(keys: dict[str, str], added: bytes) -> None:
    settings = {"keys": [key(keys)]}
    assert not is_good(added + b"\r\n" + sent(settings, MESSAGE), records(settings))


def test_others_may_add_what_is_added_on_the_way(keys: dict[str, str]) -> None:
    settings = {"keys": [key(keys)]}
    assert is_good(b"Received: by far.example\r\nX-Seen: yes\r\n" + sent(settings, MESSAGE), records(settings))


def test_two_keys_of_a_domain_make_two_signatures(keys: dict[str, str]) -> None:
    settings = {"keys": [key(keys), key(keys, "ed25519"), key(keys, domain="example.net")]}
    signed, found = sent(settings, MESSAGE), records(settings)
    assert signed.count(b"DKIM-Signature:") == 2
    assert all(is_good(signed, found, number) for number in range(2))


@pytest.mark.parametrize(
    ("author", "domain"),
    [
        ("alice@example.org", "example.org"),
        ("alice@Mail.EXAMPLE.org", "example.org"),
        ("alice@own.example.org", "own.example.org"),
        ("alice@x.own.example.org", "own.example.org"),
        ("alice@notexample.org", ""),
        ("alice@example.net", ""),
        ("alice", ""),
        ("", ""),
    ],
)
def test_the_domain_of_the_author_signs_or_the_nearest_above_it(keys: dict[str, str], author: str, domain: str) -> None:
    settings = {"keys": [key(keys, "ed25519"), key(keys, "ed25519", "own.example.org")]}
    signed = sent(settings, f"From: {author}\r\n\r\nx\r\n".encode())
    assert (b"; d=%s;" % domain.encode() in signed) if domain else signed.startswith(b"From")


@pytest.mark.parametrize(
    ("fields", "domain"),
    [
        (b"From: a@example.org\r\nFrom: b@example.org\r\n", ""),
        (b"From: a@example.org, Bob <b@Example.org>\r\n", "example.org"),
        (b"From: a@example.org, b@example.net\r\n", ""),
        (b'From: "x@example.net, y" <a@example.org>\r\n', "example.org"),
        (b"From: a@\xc3\xa9.example\r\n", "xn--9ca.example"),
        (b"From: a@example.org\r\nno field\r\n", ""),
        (b"To: a@example.org\r\n", ""),
        (b"From: " + b"a@example.org," * 500 + b"a@example.org\r\n", "example.org"),
        (b"From: " + b"a@example.org," * 5000 + b"a@example.org\r\n", ""),
        (b"", ""),
    ],
)
def test_the_authors_domain_is_known_only_where_nobody_can_doubt_it(fields: bytes, domain: str) -> None:
    assert author_domain(header_fields(fields)) == domain


@pytest.mark.parametrize(
    ("login", "peer_ip", "is_signed"),
    [
        (ALICE, "192.0.2.1", True),
        ("", "192.0.2.1", False),
        ("", "10.1.2.3", True),
        ("", "::ffff:10.1.2.3", True),
        ("", "", False),
    ],
)
def test_only_what_came_from_our_own_is_signed(keys: dict[str, str], login: str, peer_ip: str, is_signed: bool) -> None:
    settings = {"keys": [key(keys, "ed25519")], "networks": ["10.0.0.0/8"]}
    assert sent(settings, MESSAGE, login, peer_ip).startswith(b"DKIM-Signature:") == is_signed


def test_binary_content_is_not_signed(keys: dict[str, str]) -> None:
    settings = {"keys": [key(keys, "ed25519")]}
    assert sent(settings, MESSAGE, parameters={"BODY": "BinaryMIME"}) == MESSAGE


def test_hook_delivery_rewrite_signs_what_leaves_and_nothing_that_stays(keys: dict[str, str]) -> None:
    with (
        ScriptedMX() as mx,
        mail_server(
            plugins=["dkim"],
            plugin={"dkim": {"keys": [key(keys)]}},
            routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"},
        ) as server,
    ):
        large = MESSAGE + b"0123456789\r\n" * 50_000  # more than what is kept in memory
        server.send(ALICE, [ALICE, "bob@far.example"], large, login=LOGIN)
        server.wait_for_empty_queue()
        [line] = server.wait_for_log("dkim_record")
        [stored] = server.wait_for_mail(ALICE)
    [taken] = mx.messages
    assert b"DKIM-Signature" not in stored
    assert is_good(taken.content, {line["name"]: line["record"]})


def test_hook_startup_tells_what_has_to_stand_in_dns(keys: dict[str, str]) -> None:
    found = records({"keys": [key(keys), key(keys, "ed25519", "Example.NET")]})
    assert found["rsa1._domainkey.example.org"].startswith("v=DKIM1; k=rsa; p=MIIBIj")
    told = found["ed255191._domainkey.example.net"]
    assert told.startswith("v=DKIM1; k=ed25519; p=")
    assert len(b64decode(told.partition("p=")[2])) == 32


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("short", "512 bits are too few"),
        ("elliptic", "neither an RSA key nor an Ed25519 key"),
        ("locked", "no private key in PEM without a password"),
        ("missing", "No such file or directory"),
        ("folder", "Is a directory"),
    ],
)
def test_a_key_that_cannot_be_used_stops_the_start(keys: dict[str, str], kind: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_plugins("dkim", {"keys": [key(keys), key(keys, kind)]})
    (problem,) = raised.value.problems
    assert problem.startswith("plugin.dkim.keys: ")
    assert said in problem


@pytest.mark.parametrize(
    "wrong", [{"domain": "exa mple.org"}, {"selector": "a b"}, {"selector": ""}, {"domain": "Example.org"}]
)
def test_what_is_no_name_or_there_twice_stops_the_start(keys: dict[str, str], wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"plugin\.dkim\.keys: .*(exa mple\.org|a b|\"\"|example\.org)"):
        make_plugins("dkim", {"keys": [key(keys), {**key(keys), **wrong}]})


def test_what_is_signed_is_what_rfc_8463_has_in_its_example() -> None:
    unsigned = (
        f"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;"
        f"\r\n q=dns/txt; s=brisbane; t={LONG_AGO}; h=from : to :\r\n subject : date : message-id : from : subject : date;"
        f"\r\n bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b="
    ).encode()
    section, _, body = SIX_PACK.partition(b"\r\n\r\n")
    by_name = {field_name(field): [field] for field in header_fields(section + b"\r\n")}
    names = [b"from", b"to", b"subject", b"date", b"message-id", b"from", b"subject", b"date"]
    signed = b64decode("/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==")
    secret = Ed25519PrivateKey.from_private_bytes(b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="))
    assert b64encode(body_hash([body])) == b"2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
    assert secret.sign(sha256(signed_data(by_name, names, unsigned)).digest()) == signed


@given(
    st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r\n", b"\r\n\r\n", b".", b"\xc3\xa9"]), max_size=30),
    st.lists(st.integers(0, 40), max_size=4),
)
def test_a_body_in_any_pieces_is_the_one_that_others_see(parts: list[bytes], cuts: list[int]) -> None:
    body = b"".join((*parts, b"\r\n")) if parts else b""  # what was accepted ends in CRLF
    borders = [0, *sorted(cuts), len(body)]
    blocks = [body[start:end] for start, end in itertools.pairwise(borders)]
    assert body_hash(blocks) == sha256(Relaxed.canonicalize_body(body)).digest()


@given(st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r\n ", b"\r\n\t", b":", b"\xc3"]), max_size=20))
def test_a_field_is_the_one_that_others_see(parts: list[bytes]) -> None:
    value = b"".join(parts)
    [(name, seen)] = Relaxed.canonicalize_headers([(b"SubJect \t", value + b"\r\n")])
    assert relaxed_field(b"SubJect \t:" + value + b"\r\n") == name + b":" + seen


def test_content_in_blocks_of_any_size_is_signed_alike(keys: dict[str, str]) -> None:
    settings = {"keys": [key(keys, "ed25519")]}
    whole = sent(settings, MESSAGE)
    for size in (1, 7, 64):
        parts = tuple(MESSAGE[at : at + size] for at in range(0, len(MESSAGE), size))
        assert sent(settings, Blocks(parts, len(MESSAGE))) == whole
