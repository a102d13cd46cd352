"""What strangers may send: how much, of which type, under which names. Made from the resolver and the forms."""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from django import forms
from django.apps import apps
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import models, transaction
from django.test import Client
from django.urls import reverse

from audit import queries as audit
from definable.limits import USUAL_BODY
from integrations.models import Call
from personas import queries as personas
from personas import yaml_text
from personas.actions import run_flow
from personas.forms import ToolForm
from personas.models import Flow
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow
from tests.routes import Route, team_routes
from tests.test_architecture import FLOORS

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [path for app in [*FLOORS, "definable"] for path in sorted((ROOT / app).rglob("*.py"))]
SOURCES = [path for path in SOURCES if not {"migrations", "sandbox", "launcher"} & set(path.parts)]
LONG_TEXTS = {
    "console_tool",
    "flow_create",
    "flow_edit",
    "flow_import",
    "flow_graph",
    "flow_references",
    "flow_run",
    "flow_stage_try",
    "schedule_create",
    "schedule_edit",
    "persona_import",
    "chat_create",
    "chat_send",
    "chat_edit",
}
# Ids have a shape of their own; a new password has a validator, an old one is compared within a mebibyte;
# nobody is asked for a user name.
MEASURED_ELSEWHERE = {"persona", "run", "call", "password", "password1", "password2", "oldpassword", "username"}
REVIEWED_SQL = {
    "audit/bulk.py",  # names of our own tables and columns
    "audit/months.py",  # names of our own tables and of months
    "audit/statements.py",  # statements of ours, with their parameters or as the driver writes these
    "integrations/bookkeeping.py",  # column names are our own words; what is held back, the driver has quoted
    "personas/chat/live.py",  # what it executes is no SQL: commands for Valkey
}

NO_FORMS = ["application/json", "text/plain", "application/xml", "application/octet-stream", "form", ""]

each_route = pytest.mark.parametrize("route", team_routes(), ids=str)


@pytest.fixture
def owner(db) -> Client:
    """The owner of `owner.team`, signed in."""
    client = Client(raise_request_exception=False)
    client.team = make_team()
    client.force_login(owner_of(client.team))
    return client


def page_of(route: Route, client: Client) -> str:
    return route.url(client.team, route.values(client.team))


# --- how much ---------------------------------------------------------------------------


@pytest.mark.requirement("IN-1")
@each_route
def test_a_page_takes_one_mebibyte_unless_it_takes_prompts(owner, route):
    form = "application/x-www-form-urlencoded"
    page = page_of(route, owner)

    over = owner.post(page, b"x=" + b"y" * USUAL_BODY, content_type=form)
    far_over = owner.post(page, b"x=" + b"y" * 9 * USUAL_BODY, content_type=form)

    assert (over.status_code == 413) == (route.name not in LONG_TEXTS)
    assert far_over.status_code in {413, 400}


@pytest.mark.requirement("IN-1")
def test_a_page_that_is_too_small_for_a_text_says_what_to_do(owner):
    page = reverse("persona_create", args=[owner.team.slug])
    long = {"name": "x", "instructions": "y" * USUAL_BODY}

    assert "Shorten the text" in owner.post(page, long).content.decode()
    assert "Shorten the text" in owner.post(page, long, headers={"HX-Request": "true"}).content.decode()


def every_form() -> Iterator[type[forms.BaseForm]]:
    for path in SOURCES:
        if path.stem in {"forms", "flow_forms", "schedule_forms", "stage_forms"}:
            module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            for _, found in inspect.getmembers(module, inspect.isclass):
                if issubclass(found, forms.BaseForm) and found.__module__ == module.__name__:
                    yield found


@pytest.mark.requirement("IN-1")
def test_every_typed_text_has_a_longest_length():
    """But for a tool's form, whose arguments the tool's own model measures."""
    declared = {(form, name): field for form in every_form() for name, field in form.base_fields.items()}
    endless = [
        f"{form.__name__}.{name}"
        for (form, name), field in declared.items()
        if isinstance(field, forms.CharField) and field.max_length is None and name not in MEASURED_ELSEWHERE
    ]

    assert len(declared) > 40
    assert endless == []
    assert ToolForm.base_fields == {}


