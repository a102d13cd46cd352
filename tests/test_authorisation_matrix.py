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
each_route = pytest.mark.parametrize("route", ROUTES, ids=str)

NOT_FOUND, FORBIDDEN, WRONG_METHOD = 404, 403, 405
# A view permission never writes, except that reading content is itself an event and a session may be touched.
WRITES = re.compile(r'^\s*(INSERT INTO|UPDATE|DELETE FROM)\s+(?!"?(django_session|audit_event)\b)', re.IGNORECASE)


def only_looks(route: Route) -> bool:
    return getattr(route.view, "permission", Permission.SETTINGS_EDIT).name.endswith(("_VIEW", "_CONTENT", "_EXPORT"))


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
    assert unguarded(ROUTES) == []


@pytest.mark.requirement("AUTHZ-1")
def test_a_planted_page_without_a_permission_is_named():
    planted = Route("planted", "t/<slug:team_slug>/planted/", lambda request, team_slug: None, ("team_slug",))

    assert unguarded([*ROUTES, planted]) == ["t/<slug:team_slug>/planted/"]


def unguarded(routes: list[Route]) -> list[str]:
    return [route.path for route in routes if not isinstance(getattr(route.view, "permission", None), Permission)]


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
        "trigger_in",  # asks for a signature instead
    }


@pytest.mark.requirement("AUTHZ-1")
@pytest.mark.django_db
@each_route
def test_each_role_gets_exactly_what_its_permissions_say(route: Route):
    team = make_team()
    values = route.values(team)
    clients = {role: signed_in(make_member(team, role)) for role in Role}

    for method in METHODS:
        statuses = {role: answer(client, route, method, team, values).status_code for role, client in clients.items()}
        offered = statuses[Role.OWNER] != WRONG_METHOD
        for role, status in statuses.items():
            where = (method, role)
            if not offered:
                assert status in {WRONG_METHOD, FORBIDDEN}, where
            elif allows(role, route.permission):
                assert status not in {FORBIDDEN, NOT_FOUND, WRONG_METHOD}, where
                assert status < 500, where
            else:
                assert status == FORBIDDEN, where


@pytest.mark.requirement("AUTHZ-1", "TEN-5")
@pytest.mark.django_db
@each_route
def test_a_stranger_cannot_tell_a_team_from_none(route: Route):
    team, nowhere = make_team(), Team(slug="no-such-team")
    values = route.values(team)
    client = signed_in(make_stranger())

    for method in METHODS:
        theirs = answer(client, route, method, team, values)
        assert theirs.status_code in {NOT_FOUND, WRONG_METHOD}, method
        assert comparable(theirs) == comparable(answer(client, route, method, nowhere, values)), method


@pytest.mark.requirement("AUTHZ-1")
@pytest.mark.django_db
@each_route
def test_somebody_signed_out_is_sent_to_sign_in(route: Route):
    team = make_team()
    values = route.values(team)

    for method in METHODS:
        response = answer(Client(), route, method, team, values)
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
@pytest.mark.parametrize("route", [route for route in ROUTES if only_looks(route)], ids=str)
def test_a_right_to_view_writes_nothing(route: Route):
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
    changes = [route for route in ROUTES if not only_looks(route)]

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
@pytest.mark.parametrize("route", [route for route in ROUTES if set(route.ids) - set(NOBODYS)], ids=str)
def test_another_teams_object_looks_like_none(route: Route):
    team, theirs = make_team(), make_team()
    client = signed_in(owner_of(team))
    mine, foreign = route.values(team), route.values(theirs)

    for argument in set(route.ids) - set(NOBODYS):
        for method in METHODS:
            answered = answer(client, route, method, team, mine | {argument: foreign[argument]})
            at_random = answer(client, route, method, team, mine | {argument: like(foreign[argument])})
            assert answered.status_code in {NOT_FOUND, WRONG_METHOD}, (method, argument)
            assert comparable(answered) == comparable(at_random), (method, argument)


def like(value):
    """Return an id of the same kind that nobody has."""
    if isinstance(value, UUID):
        return uuid4()
    return 999_999_999 if isinstance(value, int) else "nothing-has-this-name"


@pytest.mark.requirement("AUTHZ-1")
def test_the_table_of_roles_is_whole():
    assert set(ROLE_PERMISSIONS) == set(Role)
    assert ROLE_PERMISSIONS[Role.OWNER] == frozenset(Permission)
