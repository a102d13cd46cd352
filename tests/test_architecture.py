"""What people forget, a test remembers. Each guard names the offender."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import current_app
from django.apps import apps
from django.conf import settings
from django.db import connection, models
from django.urls import URLPattern, URLResolver, get_resolver

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ["audit", "accounts", "vault", "integrations", "personas"]
DOORS = {
    "views",
    "urls",
    "forms",
    "flow_forms",
    "stage_forms",
    "schedule_forms",
    "delivery_forms",
    "admin",
    "templatetags",
    "middleware",
    "context",
    "teams",
    "adapter",
}
DOORS |= {
    "management",
    "migrations",
    "display",
    "mail",
    "plan_views",
    "limit_views",
    "consent_views",
    "limit_forms",
    "model_views",
    "provider_views",
}

# Rows that belong to the installation, or that tie a person to teams.
NOT_OF_A_TEAM = {
    "integrations.Catalog",  # what a provider offers is the same for every team
    "integrations.CatalogModel",
    "integrations.CatalogEndpoint",
    "integrations.CatalogProvider",
    "accounts.User",
    "accounts.Team",
    "accounts.Plan",
    "accounts.Pack",
    "accounts.OneTimeLink",
    "accounts.TeamStart",
    "audit.Event",  # null: the installation itself
}
WITHOUT_FOREIGN_KEY = {"audit.Content"}  # the log points at nothing; its team is not null all the same


# --- imports ----------------------------------------------------------------------------


def domain_files(app: str) -> list[Path]:
    files = sorted((ROOT / app).rglob("*.py"))
    return [path for path in files if not DOORS & {*path.relative_to(ROOT).parts, path.stem}]


def imports(source: str) -> Iterator[str]:
    """The modules that a source imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def upward(app: str, source: str) -> list[str]:
    """What a domain module of an app imports from above it, or from behind a door."""
    above = {*FLOORS[FLOORS.index(app) + 1 :], "definable", "api"}
    found = []
    for module in imports(source):
        first, *rest = module.split(".")
        if first in above or (first in FLOORS and rest and rest[0] in DOORS - {"migrations"}):
            found.append(module)
    return found


@pytest.mark.parametrize("app", FLOORS)
def test_domain_modules_import_only_downward_and_no_door(app):
    offenders = {str(path.relative_to(ROOT)): upward(app, path.read_text()) for path in domain_files(app)}
    assert {path: found for path, found in offenders.items() if found} == {}


def test_the_import_guard_sees_a_planted_violation():
    assert upward("vault", "from personas.models import Run") == ["personas.models.Run"]
    assert upward("personas", "def f():\n    from integrations.views import x") == ["integrations.views.x"]
    assert upward("personas", "from integrations.calls import call_tool") == []


def test_the_sandbox_imports_nothing_of_ours():
    ours = {*FLOORS, "definable"}
    for path in (ROOT / "integrations/openrouter/sandbox").rglob("*.py"):
        assert [name for name in imports(path.read_text()) if name.split(".")[0] in ours] == [], path


def test_the_client_knows_no_django_and_no_teams():
    for name in ("client", "exchange", "streams", "connections", "reading", "explain"):
        found = set(imports((ROOT / f"integrations/openrouter/{name}.py").read_text())) - {"vault.secret.Secret"}
        assert [module for module in found if module.startswith(("django", "accounts", "vault", "audit"))] == []


@pytest.mark.requirement("VAULT-8")
def test_only_the_vault_imports_cryptography():
    for path in ROOT.glob("*/**/*.py"):
        part = path.relative_to(ROOT).parts[0]
        if part not in {"vault", "tests", "bench"} and not part.startswith("."):
            assert [name for name in imports(path.read_text()) if name.startswith("cryptography")] == [], path


# --- addresses --------------------------------------------------------------------------


