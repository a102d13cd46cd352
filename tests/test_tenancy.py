"""Ids that do not stand in an address: in queries, forms, caches. Another team's is like one that nobody has."""

import ast
import re
from pathlib import Path
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Team
from audit.actions import store
from audit.clock import app_now
from audit.models import Event
from personas.models import Flow, Run
from tests.audit.builders import make_call
from tests.definable.test_addresses import database
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow, make_persona
from tests.route_samples import a_connection, a_flow, a_persona, a_run
from tests.routes import team_routes
from tests.test_authorisation_matrix import comparable
from tests.test_input import SOURCES
from vault.box import key_id
from vault.content import open_content, seal_content
from vault.errors import Unreadable
from vault.keys import content_key_by_id, team_key, team_key_by_id
from vault.models import TeamKey

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parent.parent

# Everything a view reads from a query or a form by name, and what it is.
READ_BY_HAND = {
    "q": "text",
    "after": "a place in a list",
    "entry": "an event",
    "newer": "a signed place in the log",
    "older": "a signed place in the log",
    "in": "a country of the catalog",
    "content": "a switch",
    "stage": "a number",
    "format": "a word",
    "sort": "a word",
    "fallback": "text for a field of a form",
    "cron": "text",
    "zone": "a word",
    "team": "a team",
    "once": "a key of this form",
    "preview": "a signed change",
    "seen": "a mark of what a policy keeps",
    "do": "a word",
    "stages": "a number",
    "only": "a word",
    "verdict": "a word",
    "before": "a place in a list",
    "with": "a number",
    "kinds": "words",
    "as": "a word",
    "webhooks": "connections, found among the team's own",
    "other": "a run, found among those of the same flow",
    "run": "a run, found among those of the same flow",
    "persona": "a persona, found among the team's",
    "at": "a message, found in its chat",
    "m": "a message, found in its chat",
    "said": "a place to go on from within one's own messages",
    "edit": "a message of the page",
    "parent": "a message, found in its chat",
    "which": "a word",
    "why": "a reason, in words",
    "back": "a word",
    "rows": "a word",
    "code": "what a provider gave a member's browser: sealed, and of use to who set out alone",
    "state": "an id, signed by us and looked up among the team's",
    "error": "whether there is one",
    "tried": "the query of an address of this team's page",
    "model": "a model: held against the persona's, or text for a field of a form",
    "text": "text",
    "number": "the number of a version of the persona in the address",
    "connection": "an id, looked up among the team's",
    "pause": "yes or no",
    "inputs": "text",
    "field": "a field of the form on the page",
    "show": "a word",
}
READ = re.compile(r"""request\.(?:GET|POST)(?:\.get|\.getlist)?[\[(]["']([\w-]+)""")


@pytest.fixture
def team() -> Team:
    return make_team()


@pytest.fixture
def owner(client, team) -> Client:
    client.force_login(owner_of(team))
    return client


def same(owner: Client, url: str, name: str, foreign: object, *, status: int) -> None:
    """Ask with another team's id and with nobody's; the answers differ in the id alone."""
    nobodys = str(uuid4()) if len(str(foreign)) == 36 else "nothing-has-this-name"
    answers = [(owner.get(url, {name: value}), str(value)) for value in (foreign, nobodys)]
    assert [answer.status_code for answer, _ in answers] == [status, status]
    one, other = (comparable(answer)[1].replace(value, "ID") for answer, value in answers)
    assert one == other


# --- queries and forms ------------------------------------------------------------------


@pytest.mark.requirement("TEN-5")
def test_every_name_that_a_view_reads_is_known_here():
    views = [path for path in SOURCES if path.stem.endswith("views") or path.parent.name == "views"]
    read = {name for path in views for name in READ.findall(path.read_text())}
    assert read - READ_BY_HAND.keys() == set()


@pytest.mark.requirement("TEN-5")
@pytest.mark.parametrize(("name", "make"), [("flow", a_flow), ("persona", a_persona), ("after", a_run)])
def test_a_filter_of_runs_by_a_foreign_thing_finds_what_nobodys_would(owner, team, name, make):
    same(owner, reverse("run_list", args=[team.slug]), name, make(make_team()), status=200)


@pytest.mark.requirement("TEN-5")
@pytest.mark.parametrize("name", ["run", "call", "persona", "actor"])
def test_a_filter_of_the_log_by_a_foreign_thing_finds_what_nobodys_would(owner, team, name):
    make_call(team)
    theirs = make_team()
    started, _ = make_call(theirs, run_id=uuid4())
    foreign = {"run": started.run_id, "call": started.call_id, "persona": started.persona_id, "actor": uuid4()}
    same(owner, reverse("event_list", args=[team.slug]), name, foreign[name], status=200)


@pytest.mark.requirement("TEN-5")
@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true", "HX-Request-Type": "partial"}])
def test_a_foreign_entry_of_the_log_is_not_found(owner, team, headers):
    started, _ = make_call(make_team())
    url = reverse("event_list", args=[team.slug])
    answers = [owner.get(url, {"entry": str(value)}, headers=headers) for value in (started.pk, uuid4())]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert comparable(answers[0]) == comparable(answers[1])


