"""The Authentication-Results field: ours on the way in, and none that somebody forged in our name (RFC 8601)."""

from __future__ import annotations

import re

from mailserv.mail.auth_result import AuthResult, AuthResults
from mailserv.mail.fields import printable

_TOKEN = re.compile(r"[!#$%&'*+.^_`{|}~A-Za-z0-9-]+")  # RFC 2045 §5.1
_ADDRESS = re.compile(r"[!#$%&'*+.^_`{|}~A-Za-z0-9-]*@[A-Za-z0-9.-]+")  # RFC 8601 §2.2: pvalue
_FIELD = re.compile(rb"^authentication-results[ \t]*+:", re.IGNORECASE | re.MULTILINE)
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_NAME = b"authentication-results"


def results_field(authserv_id: str, results: AuthResults) -> bytes:
    """The field, CRLF at its end; "none" without a result (RFC 8601 §2.2)."""
    found = ";\r\n\t".join(map(_result, results)) or "none"
    return f"Authentication-Results: {authserv_id};\r\n\t{found}\r\n".encode("ascii", "replace")


def _result(each: AuthResult) -> str:
    words = [f"{each.method}={each.result}"]
    if each.comment:
        words.append("({})".format(re.sub(r"[()\\]", "?", printable(each.comment, 200))))
    if each.reason:
        words.append(f"reason={_value(each.reason)}")
    words += [f"{name}={_value(value)}" for name, value in each.properties]
    return "\r\n\t ".join(words)


def _value(text: str) -> str:
    text = printable(text, 255)
    if _TOKEN.fullmatch(text) or _ADDRESS.fullmatch(text):
        return text
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def without_forged(section: bytes, authserv_id: str) -> bytes:
    """The header section without fields that claim to be ours: nobody outside can have written them (RFC 8601 §5)."""
    if _NAME not in section.lower():
        return section
    kept: list[bytes] = []
    start = looked = 0
    while found := _FIELD.search(section, looked):
        end = _FIELD_END.search(section, found.end())
        looked = end.end() if end else len(section)
        if _authserv_id(section[found.end() : looked]) == authserv_id.lower():
            kept.append(section[start : found.start()])
            start = looked
    kept.append(section[start:])
    return b"".join(kept)


def _authserv_id(value: bytes) -> str:
    """The first word of a field's value, behind white space and comments, in lower case; "" when it has none."""
    text = value.decode("latin-1")
    at = _after_comments(text)
    if text[at : at + 1] == '"':
        quoted = re.match(r'"((?:[^"\\]|\\.)*+)"', text[at:], re.DOTALL)
        return re.sub(r"\\(.)", r"\1", quoted.group(1)).strip().lower() if quoted else ""
    word = re.match(r"[^\s;(]*+", text[at:])
    return word.group().rstrip(".").lower() if word else ""


def _after_comments(text: str) -> int:
    """Where white space and comments, which may hold others, are over (RFC 5322 §3.2.2)."""
    at = depth = 0
    while at < len(text):
        char = text[at]
        if char == "(":
            depth += 1
        elif char == ")" and depth:
            depth -= 1
        elif char == "\\" and depth:
            at += 1
        elif not depth and not char.isspace():
            break
        at += 1
    return at