def routes(patterns: list, prefix: str = "") -> Iterator[tuple[str, object]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route, pattern.callback


def without_permission(found: Iterator[tuple[str, object]]) -> list[str]:
    return [route for route, view in found if "team_slug" in route and not hasattr(view, "permission")]


def test_every_team_page_names_the_permission_it_needs():
    assert without_permission(routes(get_resolver().url_patterns)) == []


def test_the_permission_guard_sees_a_planted_violation():
    assert without_permission(iter([("t/<slug:team_slug>/x/", lambda request: None)])) == ["t/<slug:team_slug>/x/"]


# --- tables -----------------------------------------------------------------------------


def our_models() -> list[type[models.Model]]:
    return [model for app in FLOORS for model in apps.get_app_config(app).get_models()]


def team_field(model: type[models.Model]) -> models.Field | None:
    return next((field for field in model._meta.fields if field.column == "team_id"), None)


@pytest.mark.requirement("TEN-1")
def test_every_row_belongs_to_a_team_or_is_listed():
    for model in our_models():
        if model._meta.label not in NOT_OF_A_TEAM:
            field = team_field(model)
            assert field is not None and not field.null, model._meta.label


@pytest.mark.requirement("TEN-1")
def test_the_team_guard_sees_a_planted_violation():
    plan = apps.get_model("accounts", "Plan")
    assert team_field(plan) is None


@pytest.mark.requirement("TEN-3")
def test_unique_constraints_of_team_rows_start_with_the_team():
    for model in our_models():
        if team_field(model) is None or model._meta.label in NOT_OF_A_TEAM:
            continue
        for constraint in model._meta.constraints:
            if isinstance(constraint, models.UniqueConstraint):
                assert constraint.fields[0] == "team", f"{model._meta.label}.{constraint.name}"


TEAM_KEYS = """
SELECT c.conrelid::regclass::text, array_agg(a.attname::text ORDER BY k.place)
FROM pg_constraint c
CROSS JOIN LATERAL unnest(c.conkey) WITH ORDINALITY AS k(number, place)
JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number
WHERE c.contype = 'f' AND c.conparentid = 0
GROUP BY c.oid, c.conrelid
"""


def references_without_team(keys: set[tuple[str, tuple[str, ...]]]) -> list[str]:
    """Foreign keys between team rows that no composite (team, id) key backs."""
    found = []
    for model in our_models():
        for field in model._meta.fields:
            if not field.remote_field or field.column == "team_id" or team_field(model) is None:
                continue
            if team_field(field.related_model) is None or field.related_model._meta.label in NOT_OF_A_TEAM:
                continue
            if (model._meta.db_table, ("team_id", field.column)) not in keys:
                found.append(f"{model._meta.label}.{field.name}")
    return found


@pytest.mark.requirement("TEN-2")
@pytest.mark.django_db
def test_every_reference_between_team_rows_is_bound_to_the_team():
    with connection.cursor() as cursor:
        cursor.execute(TEAM_KEYS)
        keys = {(table, tuple(columns)) for table, columns in cursor.fetchall()}
    assert references_without_team(keys) == []
    assert references_without_team(set()) != []  # the guard sees it when the keys are gone


@pytest.mark.requirement("TEN-4")
def test_views_reach_team_rows_through_the_team():
    banned = [f"{model.__name__}.objects" for model in our_models() if model._meta.label not in NOT_OF_A_TEAM]
    banned = [name for name in banned if not name.startswith(("Invitation", "Membership"))]
    for path in [*ROOT.glob("*/views.py"), *ROOT.glob("*/views/*.py")]:
        text = path.read_text()
        used = [name for name in banned if f"{name}.get(" in text or f"{name}.all(" in text]
        assert used == [], f"{path}: {used}"


# --- tasks ------------------------------------------------------------------------------


def our_tasks() -> list[str]:
    current_app.loader.import_default_modules()
    return [name for name in current_app.tasks if name.split(".")[0] in FLOORS]


def without_queue(tasks: list[str]) -> list[str]:
    return [name for name in tasks if name not in settings.CELERY_TASK_ROUTES]


def test_the_queue_guard_sees_a_planted_violation():
    assert without_queue(["personas.tasks.work", "personas.tasks.planted"]) == ["personas.tasks.planted"]


def test_every_task_names_its_queue():
    assert without_queue(our_tasks()) == []
    assert {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()} <= {"calls", "control"}


def test_every_queue_route_names_a_task_that_exists():
    assert [name for name in settings.CELERY_TASK_ROUTES if name not in our_tasks()] == []


@pytest.mark.requirement("SCH-14")
def test_beat_holds_only_a_handful_of_fixed_entries_and_no_result_is_kept():
    entries = {"dispatch", "sweep", "sweep-connections", "make-months", "check-chains", "watch-catalog", "forget-chats"}
    entries |= {"watch", "watch-credits", "ping", "deliver-due", "erase-old", "roll-up"}
    assert set(settings.CELERY_BEAT_SCHEDULE) == entries
    assert settings.CELERY_TASK_IGNORE_RESULT
    assert not settings.CELERY_TASK_ACKS_LATE
    assert current_app.conf.result_backend is None


@pytest.mark.requirement("CRASH-8")
def test_only_json_is_accepted_from_the_broker():
    assert settings.CELERY_ACCEPT_CONTENT == ["json"]
    assert settings.CELERY_TASK_SERIALIZER == "json"