@pytest.mark.requirement("TEN-5")
def test_content_of_a_foreign_event_is_not_opened_nor_recorded_as_read(owner, team):
    started, _ = make_call(make_team())
    assert owner.get(reverse("event_detail", args=[team.slug, started.pk]), {"content": "1"}).status_code == 404
    assert not Event.objects.filter(action="audit.content.read").exists()


@pytest.mark.requirement("TEN-5")
@pytest.mark.parametrize("kind", ["prompt", "tool"])
def test_a_flow_cannot_name_another_teams_persona(owner, team, kind):
    theirs = make_persona(make_team())
    mine = make_persona(team)
    stage = {"kind": kind, "name": "one", "template": "x", "tool": "get_credits"}

    def post(persona: str):
        form = {"name": "F", "stages": "1", "do": "save", **{f"stage-0-{name}": value for name, value in stage.items()}}
        return owner.post(reverse("flow_create", args=[team.slug]), form | {"stage-0-persona": persona})

    foreign, nobodys = post(str(theirs.pk)), post(str(uuid4()))
    assert (foreign.status_code, nobodys.status_code) == (422, 422)
    assert theirs.name not in re.sub(r"<option[^>]*>Writer</option>", "", foreign.content.decode())
    assert not Flow.objects.exists()
    assert post(str(mine.pk)).status_code == 302


@pytest.mark.requirement("TEN-5")
def test_a_persona_is_lent_no_foreign_connection(owner, team):
    persona, theirs = make_persona(team), a_connection(make_team())
    urls = [reverse("persona_scopes", args=[team.slug, persona.slug, pk]) for pk in (theirs, uuid4())]
    answers = [owner.post(url, {"tools": ["get_credits"]}) for url in urls]
    assert [answer.status_code for answer in answers] == [404, 404]


@pytest.mark.requirement("TEN-5")
def test_a_foreign_team_is_switched_to_by_nobody(owner):
    answers = [owner.post(reverse("team_switch"), {"team": slug}) for slug in (make_team().slug, "never", "a\0b")]
    assert [answer.status_code for answer in answers] == [404, 404, 404]


@pytest.mark.requirement("TEN-5")
def test_the_key_of_a_form_is_a_teams_own(owner, team):
    """Two teams may send the same key; each gets a run of its own."""
    flows = [make_flow(team), make_flow(make_team())]
    for flow in flows:
        owner.force_login(owner_of(flow.team))
        owner.post(reverse("flow_run", args=[flow.team.slug, flow.slug]), {"once": "thesame"})
    assert sorted(Run.objects.values_list("team_id", flat=True)) == sorted(flow.team_id for flow in flows)


@pytest.mark.requirement("HDR-5")
def test_looking_at_real_things_changes_nothing(owner, team):
    """Every page with ids that exist, twice. Reading content is the exception, and is not asked for here."""
    addresses = [route.url(team, route.values(team)) for route in team_routes()]
    before = database()

    statuses = {owner.get(address).status_code for address in addresses * 2}

    assert statuses <= {200, 302, 405}
    assert {table: rows for table, rows in database().items() if rows != before[table]} == {}


# --- caches -----------------------------------------------------------------------------


def cached_functions(source: str) -> list[str]:
    """Functions whose answers a process keeps."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    kept = ("cache", "lru_cache", "functools.cache", "functools.lru_cache")
    return [
        node.name
        for node in functions
        if any(ast.unparse(mark).partition("(")[0] in kept for mark in node.decorator_list)
    ]


# Each is the same for every team: files, registries, schemas, clients without a key.
SAME_FOR_ALL = {
    "accounts/zones.py",
    "definable/health.py",
    "integrations/catalog.py",  # which integrations say what their models are
    "integrations/clients.py",
    "integrations/outgoing.py",  # the authorities that this machine trusts
    "integrations/registry.py",
    "integrations/scopes.py",  # by the text of a grant, which means the same to every team
    "integrations/standing.py",
    "integrations/openrouter/connections.py",
    "vault/roots.py",
}


@pytest.mark.requirement("TEN-9")
def test_what_a_process_keeps_is_the_same_for_every_team():
    keeping = {str(path.relative_to(ROOT)) for path in SOURCES if cached_functions(path.read_text())}
    assert keeping - SAME_FOR_ALL == set()
    assert cached_functions("@cache\ndef f(team): ...") == ["f"]


@pytest.mark.requirement("TEN-9")
def test_a_kept_key_serves_its_own_team_alone(team, django_capture_on_commit_callbacks):
    theirs = make_team()
    with django_capture_on_commit_callbacks(execute=True):
        content = store(seal_content(team_id=team.pk, subject=uuid4(), kind="x", data=b"said", at=app_now()))
        assert open_content(content=content) == b"said"
        key, parent = key_id(content.ciphertext), team_key(team.pk, TeamKey.Purpose.CONTENT)

    assert content_key_by_id(team.pk, key).id == key
    with pytest.raises(Unreadable):
        content_key_by_id(theirs.pk, key)
    with pytest.raises(Unreadable):
        team_key_by_id(theirs.pk, TeamKey.Purpose.CONTENT, parent.id)
