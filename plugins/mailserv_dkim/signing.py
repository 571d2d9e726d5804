"""Keys, and the DKIM-Signature field made with one (RFC 6376 §3.5, §5; RFC 8463)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mailserv.mail.message import field_name
from mailserv_dkim.canonical import relaxed_field

LEAST_BITS = 1024  # of RSA: verifiers take no shorter keys (RFC 8301 §3.2)
# Signed also where they are not there, so that nobody can add one unseen (RFC 6376 §5.4, §8.15).
ALWAYS = (b"from", b"reply-to", b"subject", b"to", b"cc")
# Where they are there, and then one more than there are. Of those in RFC 6376 §5.4.1 not what others add on the way.
PRESENT = (
    b"sender date message-id in-reply-to references mime-version content-type content-transfer-encoding list-id list-help"
    b" list-unsubscribe list-unsubscribe-post list-subscribe list-post list-owner list-archive"
).split()
NAMES_A_LINE = 5  # of h=: its lines stay below 78 characters
LINE = 72  # characters of base64


@dataclass(frozen=True, slots=True)
class Key:
    """`sign(data)` gives the signature; `record` is the text of the TXT record at `name`. Any thread."""

    domain: str
    selector: str
    algorithm: str
    record: str
    sign: Callable[[bytes], bytes]

    @property
    def name(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"


def read_key(domain: str, selector: str, file: Path) -> Key:
    """A private key in PEM: RSA, or Ed25519. Raises ValueError, which says what is wrong."""
    try:
        private = load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it wants a password
        raise ValueError(f"{file}: no private key in PEM without a password") from error
    if isinstance(private, Ed25519PrivateKey):
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        # RFC 8463 §3: what is signed is the hash.
        return Key(
            domain,
            selector,
            "ed25519-sha256",
            _record("ed25519", public),
            lambda data: private.sign(sha256(data).digest()),
        )
    if not isinstance(private, RSAPrivateKey):
        raise ValueError(f"{file}: neither an RSA key nor an Ed25519 key")
    if private.key_size < LEAST_BITS:
        raise ValueError(f"{file}: {private.key_size} bits are too few, 2048 are usual")
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Key(
        domain, selector, "rsa-sha256", _record("rsa", public), lambda data: private.sign(data, PKCS1v15(), SHA256())
    )


def _record(kind: str, public: bytes) -> str:
    return f"v=DKIM1; k={kind}; p={b64encode(public).decode()}"


def signature(key: Key, fields: Iterable[bytes], body: bytes, now: float) -> bytes:
    """The whole field, CRLF at its end. `fields`: the message's, in their order; `body`: its `body_hash`."""
    by_name: dict[bytes, list[bytes]] = {}
    for field in fields:
        by_name.setdefault(field_name(field), []).append(field)
    names = [name for name in ALWAYS for _ in range(len(by_name.get(name, ())) + 1)]
    names += [name for name in PRESENT if name in by_name for _ in range(len(by_name[name]) + 1)]
    unsigned = (
        f"DKIM-Signature: v=1; a={key.algorithm}; c=relaxed/relaxed; d={key.domain};\r\n"
        f"\ts={key.selector}; t={int(now)};\r\n"
        f"\th={_folded_names(names)};\r\n"
        f"\tbh={b64encode(body).decode()};\r\n"
        "\tb="
    ).encode("ascii")
    signed = b64encode(key.sign(signed_data(by_name, names, unsigned))).decode()
    lines = [signed[at : at + LINE] for at in range(0, len(signed), LINE)]
    return unsigned + "\r\n\t ".join(lines).encode("ascii") + b"\r\n"


def signed_data(by_name: dict[bytes, list[bytes]], names: Iterable[bytes], unsigned: bytes) -> bytes:
    """RFC 6376 §3.7: the fields that `names` has, of equal ones the last one first (§5.4.2), then the signature's own
    without its signature and without a line end."""
    left = {name: fields.copy() for name, fields in by_name.items()}
    chosen = [left[name].pop() for name in names if left.get(name)]
    return b"".join(map(relaxed_field, chosen)) + relaxed_field(unsigned + b"\r\n").removesuffix(b"\r\n")


def _folded_names(names: Sequence[bytes]) -> str:
    text = [name.decode("ascii") for name in names]
    lines = [":".join(text[at : at + NAMES_A_LINE]) for at in range(0, len(text), NAMES_A_LINE)]
    return ":\r\n\t ".join(lines)
