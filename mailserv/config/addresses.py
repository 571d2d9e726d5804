"""The address of a `[[listen]]` block, and of a name server."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address


def parse_listen_address(text: str) -> tuple[str, int]:
    """Read "host:port" or "[v6]:port"; host is an IP address, or localhost. Raises ValueError, which says what to write."""
    host, port = _split(text)
    if port is None:
        raise ValueError('no port; write "host:port", for example "0.0.0.0:25" or "[::]:25"')
    if host in ("", "*"):
        raise ValueError(f'which address? "0.0.0.0:{port}" is every IPv4 one, "[::]:{port}" every IPv6 one')
    if host == "localhost":
        return "127.0.0.1", port
    ip = ip_address(_ip(host))
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
        raise ValueError(f'an IPv4 address in the clothes of IPv6; write "{ip.ipv4_mapped}:{port}"')
    return str(ip), port


def collide(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether one of two listen addresses keeps the other from being bound: a wildcard is every address of its family."""
    ips = {ip_address(one[0]), ip_address(other[0])}
    is_same_port = one[1] == other[1] != 0
    is_same_family = len({ip.version for ip in ips}) == 1
    return is_same_port and is_same_family and (len(ips) == 1 or any(ip.is_unspecified for ip in ips))


def parse_nameserver(text: str) -> tuple[str, int]:
    """Read "ip", "ip:port" or "[v6]:port"; the port is 53 without one. Raises ValueError."""
    host, port = _split(text)
    return _ip(host), 53 if port is None else port


def _split(text: str) -> tuple[str, int | None]:
    """Host and port. A bare IPv6 address has no port."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError('an IPv6 address with a port is written "[v6]:port"')
        return host, _port(rest[1:]) if rest else None
    if text.count(":") > 1:
        try:
            ip_address(text)
        except ValueError:
            raise ValueError('an IPv6 address with a port is written "[v6]:port"') from None
        return text, None
    host, colon, port = text.partition(":")
    return host, _port(port) if colon else None


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 5 or int(text) > 65535:
        raise ValueError(f'"{text[:20]}" is no port: 0 to 65535')
    return int(text)


def _ip(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        raise ValueError(f'"{host}" is no IP address') from None
