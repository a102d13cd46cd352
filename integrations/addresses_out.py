"""
Which addresses of others we connect to: public ones, over TLS, by a name that means one thing.

An address is read once, here, and used as it was read. What its name stands for is looked up when
we connect, and the connection goes to the very number that was found to be public: a name that
answers differently a moment later gains nothing.
"""

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from django.conf import settings

LONGEST = 2_000
# Every character that may stand in one, each in its place: no user, no backslash, no fragment, no space.
WHOLE = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>\[[0-9a-f:.]{2,45}\]|[a-z0-9.-]{1,253})"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<target>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
    r"(?P<query>\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?",
    re.ASCII,
)
SCHEME_AND_HOST = re.compile(r"[A-Za-z]+://[^/?#]*")
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
# Programs read a last part like this as a number, each in its own way: 0x7f.1 is this machine.
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
INSIDE = ("localhost", "local", "localdomain", "internal", "intranet", "lan", "home", "corp", "arpa", "onion")
PORTS = {"https": 443, "http": 80}

# Beside what Python calls global: what leads back inside, or belongs to a cloud and not to the internet.
NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "100.64.0.0/10",  # shared by carriers, and where one cloud keeps its metadata
            "168.63.129.16/32",  # a cloud's own service, on a public number
            "192.0.0.0/24",
            "192.88.99.0/24",  # relays from IPv4 to IPv6
            "198.18.0.0/15",
            "2001::/23",  # tunnels that carry an IPv4 address, among others
            "2001:db8::/32",
            "2002::/16",
            "3fff::/20",
            "5f00::/16",
        ),
    )
)
GLOBAL_IPV6 = ip_network("2000::/3")


class BadAddress(Exception):
    """We do not connect to this address; the message says why, and what to do. It repeats nothing of a path."""


@dataclass(frozen=True, slots=True)
class Destination:
    """An address that was read. `may_be_inside`: whoever runs the installation named it, so nothing is asked of it."""

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)  # it may hold a secret of its own
    may_be_inside: bool = False

    @property
    def origin(self) -> str:
        """Scheme, host and port, as people write them. No path: it may hold a secret of its own."""
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{port}"

    @property
    def url(self) -> str:
        """The whole address, as it is used."""
        return f"{self.origin}{self.target}"


def check(url: str) -> Destination:
    """
    Read an address that somebody gave. Raises BadAddress.

    No name is looked up: that is done, and judged, at every connection.
    """
    found = _read(url)
    if found.origin in settings.OUTGOING_ALSO_TO:
        return Destination(found.scheme, found.host, found.port, found.target, may_be_inside=True)
    if found.scheme != "https":
        raise BadAddress("Use an address that begins with https://. What is sent elsewhere, anybody on the way reads.")
    if found.port not in settings.OUTGOING_PORTS:
        ports = ", ".join(map(str, settings.OUTGOING_PORTS))
        raise BadAddress(f"Use a port that is open here: {ports}. Whoever runs this installation can open others.")
    _check_host(found.host)
    return found


def _read(url: str) -> Destination:
    if len(url) > LONGEST:
        raise BadAddress(f"An address has at most {LONGEST:,} characters.")
    start = SCHEME_AND_HOST.match(url)  # in these, capitals mean nothing
    plain = start[0].lower() + url[start.end() :] if start else url
    parts = WHOLE.fullmatch(plain)
    if parts is None:
        raise BadAddress(
            "Write the address like https://hooks.example.com/path: no name or password before the host, no # part, "
            "no spaces, and other alphabets in their xn-- form."
        )
    scheme, port = parts["scheme"], int(parts["port"] or PORTS[parts["scheme"]])
    if port > 65535:
        raise BadAddress("There is no such port. Leave it out, or use 443.")
    target = f"{parts['target'] or '/'}{parts['query'] or ''}"
    return Destination(scheme, parts["host"].strip("[]"), port, target)


def _check_host(host: str) -> None:
    labels = host.split(".")
    if ":" in host or NUMBER.fullmatch(labels[-1]):
        _check_number(host)
        return
    if not all(LABEL.fullmatch(label) for label in labels):
        raise BadAddress("This is no name of a host: letters, digits, hyphens and dots between them.")
    if len(labels) < 2 or labels[-1] in INSIDE:
        raise BadAddress("This name is of use inside a network only. Use one that the whole internet knows.")


def _check_number(host: str) -> None:
    try:
        address = ip_address(host)
    except ValueError:
        raise BadAddress("Write a number of a host in full, such as 203.0.113.7, or use its name.") from None
    if not is_public(address):
        raise BadAddress("This number is not of the public internet, so we do not connect to it.")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the public internet, as far as anybody can say; if in doubt, it does not."""
    if isinstance(address, IPv6Address) and (address not in GLOBAL_IPV6 or address.scope_id):
        return False
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address in network for network in NOT_PUBLIC)


def resolve(destination: Destination) -> list[str]:
    """
    Return the numbers that a destination stands for now, all of them public.

    Raises BadAddress when any is not: who mixes them has something in mind. Raises OSError when there are none.
    """
    kinds = socket.getaddrinfo(destination.host, destination.port, type=socket.SOCK_STREAM)
    found = list(dict.fromkeys(str(place[0]) for *_, place in kinds))
    if not destination.may_be_inside and not all(map(is_public, _addresses(found))):
        raise BadAddress(f"{destination.host} leads to an address that is not of the public internet.")
    return found


def _addresses(numbers: list[str]) -> Iterator[IPv4Address | IPv6Address]:
    return map(ip_address, numbers)
