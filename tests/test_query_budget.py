"""How many questions a page asks the database: few, and no more for a thousand rows than for three."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import Membership, Team
from audit.ids import uuid7
from tests.audit.builders import make_event
from tests.browser.addresses import pages
from tests.factories import make_team, make_user, owner_of
from tests.integrations.questions import make_approval
from tests.personas.builders import make_flow, make_persona, make_schedule
from tests.personas.chat.builders import make_chat
from tests.route_samples import a_connection, a_run
from tests.routes import Route

MOST_QUERIES = 12
FEW, MANY = 3, 1000

pytestmark = pytest.mark.django_db


def queries(client: Client, url: str) -> list[str]:
    """What a page asks the database once every cache is warm."""
    client.get(url)
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(url)
    assert answer.status_code == 200
    return [query["sql"] for query in captured.captured_queries]


@pytest.mark.parametrize("route", [page for page in pages() if "team_slug" in page.arguments], ids=str)
def test_a_page_asks_the_database_twelve_times_at_most(client, route: Route):
    team = make_team()
    client.force_login(owner_of(team))
    asked = queries(client, route.url(team, route.values(team)))
    assert len(asked) <= MOST_QUERIES, "\n".join(asked)


# --- rows -------------------------------------------------------------------------------


def copies(row: Model, count: int, change: Callable[[int], dict[str, Any]] = lambda number: {}) -> list[Model]:
    """More rows like one that is there, which is quicker than making each by its action."""
    values = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    made = [type(row)(**values | {"id": uuid7()} | change(number)) for number in range(count)]
    return type(row)._default_manager.bulk_create(made)


def personas(team: Team, count: int) -> None:
    copies(make_persona(team), count - 1, lambda number: {"slug": f"copy-{number}", "origin": uuid7()})


def flows(team: Team, count: int) -> None:
    flow = make_flow(team)
    schedule = make_schedule(flow)
    for copy in copies(flow, count - 1, lambda number: {"slug": f"copy-{number}", "origin": uuid7()}):
        copies(schedule, 1, lambda _, flow=copy: {"flow_id": flow.pk})


def runs(team: Team, count: int) -> None:
    run = team.runs.get(pk=a_run(team))
    for copy in copies(run, count - 1, lambda number: {"idempotency_key": f"copy-{number}"}):
        copies(run.stages.get(), 1, lambda _, run=copy: {"run_id": run.pk})


def members(team: Team, count: int) -> None:
    people = copies(make_user(), count, lambda number: {"email": f"copy{number}@{team.slug}.test"})
    Membership.objects.bulk_create(Membership(team=team, user=user, role="member") for user in people)


def connections(team: Team, count: int) -> None:
    row = team.connections.get(pk=a_connection(team))
    copies(row, count - 1, lambda number: {"label": f"Copy {number}"})


def events(team: Team, count: int) -> None:
    copies(make_event(team), count - 1)


def approvals(team: Team, count: int) -> None:
    row = make_approval(team)
    copies(row, count - 1, lambda number: {"state": "refused", "stage_id": None} if number % 2 else {"stage_id": None})


def chats(team: Team, count: int) -> None:
    copies(make_chat(team), count - 1)


LISTS = [
    ("chat_list", chats),
    ("persona_list", personas),
    ("flow_list", flows),
    ("run_list", runs),
    ("approval_list", approvals),
    ("member_list", members),
    ("integration_list", connections),
    ("integration_detail", connections),
    ("event_list", events),
]


@pytest.mark.parametrize(("page", "fill"), LISTS, ids=[page for page, _ in LISTS])
def test_a_list_asks_as_often_for_a_thousand_rows_as_for_three(client, page, fill):
    asked = {}
    for count in (FEW, MANY):
        team = make_team()
        fill(team, count)
        client.force_login(owner_of(team))
        names = {"integration": "openrouter"} if page == "integration_detail" else {}
        asked[count] = queries(client, reverse(page, kwargs={"team_slug": team.slug} | names))
    assert len(asked[MANY]) == len(asked[FEW]), "\n".join(asked[MANY])
    assert len(asked[FEW]) <= MOST_QUERIES, "\n".join(asked[FEW])
