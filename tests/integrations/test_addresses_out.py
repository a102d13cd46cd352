"""Where we connect to on somebody else's word, and where never."""

import socket

import pytest

from integrations import addresses_out
from integrations.addresses_out import BadAddress, check, resolve

# Ways to write an address that some program somewhere understands as one that is inside.
REFUSED = """
http://hooks.example.com/
ftp://hooks.example.com/
file:///etc/passwd
gopher://hooks.example.com/
//hooks.example.com/
hooks.example.com
https:hooks.example.com
https:///hooks.example.com
https://
https://hooks.example.com:80/
https://hooks.example.com:8443/
https://hooks.example.com:22/
https://hooks.example.com:0443/
https://hooks.example.com:0/
https://hooks.example.com:99999/
https://hooks.example.com:/
https://user@hooks.example.com/
https://user:word@hooks.example.com/
https://hooks.example.com@127.0.0.1/
https://127.0.0.1#@hooks.example.com/
https://hooks.example.com\\@127.0.0.1/
https://hooks.example.com\\.inside.example/
https://hooks.example.com/#part
https://hooks.example.com/a b
https://hooks.example.com/ü
https://hooks.exämple.com/
https://hooks。example。com/
https://①②⑦.⓪.⓪.①/
https://hooks%2eexample.com/
https://127.0.0.1%2f@hooks.example.com/
https://localhost/
https://LOCALHOST/
https://localhost./
https://a.localhost/
https://intranet/
https://printer.local/
https://metadata.google.internal/computeMetadata/v1/
https://hooks.example.com./
https://.example.com/
https://hooks..example.com/
https://-hooks.example.com/
https://hooks_in.example.com/
https://127.0.0.1/
https://127.1/
https://127.0.1/
https://2130706433/
https://0x7f000001/
https://0x7f.0.0.1/
https://0x7f.1/
https://0177.0.0.1/
https://017700000001/
https://127.0.0.01/
https://0/
https://0.0.0.0/
https://10.1.2.3/
https://172.16.0.1/
https://192.168.1.1/
https://169.254.169.254/latest/meta-data/
https://100.64.0.1/
https://100.100.100.200/
https://168.63.129.16/
https://192.0.0.192/
https://198.18.0.1/
https://224.0.0.1/
https://240.0.0.1/
https://255.255.255.255/
https://[::1]/
https://[::]/
https://[::ffff:127.0.0.1]/
https://[::ffff:a9fe:a9fe]/
https://[::ffff:8.8.8.8]/
https://[::127.0.0.1]/
https://[64:ff9b::a9fe:a9fe]/
https://[64:ff9b:1::a9fe:a9fe]/
https://[2002:7f00:1::]/
https://[2001:0:7f00:1::]/
https://[2001:db8::1]/
https://[fe80::1]/
https://[fe80::1%25eth0]/
https://[fc00::1]/
https://[fd00:ec2::254]/
https://[ff02::1]/
https://[::1/
https://::1/
https://[2606:4700::1111
""".strip().splitlines()

ALLOWED = {
    "https://hooks.example.com": "https://hooks.example.com/",
    "HTTPS://Hooks.Example.COM/Path?Q=1": "https://hooks.example.com/Path?Q=1",
    "https://hooks.example.com:443/a%20b": "https://hooks.example.com/a%20b",
    "https://xn--exmple-cua.com/": "https://xn--exmple-cua.com/",
    "https://hooks.example.com?x=https://127.0.0.1": "https://hooks.example.com/?x=https://127.0.0.1",
    "https://8.8.8.8/": "https://8.8.8.8/",
    "https://[2606:4700:4700::1111]/x": "https://[2606:4700:4700::1111]/x",
}


def refused(url: str) -> bool:
    try:
        check(url)
    except BadAddress as refusal:
        return "token" not in str(refusal)
    return False


@pytest.mark.requirement("SSRF-5")
def test_no_spelling_of_an_address_inside_is_taken():
    spellings = [*REFUSED, *(f"{text}{end}" for text in ALLOWED for end in ("\t", "\n", " ", "\0", "\r\nHost: x"))]

    assert len(REFUSED) > 60
    assert [url for url in spellings if not refused(url)] == []


@pytest.mark.requirement("SSRF-6")
def test_what_is_read_is_what_is_used():
    assert {url: check(url).url for url in ALLOWED} == ALLOWED


def test_only_what_the_installation_names_may_be_inside(settings):
    settings.OUTGOING_ALSO_TO = ["http://127.0.0.1:9000"]
    settings.OUTGOING_PORTS = [443, 8443]

    assert check("http://127.0.0.1:9000/x").may_be_inside
    assert check("https://hooks.example.com:8443/").port == 8443
    for near in ("http://127.0.0.1:9001/", "https://127.0.0.1:9000/", "http://127.0.0.1/", "http://127.1:9000/"):
        with pytest.raises(BadAddress):
            check(near)


def answers(monkeypatch: pytest.MonkeyPatch, *numbers: str) -> None:
    """Have every name stand for these numbers."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, 443)) for number in numbers]
    monkeypatch.setattr(addresses_out.socket, "getaddrinfo", lambda *args, **options: found)


@pytest.mark.requirement("SSRF-4")
@pytest.mark.parametrize("inside", ["127.0.0.1", "10.0.0.1", "::1", "fe80::1%2", "::ffff:10.0.0.1", "64:ff9b::7f00:1"])
def test_a_name_that_leads_inside_is_refused_also_beside_public_numbers(monkeypatch, inside):
    destination = check("https://hooks.example.com/")
    answers(monkeypatch, "8.8.8.8")
    assert resolve(destination) == ["8.8.8.8"]

    answers(monkeypatch, "8.8.8.8", inside)
    with pytest.raises(BadAddress):
        resolve(destination)
