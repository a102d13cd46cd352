"""
Every team page, every method, every role: who gets in, and who learns nothing.

Made from the resolver, so a new page is covered when it is mounted. An id in its address needs a
line in tests/route_samples.py.
"""

import re
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Team
from accounts.permissions import ROLE_PERMISSIONS, Permission, Role, allows
from tests.factories import make_member, make_stranger, make_team, owner_of
from tests.route_samples import NOBODYS
from tests.routes import METHODS, Route, all_routes, ask, team_routes

ROUTES = team_routes()
CELLS = [(route, method) for route in ROUTES for method in METHODS]
each_route = pytest.mark.parametrize("route", ROUTES, ids=str)
each_cell = pytest.mark.parametrize(("route", "method"), CELLS, ids=[f"{route}-{method}" for route, method in CELLS])

NOT_FOUND, FORBIDDEN, WRONG_METHOD = 404, 403, 405
# A view permission never writes, except that reading content is itself an event and a session may be touched.
WRITES = re.compile(r"^\s*(INSERT INTO|UPDATE|DELETE FROM)\s+\"?(?!django_session|audit_event)", re.IGNORECASE)


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def answer(client: Client, route: Route, method: str, team: Team, values: dict):
    """Ask, then undo what the page did, so that every cell starts from the same rows."""
    with transaction.atomic():
        response = ask(client, method, route.url(team, values))
        transaction.set_rollback(True)
    return response


def comparable(response) -> tuple[int, str]:
    """What an outsider can compare: everything but the token that differs on each load."""
    return response.status_code, re.sub(
        r'(csrfmiddlewaretoken" value="|X-CSRFToken": ")[^"]+', "", response.content.decode()
    )


@pytest.mark.requirement("AUTHZ-1")
def test_there_are_team_pages_to_check():
    assert {"member_list", "member_role"} <= {route.name for route in ROUTES}


@pytest.mark.requirement("AUTHZ-1")
def test_every_team_page_names_its_permission_so_an_unlisted_one_denies():
    assert [route.path for route in ROUTES if not isinstance(getattr(route.view, "permission", None), Permission)] == []


@pytest.mark.requirement("AUTHZ-1")
def test_only_the_ways_in_and_the_health_pages_are_public():
    public = {route.name for route in all_routes() if not getattr(route.view, "login_required", True)}

    assert public - {"healthz", "readyz"} == {
        "account_login",
        "account_logout",
        "account_signup",
        "account_inactive",
        "account_confirm_email",
        "account_email_verification_sent",
        "account_reset_password",
        "account_reset_password_done",
        "account_reset_password_from_key",
        "account_reset_password_from_key_done",
        "first_owner",
        "invitation_accept",
        "sign_in_link",
    }


@pytest.mark.requirement("AUTHZ-1")
@pytest.mark.django_db
@each_cell
def test_each_role_gets_exactly_what_its_permissions_say(route: Route, method: str):
    team = make_team()
    values = route.values(team)
    offered = answer(signed_in(owner_of(team)), route, method, team, values).status_code != WRONG_METHOD

    for role in Role:
        status = answer(signed_in(make_member(team, role)), route, method, team, values).status_code
        if not offered:
            assert status in {WRONG_METHOD, FORBIDDEN}, role
        elif allows(role, route.permission):
            assert status not in {FORBIDDEN, NOT_FOUND, WRONG_METHOD}, role
            assert status < 500, role
        else:
            assert status == FORBIDDEN, role


@pytest.mark.requirement("AUTHZ-1", "TEN-5")
@pytest.mark.django_db
@each_cell
def test_a_stranger_cannot_tell_a_team_from_none(route: Route, method: str):
    team = make_team()
    values = route.values(team)
    nowhere = Team(slug="no-such-team")
    client = signed_in(make_stranger())

    theirs = answer(client, route, method, team, values)

    assert theirs.status_code in {NOT_FOUND, WRONG_METHOD}
    assert comparable(theirs) == comparable(answer(client, route, method, nowhere, values))


