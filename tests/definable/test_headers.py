"""What every answer carries, whoever made it."""

import re

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.signing import Signer, TimestampSigner
from django.http import HttpResponse, StreamingHttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import path, reverse

from definable.middleware import CSP, HEADERS, SecurityHeadersMiddleware
from tests.definable.test_static import sources
from tests.factories import make_team, make_user, owner_of

UNSAFE = ["post", "put", "patch", "delete"]


def broken(request):
    raise RuntimeError("the secret is swordfish")


def lax(request):
    """A view that tries to loosen the rules."""
    headers = {"Content-Security-Policy": "default-src *", "Cache-Control": "public, max-age=60", "Vary": "Accept"}
    return HttpResponse("<p>page</p>", headers=headers)


broken.login_required = lax.login_required = False
urlpatterns = [path("broken/", broken), path("lax/", lax)]
handler500 = "definable.errors.server_error"


@pytest.fixture
def signed_in(db, client) -> Client:
    client.force_login(owner_of(make_team()))
    return client


def missing(response) -> dict[str, str | None]:
    return {name: response.get(name) for name, value in HEADERS.items() if response.get(name) != value}


@pytest.mark.requirement("HDR-1")
@pytest.mark.django_db
@pytest.mark.parametrize("address", ["/account/login/", "/nowhere/", "/t/nobody/members/"])
def test_every_answer_carries_the_headers(client, address):
    assert missing(client.get(address)) == {}


@pytest.mark.requirement("HDR-1")
def test_an_error_carries_the_headers_and_says_nothing_technical():
    with override_settings(ROOT_URLCONF=__name__):
        response = Client(raise_request_exception=False).get("/broken/")
    assert response.status_code == 500
    assert missing(response) == {}
    assert "swordfish" not in response.content.decode()
    assert re.search(r"<code>[0-9a-f]{12}</code>", response.content.decode())


@pytest.mark.requirement("HDR-1")
def test_a_stream_carries_the_headers_and_is_not_read():
    def pieces():
        raise AssertionError("read before it was sent")
        yield b""

    answer = StreamingHttpResponse(pieces(), content_type="text/event-stream")
    response = SecurityHeadersMiddleware(lambda request: answer)(RequestFactory().get("/stream/t/x/chats/1/"))
    assert response is answer
    assert missing(response) == {}
    assert response["Cache-Control"] == "no-store"


