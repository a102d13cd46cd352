"""Where secrets may be used at all, and what public pages and the repository never show."""

import ast
import inspect
import os
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Team
from audit.actions import record
from definable.celery import app
from integrations.forms import ConnectForm
from integrations.registry import integrations
from personas.actions import run_flow
from personas.execution import work
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow, make_persona
from tests.routes import all_routes
from tests.test_architecture import domain_files
from tests.test_input import FLOORS, SOURCES

ROOT = Path(__file__).resolve().parent.parent
# Where a key leaves for its owner, is compared with what its owner said, or a signature is checked by it.
MAY_USE = {"integrations/openrouter/client.py", "integrations/redaction.py", "integrations/signing.py"}
MAY_USE |= {"integrations/webhook/kept.py"}  # an address and a secret, taken apart
MAY_USE |= {"vault/actions.py"}  # a key that a provider made for us, to be sealed
MAY_USE |= {"personas/views/triggers.py"}  # the one page that shows a new secret, once


@pytest.mark.requirement("RED-2")
def test_a_secret_is_used_where_it_leaves_and_nowhere_else():
    using = {str(path.relative_to(ROOT)) for path in SOURCES if uses_secret(path.read_text())}
    assert using == MAY_USE
    assert uses_secret("key.use()")


def uses_secret(source: str) -> bool:
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and not node.args]
    return any(isinstance(call.func, ast.Attribute) and call.func.attr == "use" for call in calls)


@pytest.mark.requirement("RED-5")
def test_nothing_of_a_task_is_kept_or_announced():
    assert app.conf.result_backend is None
    assert app.conf.task_ignore_result
    assert not app.conf.worker_send_task_events
    assert not app.conf.task_send_sent_event
    assert not app.conf.worker_enable_remote_control


@pytest.mark.requirement("RED-11")
def test_no_domain_module_is_handed_a_request():
    """A request carries headers; what acts, logs or calls gets the values it names."""
    taking = []
    for path in (path for floor in FLOORS for path in domain_files(floor)):
        functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
        typed = [
            (node.name, ast.unparse(each.annotation or ast.Name("Any")))
            for node in functions
            for each in arguments(node)
        ]
        taking += [f"{path.name}:{name}" for name, kind in typed if "HttpRequest" in kind]
    assert taking == []


def arguments(node: ast.FunctionDef) -> list[ast.arg]:
    return [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]


