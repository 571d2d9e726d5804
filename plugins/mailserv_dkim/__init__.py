"""DKIM signatures on what users send out, so that others can tell that it is ours (RFC 6376, RFC 8463)."""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import getaddresses
from pathlib import Path
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import parse_domain
from mailserv.mail.delivery import Delivery
from mailserv.mail.domain_table import DomainTable
from mailserv.mail.ip import is_within
from mailserv.mail.message import Content, PrefixedContent, field_name, header_fields, header_section
from mailserv.mail.plugin import Services, reading
from mailserv.mail.values import Network
from mailserv_dkim.canonical import body_hash
from mailserv_dkim.signing import Key, read_key, signature

MAX_FROM = 8192  # octets: more is no list of authors, and takes long to read


class KeySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    domain: Annotated[
        str, msgspec.Meta(description="signs for it, and for every name below it that has no key of its own")
    ]
    selector: Annotated[str, msgspec.Meta(description="what tells this key of the domain from its others in DNS")]
    file: Annotated[Path, msgspec.Meta(description="the private key, in PEM: RSA or Ed25519")]


class DkimSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: Annotated[
        tuple[KeySettings, ...], msgspec.Meta(description="two of a domain make two signatures", min_length=1)
    ]
    networks: Annotated[
        tuple[Network, ...], msgspec.Meta(description="what came from there without a login is signed, too")
    ] = ()


class Plugin:
    Settings = DkimSettings

    def __init__(self, settings: DkimSettings, services: Services) -> None:
        keys: dict[str, list[Key]] = {}
        for each in settings.keys:
            with reading(services, "keys"):
                domain, selector = _domain(each.domain), _domain(each.selector)
                key = read_key(domain, selector, each.file)
                if any(key.name == other.name for other in keys.get(domain, ())):
                    raise ValueError(f"two keys at {key.name}")
                keys.setdefault(domain, []).append(key)
        self._keys = DomainTable({**keys, **{f".{domain}": each for domain, each in keys.items()}})
        self._all = [key for each in keys.values() for key in each]
        self._networks = settings.networks
        self._now, self._log = services.now, services.log

    @hookimpl
    def startup(self) -> None:
        """What has to stand in DNS."""
        for key in self._all:
            self._log.info("dkim_record", name=key.name, record=key.record)

    @hookimpl
    def delivery_rewrite(self, delivery: Delivery, content: Content) -> PrefixedContent | None:
        """Only what a user of ours sent, or who counts as one: a stranger's mail that is forwarded may say that it is from
        us. Binary content has no lines (RFC 3030 §3), and is not signed."""
        if not self._is_ours(delivery) or delivery.parameters.get("BODY", "").upper() == "BINARYMIME":
            return None
        section = header_section(content)
        fields = header_fields(section)
        keys = self._keys.find(author_domain(fields))
        if not keys:
            return None
        body, now = body_hash(_body(content, len(section))), self._now()
        return PrefixedContent(b"".join([signature(key, fields, body, now) for key in keys]), content)

    def _is_ours(self, delivery: Delivery) -> bool:
        return bool(delivery.login) or (delivery.peer_ip != "" and is_within(delivery.peer_ip, self._networks))


def _domain(text: str) -> str:
    try:
        return parse_domain(text)
    except ValueError as error:
        raise ValueError(f'"{text}": {error}') from error


def author_domain(fields: list[bytes]) -> str:
    """Of the one From field (RFC 5322 §3.6.2), of all its authors; "" where they have not one domain, or there is no From,
    or more than one, or one beyond measure, or a line that is no field."""
    authors = [field for field in fields if field_name(field) == b"from"]
    if len(authors) != 1 or not all(b":" in field for field in fields) or len(authors[0]) > MAX_FROM:
        return ""
    value = authors[0].partition(b":")[2].replace(b"\r\n", b"").decode("utf-8", "replace")
    try:
        domains = {parse_domain(address.rpartition("@")[2].strip()) for _, address in getaddresses([value])}
    except ValueError:
        return ""
    return domains.pop() if len(domains) == 1 else ""


def _body(content: Content, section: int) -> Iterator[bytes]:
    """What stands behind the empty line, `section` octets being the header section."""
    skip = section + 2
    for block in content.blocks():
        if skip < len(block):
            yield block[skip:]
        skip = max(skip - len(block), 0)
