"""GET /auth: the page on which a user agrees that an application gets a key, or does not."""

from html import escape
from urllib.parse import parse_qsl

from .accounts import SHARED_ACCOUNT
from .errors import ApiError
from .exchange import Reply, Request
from .oauth import OAuthDesk, Wish, read_wish

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title} - sandbox</title></head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""
FORM = """<p>{asker} asks for a key of this stand-in for OpenRouter. The answer goes to {where}.</p>
<form method="post" action="/auth">
{hidden}
<p><label>Account <input name="account" value="{account}" required></label></p>
<p><button name="decision" value="approve">Authorize</button>
<button name="decision" value="deny">Cancel</button></p>
</form>"""
FIELDS = ("callback_url", "code_challenge", "code_challenge_method", "key_label")


def consent_page(request: Request, desk: OAuthDesk) -> Reply:
    """The page, or with POST what comes of it: a redirect to the application, or a code to copy."""
    try:
        if request.method == "GET":
            return _ask(request.query)
        if request.method == "POST":
            fields = dict(parse_qsl(request.body.decode(errors="replace"), keep_blank_values=True))
            return _decided(fields, desk)
        raise ApiError(405)
    except ApiError as error:
        return _page("This cannot be asked for", f"<p>{escape(error.message)}</p>", error.status)


def decide(wish: Wish, desk: OAuthDesk, *, account: str, approves: bool) -> dict[str, str]:
    """What becomes of a wish: the `code`, unless it is denied, and the `location` to send a browser to, if any."""
    said = {"code": desk.agree(wish, account=account)} if approves else {"error": "access_denied"}
    where = {"location": wish.back(**said)} if wish.callback_url else {}
    return where | ({"code": said["code"]} if approves else {})


def _ask(query: dict[str, str]) -> Reply:
    wish = read_wish(query)
    sent = {name: query[name] for name in FIELDS if query.get(name)}
    hidden = "\n".join(f'<input type="hidden" name="{name}" value="{escape(sent[name])}">' for name in sent)
    where = escape(wish.callback_url) or "this screen"
    form = FORM.format(asker=escape(wish.asker), where=where, hidden=hidden, account=SHARED_ACCOUNT)
    return _page("Authorize access", form)


def _decided(fields: dict[str, str], desk: OAuthDesk) -> Reply:
    approves = fields.get("decision") == "approve"
    decided = decide(read_wish(fields), desk, account=fields.get("account") or SHARED_ACCOUNT, approves=approves)
    if location := decided.get("location"):
        return Reply(303, [b""], {"location": location})
    if approves:
        return _page("Your code", f"<p>Copy it within ten minutes: <code>{decided['code']}</code></p>")
    return _page("Cancelled", "<p>No code was made.</p>")


def _page(title: str, body: str, status: int = 200) -> Reply:
    page = PAGE.format(title=escape(title), body=body)
    return Reply(status, [page.encode()], {"content-type": "text/html; charset=utf-8", "cache-control": "no-store"})