@pytest.mark.requirement("AUTHZ-1")
@pytest.mark.django_db
@each_cell
def test_somebody_signed_out_is_sent_to_sign_in(route: Route, method: str):
    team = make_team()

    response = answer(Client(), route, method, team, route.values(team))

    target = response.headers.get("HX-Redirect") or response.headers["Location"]
    assert response.status_code == (401 if method == "HX" else 302)
    assert target.startswith("/account/login/?next=/")


@pytest.mark.requirement("AUTHZ-2")
@pytest.mark.django_db
@each_route
def test_a_refusal_touches_nothing_but_session_person_and_membership(route: Route):
    team = make_team()
    url = route.url(team, route.values(team))
    without = next((role for role in Role if not allows(role, route.permission)), None)
    clients = [signed_in(make_stranger())] + ([signed_in(make_member(team, without))] if without else [])

    for client in clients:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            client.post(url, b"{not json", content_type="application/json")
        tables = {
            table for query in queries for table in re.findall(r'(?:FROM|INTO|UPDATE|JOIN) "(\w+)"', query["sql"])
        }
        assert tables <= {"django_session", "accounts_user", "accounts_membership", "accounts_team", "accounts_plan"}


@pytest.mark.requirement("AUTHZ-3")
@pytest.mark.django_db
@each_route
def test_a_right_to_view_writes_nothing(route: Route):
    if not route.permission.name.endswith(("_VIEW", "_CONTENT", "_EXPORT")):
        return
    team = make_team()
    values = route.values(team)
    client = signed_in(owner_of(team))

    for method in METHODS:
        with CaptureQueriesContext(connection) as queries:
            answer(client, route, method, team, values)
        assert [query["sql"] for query in queries if WRITES.match(query["sql"])] == []


ORIGINS = ("create", "invite")


@pytest.mark.requirement("AUTHZ-3")
def test_changing_a_thing_needs_what_making_it_needs():
    """Edit, duplicate, restore, retry and delete ask for the right to create, or one that fewer people hold."""
    holders = {permission: {role for role in Role if allows(role, permission)} for permission in Permission}
    origins = {noun: route for route in ROUTES for noun, _, verb in [route.name.partition("_")] if verb in ORIGINS}
    changes = [route for route in ROUTES if not route.permission.name.endswith(("_VIEW", "_CONTENT", "_EXPORT"))]

    looser = [
        route.name
        for route in changes
        if (origin := origins.get(route.name.partition("_")[0]))
        and route.permission not in {Permission.TOOL_RUN, Permission.RUN_START, Permission.RUN_STOP}
        and not holders[route.permission] <= holders[origin.permission]
    ]

    assert looser == []


@pytest.mark.requirement("TEN-5")
@pytest.mark.django_db
@each_cell
def test_another_teams_object_looks_like_none(route: Route, method: str):
    team, theirs = make_team(), make_team()
    client = signed_in(owner_of(team))
    mine, foreign = route.values(team), route.values(theirs)

    for argument in set(route.ids) - set(NOBODYS):
        answered = answer(client, route, method, team, mine | {argument: foreign[argument]})
        at_random = answer(client, route, method, team, mine | {argument: like(foreign[argument])})
        assert answered.status_code in {NOT_FOUND, WRONG_METHOD}, argument
        assert comparable(answered) == comparable(at_random), argument


def like(value):
    """Return an id of the same kind that nobody has."""
    if isinstance(value, UUID):
        return uuid4()
    return 999_999_999 if isinstance(value, int) else "nothing-has-this-name"


@pytest.mark.requirement("AUTHZ-1")
def test_the_table_of_roles_is_whole():
    assert set(ROLE_PERMISSIONS) == set(Role)
    assert ROLE_PERMISSIONS[Role.OWNER] == frozenset(Permission)
