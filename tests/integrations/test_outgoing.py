"""Sending to somebody else's address: how far it goes, and what is said when it fails."""

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from integrations import addresses_out, outgoing
from integrations.addresses_out import check
from integrations.errors import BadAnswer, InvalidRequest, TimedOut, Unreachable, UpstreamError
from integrations.outgoing import BOUNDS, Bounds, post
from tests.receiver import Receiver, receiving

SHORT = Bounds(read=0.3, total=20.0)


@pytest.fixture
def receiver(settings):
    with receiving() as found:
        settings.OUTGOING_ALSO_TO = [found.origin]
        yield found


def failure(receiver: Receiver) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        post(check(receiver.url), body=b"{}", headers={}, bounds=SHORT if receiver.behaves == "silent" else BOUNDS)
    return caught.value


@pytest.mark.requirement("SSRF-7")
def test_it_goes_straight_to_the_address_whatever_proxy_is_set(receiver, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    reply = post(check(receiver.url), body=b'{"a":1}', headers={"Content-Type": "application/json"})

    assert (reply.status, reply.body) == (200, b"thanks")
    [delivery] = receiver.deliveries
    assert (delivery.path, delivery.body) == ("/hooks/in?token=1", b'{"a":1}')
    assert delivery.headers["host"] == receiver.origin.removeprefix("http://")


@pytest.mark.requirement("SSRF-3")
def test_a_redirect_is_answered_and_not_followed(receiver):
    receiver.answers(307, Location=f"{receiver.origin}/elsewhere")

    assert post(check(receiver.url), body=b"{}", headers={}).status == 307
    assert len(receiver.deliveries) == 1


@pytest.mark.requirement("SSRF-10")
def test_a_reply_is_read_only_as_far_as_anybody_will_look(receiver):
    receiver.answers(200, b"x" * 5_000_000)

    assert len(post(check(receiver.url), body=b"{}", headers={}).body) == outgoing.BOUNDS.most_bytes


def test_a_reply_that_stops_after_its_head_was_given_all_the_same(receiver):
    receiver.behaves = b"HTTP/1.1 202 Fine\r\nContent-Length: 50\r\n\r\nhalf of"

    reply = post(check(receiver.url), body=b"{}", headers={})

    assert (reply.status, reply.body) == (202, b"half of")


def test_whatever_goes_wrong_after_sending_leaves_doubt_and_is_tried_once(receiver):
    for behaves, kind in {"silent": TimedOut, b"garbage\r\n\r\n": BadAnswer, b"": UpstreamError}.items():
        receiver.behaves = behaves
        error = failure(receiver)
        assert isinstance(error, kind)
        assert (error.sent, error.may_have_acted, error.retryable) == (True, True, False)
    assert receiver.connections == len(receiver.deliveries) == 3


def test_whoever_waits_no_more_ends_it(receiver):
    receiver.behaves = "silent"

    def look() -> None:
        if receiver.deliveries:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        post(check(receiver.url), body=b"{}", headers={}, on_wait=look)


def test_a_connection_that_fails_is_tried_twice_for_nothing_has_left(settings, monkeypatch):
    with receiving() as gone:
        settings.OUTGOING_ALSO_TO = [gone.origin]
        destination = check(gone.url)
    looked = []
    monkeypatch.setattr(outgoing, "resolve", lambda given: looked.append(given) or addresses_out.resolve(given))

    with pytest.raises(Unreachable, match="refused the connection") as caught:
        post(destination, body=b"{}", headers={})

    assert (caught.value.sent, caught.value.may_have_acted, len(looked)) == (False, False, 2)


@pytest.mark.requirement("SSRF-4")
@pytest.mark.requirement("SSRF-5")
def test_a_name_is_judged_by_what_it_stands_for_when_we_connect(monkeypatch):
    numbers = iter(["8.8.8.8", "127.0.0.1", "127.0.0.1"])
    monkeypatch.setattr(
        addresses_out.socket, "getaddrinfo", lambda *args, **more: [(2, 1, 6, "", (next(numbers), 443))]
    )
    destination = check("https://hooks.example.com/")
    assert addresses_out.resolve(destination) == ["8.8.8.8"]

    with pytest.raises(InvalidRequest, match="not of the public internet") as caught:
        post(destination, body=b"{}", headers={})
    assert caught.value.sent is False


# --- over TLS ---------------------------------------------------------------------------


def certificate(folder: Path, name: str) -> ssl.SSLContext:
    """A context for a server that says it is `name`, signed by itself; the certificate is in `folder`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (folder / "key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    (folder / "certificate").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate", folder / "key")
    return context


def test_a_certificate_counts_for_the_name_and_not_for_the_number(tmp_path, settings, monkeypatch):
    trusting = ssl.create_default_context()
    with receiving(certificate(tmp_path, "hooks.example.com")) as receiver:
        trusting.load_verify_locations(tmp_path / "certificate")
        port = receiver.server.server_port
        settings.OUTGOING_ALSO_TO = [f"https://{name}.example.com:{port}" for name in ("hooks", "other")]
        monkeypatch.setattr(
            addresses_out.socket, "getaddrinfo", lambda *args, **more: [(2, 1, 6, "", ("127.0.0.1", port))]
        )
        destination = check(f"https://hooks.example.com:{port}/x")

        with pytest.raises(Unreachable, match="certificate") as untrusted:
            post(destination, body=b"{}", headers={})
        monkeypatch.setattr(outgoing, "_tls", lambda: trusting)
        assert post(destination, body=b"{}", headers={}).status == 200
        with pytest.raises(Unreachable, match="certificate"):
            post(check(f"https://other.example.com:{port}/x"), body=b"{}", headers={})

        assert untrusted.value.sent is False
        assert [delivery.headers["host"] for delivery in receiver.deliveries] == [f"hooks.example.com:{port}"]