# --- of which type ----------------------------------------------------------------------


@pytest.mark.requirement("IN-6")
@each_route
def test_a_page_takes_forms_only(owner, route):
    disguised = b'{"instructions": {"filename": "/etc/passwd", "path": "/etc/passwd"}}'
    page = page_of(route, owner)
    answers = {kind: owner.post(page, disguised, content_type=kind).status_code for kind in NO_FORMS}
    assert set(answers.values()) == {415}, answers


@pytest.mark.requirement("IN-6")
def test_an_uploaded_file_is_no_field_and_is_kept_nowhere(owner):
    upload = SimpleUploadedFile("name.txt", b"a name from a file")
    response = owner.post(reverse("persona_create", args=[owner.team.slug]), {"name": upload, "max_tokens": "10"})

    assert response.status_code == 422
    assert response.wsgi_request.FILES == {}
    assert not owner.team.personas.exists()


# --- of any content ---------------------------------------------------------------------

HOSTILE = {
    "nul": "a\x00b",
    "digits": "9" * 5000,
    "other digits": "٣٣",
    "sql": "x' OR '1'='1'; DROP TABLE accounts_user; --",
    "long": "x" * 20_000,
    "bidi": "\u202e\u2066\ufeff",
    "escapes": "%00%0a%0d{{7*7}}${HOME}",
}
PARAMETERS = re.findall(
    r"\S+",
    """
    q after newer older entry content stage state flow persona run call tool actor action outcome range since until all
    cron zone next email team name role once do stages format stage-0-kind stage-0-name stage-0-template
    """,
)


@pytest.mark.requirement("IN-1")
@each_route
def test_no_text_in_a_query_or_a_form_breaks_a_page(owner, route):
    page = page_of(route, owner)

    with transaction.atomic():
        answers = {name: asked(owner, page, text) for name, text in HOSTILE.items()}
        transaction.set_rollback(True)

    assert {name: found for name, found in answers.items() if 500 in found} == {}


def asked(client: Client, page: str, text: str) -> list[int]:
    """What a page answers to a text wherever one can be put."""
    sent = dict.fromkeys(PARAMETERS, text)
    answers = [client.get(page, sent), client.post(page, sent), client.post(page, sent | {"stages": "1"})]
    return [answer.status_code for answer in answers]


@pytest.mark.requirement("IN-1")
def test_a_nul_character_is_a_bad_request_to_any_address(owner):
    assert owner.get("/?q=%00").status_code == 400
    assert owner.get("/account/login/?next=/%00").status_code == 400


# --- names of columns -------------------------------------------------------------------