@pytest.mark.requirement("HDR-1")
@override_settings(
    SECURE_HSTS_SECONDS=31536000,
    SECURE_HSTS_INCLUDE_SUBDOMAINS=True,
    SECURE_HSTS_PRELOAD=True,
    SECURE_SSL_REDIRECT=True,
    SESSION_COOKIE_SECURE=True,
    CSRF_COOKIE_SECURE=True,
)
@pytest.mark.django_db
def test_under_https_the_browser_is_told_to_stay_there(client):
    response = client.get("/account/login/", secure=True)
    assert response["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    call_command("check", deploy=True, fail_level="WARNING", tags=["security"])


@pytest.mark.requirement("HDR-2")
def test_the_content_policy_allows_nothing_inline_and_no_other_host():
    rules = dict(rule.split(" ", 1) for rule in CSP.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["frame-ancestors"] == "'none'"
    assert {rules[kind] for kind in ("script-src", "style-src", "font-src", "connect-src", "form-action")} == {"'self'"}
    assert rules["img-src"] == "'self' data:"  # a picture cannot run or fetch anything
    assert not re.search(r"unsafe|nonce|https?:|\*", CSP)


@pytest.mark.requirement("HDR-2")
@pytest.mark.requirement("HDR-9")
def test_a_view_cannot_loosen_the_rules():
    with override_settings(ROOT_URLCONF=__name__):
        response = Client().get("/lax/")
    assert missing(response) == {}
    assert response["Cache-Control"] == "no-store"
    assert response["Vary"] == "Accept, Cookie, HX-Request"


@pytest.mark.requirement("HDR-9")
def test_signed_in_pages_are_kept_by_no_cache(signed_in):
    response = signed_in.get(reverse("account"))
    assert response["Cache-Control"] == "no-store"
    assert {"Cookie", "HX-Request"} <= {name.strip() for name in response["Vary"].split(",")}
    assert [name for name in settings.MIDDLEWARE if "cache" in name.lower()] == []


@pytest.mark.requirement("HDR-1")
@pytest.mark.requirement("HDR-9")
@override_settings(WHITENOISE_USE_FINDERS=True, WHITENOISE_AUTOREFRESH=True)
def test_static_files_carry_the_headers_but_may_be_kept():
    response = Client().get("/static/css/ui.css")
    assert response.status_code == 200
    assert missing(response) == {}
    assert "no-store" not in response["Cache-Control"]


@pytest.mark.requirement("RED-8")
def test_signing_out_clears_what_the_browser_kept(signed_in):
    assert "Clear-Site-Data" not in signed_in.get(reverse("account"))
    assert signed_in.post(reverse("account_logout"))["Clear-Site-Data"] == '"cache", "storage"'


@pytest.mark.requirement("HDR-5")
@pytest.mark.parametrize("method", UNSAFE)
def test_a_change_needs_the_token(db, method):
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner_of(make_team()))
    assert getattr(client, method)(reverse("team_create")).status_code == 403


@pytest.mark.requirement("HDR-5")
@pytest.mark.requirement("HDR-6")
def test_a_change_from_another_site_is_refused_even_with_the_token(db):
    client = Client(enforce_csrf_checks=True)
    page = client.get(reverse("account_login")).content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
    sent = {"csrfmiddlewaretoken": token, "login": "a@example.test", "password": "x" * 12}

    assert client.post(reverse("account_login"), sent, headers={"Origin": "http://testserver"}).status_code != 403
    refused = client.post(reverse("account_login"), sent, headers={"Origin": "https://evil.example"})
    assert refused.status_code == 403
    assert "style=" not in refused.content.decode()


@pytest.mark.requirement("HDR-5")
def test_htmx_sends_the_token_from_one_place(signed_in):
    page = signed_in.get(reverse("account")).content.decode()
    assert len(re.findall(r"hx-headers:inherited='\{\"X-CSRFToken\": \"\w+\"\}'", page)) == 1


@pytest.mark.requirement("HDR-6")
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://testserver.evil.example"])
def test_no_other_origin_may_read(signed_in, origin):
    for response in (
        signed_in.get(reverse("account"), headers={"Origin": origin}),
        signed_in.options(reverse("account"), headers={"Origin": origin, "Access-Control-Request-Method": "POST"}),
    ):
        assert [name for name in response.headers if name.startswith("Access-Control-")] == []


@pytest.mark.requirement("HDR-7")
@pytest.mark.django_db
def test_an_unknown_host_is_refused(client):
    response = client.get("/account/login/", headers={"Host": "evil.example"})
    assert response.status_code == 400
    assert missing(response) == {}
    assert "evil.example" not in response.content.decode()


@pytest.mark.requirement("HDR-7")
@pytest.mark.django_db
def test_a_forwarded_host_is_not_believed(client):
    page = client.get("/account/login/", headers={"X-Forwarded-Host": "evil.example"})
    assert settings.USE_X_FORWARDED_HOST is False
    assert "evil.example" not in page.content.decode()


@pytest.mark.requirement("HDR-10")
@pytest.mark.django_db
@pytest.mark.parametrize(
    "header", ["Accept-Language", "User-Agent", "Referer", "HX-Current-URL", "HX-Source", "X-Request-Id"]
)
def test_a_header_never_becomes_markup(client, header):
    for address in ("/account/login/", "/nowhere/"):
        assert "<b>canary" not in client.get(address, headers={header: "<b>canary</b>"}).content.decode()


@pytest.mark.requirement("HDR-11")
def test_a_value_signed_for_one_purpose_is_worth_nothing_for_another():
    """Ours name their purpose; the salts of two signers never run into each other."""
    unnamed = re.compile(r"\b(Timestamp)?Signer\(\s*\)|signing\.(dumps|loads)\((?![^)]*salt=)")
    assert [str(path) for path, text in sources().items() if unnamed.search(text)] == []
    assert Signer(salt="a:b").signature("x") != TimestampSigner(salt="a:b.c").signature("x")


@pytest.mark.parametrize(("method", "address", "status"), [("get", "/account/", 401), ("post", "/teams/new/", 401)])
def test_htmx_is_sent_to_sign_in_as_a_page(db, client, method, address, status):
    response = getattr(client, method)(address, headers={"HX-Request": "true"})
    assert response.status_code == status
    assert response["HX-Redirect"].startswith(reverse("account_login"))
    assert "Location" not in response


def test_htmx_follows_a_redirect_after_a_change_as_a_page(signed_in):
    answer = signed_in.post(reverse("team_create"), {"name": "New", "zone": "UTC"}, headers={"HX-Request": "true"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer["HX-Redirect"].startswith("/t/")


@pytest.mark.parametrize(("address", "status"), [("/nowhere/", 404), ("/t/nobody/members/", 404)])
def test_htmx_gets_a_toast_for_an_error_and_its_page_stays(signed_in, address, status):
    response = signed_in.get(address, headers={"HX-Request": "true", "HX-Request-Type": "partial"})
    assert response.status_code == status
    assert response.content.decode().count("<hx-partial") == 1
    assert "<html" not in response.content.decode()


def test_strangers_and_nobodies_get_the_same_page(db, client):
    theirs, me = make_team(), make_user()
    client.force_login(me)
    pages = [client.get(f"/t/{slug}/members/") for slug in (theirs.slug, "never-was")]
    assert [page.status_code for page in pages] == [404, 404]
    assert pages[0].content == pages[1].content