@pytest.mark.requirement("RED-11")
def test_the_log_takes_listed_fields_only():
    kinds = {parameter.kind for parameter in inspect.signature(record).parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds
    assert inspect.Parameter.VAR_POSITIONAL not in kinds


@pytest.mark.requirement("RED-8", "VAULT-10")
@pytest.mark.django_db
def test_a_key_comes_in_a_body_alone_and_is_never_sent_back(client):
    team = make_team()
    client.force_login(owner_of(team))
    url = reverse("connection_create", args=[team.slug, "openrouter"])

    by_query = client.get(url, {"key": "sk-or-v1-by-the-query-0123456789", "label": "by the query"})
    refused = client.post(url, {"key": "sk-or-v1-refused-0123456789", "label": ""})

    assert "by-the-query" not in by_query.content.decode()
    assert refused.status_code == 422
    assert "refused-0123456789" not in refused.content.decode()
    secret = [
        (form.fields[each.name].widget, each.secret)
        for integration in integrations()
        for form in [ConnectForm(integration=integration)]
        for each in integration.connecting.fields
    ]
    assert any(is_secret for _, is_secret in secret)
    assert all(widget.render_value is False for widget, is_secret in secret if is_secret)
    assert not team.credentials.exists()


@pytest.mark.requirement("RED-8")
@pytest.mark.django_db
def test_no_form_that_holds_a_secret_is_sent_as_an_address(client):
    team = make_team()
    client.force_login(owner_of(team))
    pages = [client.get(route.path and f"/{route.path}") for route in all_routes() if not route.arguments]
    pages.append(client.get(reverse("connection_create", args=[team.slug, "openrouter"])))
    forms = [form for page in pages for form in re.findall(r"<form.*?</form>", page.content.decode(), re.DOTALL)]
    secret = [form for form in forms if 'type="password"' in form]
    assert len(secret) >= 2
    assert [form for form in secret if not re.match(r'<form[^>]*method="post"', form)] == []


@pytest.mark.requirement("RED-8")
@pytest.mark.django_db
def test_a_page_for_somebody_signed_out_names_nothing_of_a_team(client):
    team = make_team(name="Quiet harbour")
    make_persona(team, name="Lighthouse")
    client.force_login(owner_of(team))
    client.get(reverse("member_list", args=[team.slug]))
    client.post(reverse("account_logout"))

    for page in ("account_login", "account_signup", "account_reset_password"):
        text = client.get(reverse(page)).content.decode()
        assert not re.search("Quiet harbour|Lighthouse|X-CSRFToken.*example.test", text)


TELLING = re.compile(r"\d+\.\d+|/tmp|/var|localhost|sk-|postgres|redis|valkey|django|python", re.IGNORECASE)


@pytest.mark.requirement("RED-10")
@pytest.mark.django_db
def test_health_pages_name_no_host_key_or_version():
    for name in ("healthz", "readyz"):
        response = Client().get(reverse(name))
        text = response.content.decode()
        assert not re.search(
            r"\d+\.\d+|/tmp|/var|localhost|127\.|sk-|postgres|redis|valkey|django|python", text, re.IGNORECASE
        )
        assert "Server" not in response.headers
        assert "X-Powered-By" not in response.headers


@pytest.mark.requirement("RED-10")
def test_there_is_no_admin_and_no_page_of_settings():
    versioned = {"personas", "flows"}
    routes = [route for route in all_routes() if not versioned & set(route.path.split("/"))]
    names = {f"{route.name} {route.path}" for route in routes}
    assert [name for name in names if re.search(r"admin/|debug|version|metrics|config", name)] == []


# --- what a model says ------------------------------------------------------------------

HOSTILE = """data: x

event: stop
id: 9
retry: 1

<div hx-swap-oob="true" id="run">x</div><hx-partial hx-target="#run">x</hx-partial>
<img src=x onerror=alert(1)><script>alert(1)</script><a href="javascript:x" hx-get="/">y</a>
[z](javascript:alert(1))
"""


class Structure(HTMLParser):
    """The elements of a page, each with its attributes, and the text around them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.elements[" ".join([tag, *sorted(name for name, _ in attributes)])] += 1
        assert not any(str(value).lower().startswith("javascript") for _, value in attributes)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.requirement("LLM-5")
@pytest.mark.django_db
@pytest.mark.parametrize("page", ["run_detail", "run_progress"])
def test_what_a_stage_says_makes_no_event_no_swap_and_no_element(client, page):
    """Progress is a fragment that is asked for again; there is no stream of events yet to break out of."""
    team = make_team()
    client.force_login(owner_of(team))
    hostile, harmless = (Structure(page_of_run(client, team, page, said)) for said in (HOSTILE, "Fine.\n\nReally."))

    assert "onerror=alert(1)" in hostile.text
    assert {element for element in hostile.elements if element not in harmless.elements} <= {"br"}


def page_of_run(client: Client, team: Team, page: str, said: str) -> str:
    """The page of a run whose only stage said this."""
    flow = make_flow(team, [{"kind": "combine", "name": "all", "template": said}])
    run = run_flow(flow=flow, by=owner_of(team), idempotency_key="")
    work(run_id=run.pk, owner="test")
    return client.get(reverse(page, args=[team.slug, run.pk])).content.decode()


# --- the repository ---------------------------------------------------------------------

KEYS = {
    "OpenRouter": r"sk-or-v1-[0-9a-f]{64}",
    "private key": r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s*\n\s*[A-Za-z0-9+/]{40}",
    "AWS": r"\bAKIA[0-9A-Z]{16}\b",
    "GitHub": r"\bgh[pousr]_[A-Za-z0-9]{36}\b",
    "Slack": r"\bxox[abprs]-[0-9A-Za-z-]{20,}",
    "Google": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "Stripe": r"\b[sr]k_live_[0-9A-Za-z]{20,}",
    "Anthropic or OpenAI": r"\bsk-(?:ant|proj)-[A-Za-z0-9_-]{32,}",
    "signed token": r"\beyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.",
    "password in an address": r"\b(?:postgresql|redis|amqp)://[\w.-]+:(?!password@)[^@\s:/{}$<…]{6,}@(?!localhost|127\.|h/)",
}
SKIPPED = {
    ".venv",
    ".boot",
    ".git",
    ".state",
    "__pycache__",
    "node_modules",
    ".pytest_cache",
    ".ruff_cache",
    ".mypy_cache",
}


def leaks(text: str) -> list[str]:
    """Kinds of keys that stand in a text; one of few different characters was made up on the spot."""
    found = [(kind, match[0]) for kind, pattern in KEYS.items() for match in re.finditer(pattern, text)]
    return [kind for kind, value in found if len(set(value.rpartition("-")[2])) > 8 and not made_up(value)]


def made_up(value: str) -> bool:
    """A value that repeats itself, such as 0123456789abcdef four times over, is nobody's key."""
    tail = value.rpartition("-")[2]
    return len(tail) >= 32 and tail == tail[:16] * (len(tail) // 16)


@pytest.mark.requirement("RED-12")
def test_no_key_lies_in_the_repository():
    found = {}
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in SKIPPED]
        for path in (Path(folder) / name for name in names):
            if path.stat().st_size < 2_000_000 and (kinds := leaks(path.read_text(errors="ignore"))):
                found[str(path.relative_to(ROOT))] = kinds
    assert found == {}


@pytest.mark.requirement("RED-12")
def test_the_scan_finds_a_planted_key():
    planted = "sk-or-v1-" + "9f4e7c1b2d8a6053" + "e1d2c3b4a5968778" * 3
    assert leaks(f"KEY={planted}") == ["OpenRouter"]
    assert leaks("postgresql:" + "//app:hunter22secret@db/x") == ["password in an address"]