def questionable_queries(source: str) -> Iterator[str]:
    """Calls that could carry text of a request into SQL or into the name of a column."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, first = node.func.attr, node.args[0] if node.args else None
        if name in {"execute", "executemany", "raw"} and not _is_fixed(first):
            yield ast.unparse(node)
        if name == "extra" or ast.unparse(node.func).endswith("RawSQL"):
            yield ast.unparse(node)
        if name in {"filter", "exclude", "get", "order_by", "annotate", "values", "values_list", "update", "only"}:
            spread = [each.value for each in node.keywords if each.arg is None] + list(node.args)
            yield from (ast.unparse(node) for each in spread if _reads_request(each))


def _is_fixed(sql: ast.expr | None) -> bool:
    """A literal or a constant of the module; an f-string of nothing but such constants."""
    if isinstance(sql, ast.JoinedStr):
        return all(_is_fixed(part.value if isinstance(part, ast.FormattedValue) else part) for part in sql.values)
    if isinstance(sql, ast.BinOp):
        return isinstance(sql.op, ast.Add) and _is_fixed(sql.left) and _is_fixed(sql.right)
    return isinstance(sql, ast.Constant) or (isinstance(sql, ast.Name) and sql.id.isupper())


def _reads_request(node: ast.expr) -> bool:
    text = ast.unparse(node)
    return any(word in text for word in ("request.GET", "request.POST", "request.headers", "request.META", "form.data"))


@pytest.mark.requirement("IN-2")
def test_no_request_names_a_column_and_no_sql_is_put_together():
    found = {str(path.relative_to(ROOT)): list(questionable_queries(path.read_text())) for path in SOURCES}
    assert {path: calls for path, calls in found.items() if calls and path not in REVIEWED_SQL} == {}


@pytest.mark.requirement("IN-2")
@pytest.mark.parametrize(
    "planted",
    [
        "cursor.execute(f'SELECT {name}')",
        "cursor.execute('SELECT %s' % name)",
        "cursor.execute('SELECT ' + name)",
        "cursor.execute('SELECT {}'.format(name))",
        "rows.filter(**request.GET.dict())",
        "rows.order_by(request.GET['order'])",
        "rows.extra(where=[x])",
        "Model.objects.raw(text)",
    ],
)
def test_the_query_guard_sees_a_planted_violation(planted):
    assert list(questionable_queries(planted)) == [ast.unparse(ast.parse(planted).body[0])]


# --- money and pages --------------------------------------------------------------------


@pytest.mark.requirement("IN-9")
def test_money_is_whole_platform_credits_and_exact_dollars():
    """No column holds a binary fraction but what providers measured; dollars keep twelve decimals."""
    ours = [model for app in FLOORS for model in apps.get_app_config(app).get_models()]
    fields = [(model, field) for model in ours for field in model._meta.fields]

    floats = {f"{model.__name__}.{field.name}" for model, field in fields if isinstance(field, models.FloatField)}
    assert floats == {"CatalogEndpoint.latency_ms", "CatalogEndpoint.throughput"}
    money = [field for _, field in fields if field.name.endswith("_usd")]
    assert {(field.max_digits, field.decimal_places) for field in money} == {(20, 12)}
    assert Call(cost_usd=Decimal("0.000000000001")).cost_usd == Decimal("1E-12")
    credits = [
        field for _, field in fields if "credits" in field.name or field.name in {"granted", "spent", "reserved"}
    ]
    assert {field.get_internal_type() for field in credits} <= {"PositiveIntegerField", "IntegerField"}
    assert len(money) >= 2 and len(credits) >= 6


@pytest.mark.requirement("IN-9")
@pytest.mark.parametrize("zone", ["../../etc/passwd", "/etc/localtime", "Europe/Berlin\n", "", "UTC+1", "localtime"])
@pytest.mark.parametrize("page", ["account", "team_create"])
def test_a_zone_is_a_name_from_the_list(owner, page, zone):
    answer = owner.post(reverse(page), {"name": "Name", "zone": zone, "theme": "system"})
    assert answer.status_code == 422


@pytest.mark.requirement("IN-10")
def test_no_page_holds_more_than_two_hundred_rows():
    assert max(audit.PAGE, personas.PAGE) <= 200


@pytest.mark.requirement("IN-10")
def test_a_place_in_another_teams_list_leads_to_ones_own_rows_only(owner):
    """Lists of runs, personas and flows start after a name or an id; whose it is changes nothing."""
    theirs = make_team()
    flows = {team: make_flow(team) for team in (owner.team, theirs)}
    mine = run_flow(flow=flows[owner.team], by=owner_of(owner.team), idempotency_key="a")
    foreign = run_flow(flow=flows[theirs], by=owner_of(theirs), idempotency_key="b")

    page = owner.get(reverse("run_list", args=[owner.team.slug]), {"after": str(foreign.pk)})

    assert str(mine.pk) in page.content.decode()
    assert str(foreign.pk) not in page.content.decode().replace(f"after={foreign.pk}", "")
    assert Flow.objects.count() == 2


@pytest.mark.requirement("IN-5")
def test_no_source_reads_what_could_make_an_object():
    """Neither pickle nor marshal nor shelve: JSON is all that is read, and YAML in one place, by its safe loader."""
    makers = {"pickle", "marshal", "shelve", "yaml", "dill", "jsonpickle"}
    safe = ROOT / "personas" / "yaml_text.py"
    assert issubclass(yaml_text.Loader, yaml.SafeLoader | yaml.CSafeLoader)
    for path in set(SOURCES) - {safe}:
        imported = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            for alias in getattr(node, "names", ())
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        assert not imported & makers, path
    assert json.loads('{"__class__": "x"}') == {"__class__": "x"}
