"""The plan page: this month's account, what a call takes, and the ledger."""

import re
from datetime import UTC, datetime, timedelta
from io import StringIO
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts import credits, queries
from accounts.credits import Reservation
from accounts.models import CreditEntry, Plan, Team, User
from accounts.permissions import Role
from audit.clock import app_now
from audit.ids import uuid7
from audit.models import Event
from integrations import metering
from integrations.models import Call, Connection
from tests.factories import make_member, make_stranger, make_team, owner_of
from tests.route_samples import a_connection

pytestmark = pytest.mark.django_db


def show(team: Team, user: User | None = None, **query: str):
    client = Client()
    client.force_login(user or owner_of(team))
    return client.get(reverse("plan", args=[team.slug]), query)


def words(response) -> str:
    """The text of the page's main part, with single spaces."""
    main = response.content.decode().partition("<main")[2].partition("</main>")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", "<main" + main).split())


def plan_of(monthly_credits: int) -> Plan:
    return Plan.objects.create(key="some", name="Some", monthly_credits=monthly_credits, position=9)


def hold(team: Team, amount: int) -> tuple[UUID, Reservation]:
    call = uuid7()
    return call, credits.reserve(team=team, credits=amount, call_id=call)


def settle(team: Team, call: UUID, held: Reservation, spent: int) -> None:
    credits.settle(
        team_id=team.pk, account_id=held.account_id, reserved=held.credits, spent=spent, call_id=call, at=app_now()
    )


def make_call(team: Team, amount: int, *, state: str = "unknown") -> Call:
    """Write a call that holds platform credits, as the call path does."""
    call, held = hold(team, amount)
    return Call.objects.create(
        id=call,
        team=team,
        connection=Connection.objects.get(pk=a_connection(team)),
        tool="create_chat_completion",
        state=state,
        actor_kind="user",
        actor_id="somebody",
        actor_name="owner@example.test",
        persona_name="Reader",
        request_sha256="0" * 64,
        credit_account_id=held.account_id,
        credits_reserved=amount,
        message="The worker ended before the answer came.",
        started_at=held.at,
        finished_at=held.at + timedelta(seconds=1) if state != "sent" else None,
    )


# --- the month --------------------------------------------------------------------------


def test_the_page_shows_what_was_granted_spent_held_and_is_left():
    team = make_team()
    settle(team, *hold(team, 10), spent=4)
    hold(team, 7)
    text = words(show(team))
    for figure in (
        "11 of 5,000 platform credits used or held",
        "Granted 5,000",
        "Spent 4",
        "Held 7 by calls under way",
        "Left 4,989",
    ):
        assert figure in text


def test_a_month_without_an_account_shows_the_plans_grant():
    team = make_team()
    text = words(show(team))
    assert "0 of 5,000 platform credits used or held" in text
    assert "Left 5,000 for new calls" in text
    assert "Nothing used this month yet" in text
    assert not team.credit_accounts.exists()


def test_a_larger_plan_shows_at_once():
    team = make_team()
    hold(team, 1)
    team.plan = Plan.objects.get(key="pro")
    team.save(update_fields=["plan"])
    assert "1 of 250,000 platform credits used or held" in words(show(team))


@pytest.mark.parametrize(("zone", "said"), [("UTC", "1 Dec 2026, 00:00"), ("Asia/Tokyo", "1 Dec 2026, 09:00")])
def test_the_reset_is_in_the_readers_zone(clock, zone: str, said: str):
    team = make_team()
    owner = owner_of(team)
    owner.zone = zone
    owner.save(update_fields=["zone"])
    clock(seconds=(datetime(2026, 11, 20, tzinfo=UTC) - app_now()).total_seconds())
    response = show(team, owner)
    assert said in words(response)
    assert 'datetime="2026-12-01T00:00:00Z"' in response.content.decode()


@pytest.mark.parametrize(
    ("used", "tone", "said"),
    [
        (79, "", ""),
        (80, "warn", "80% of this month&#x27;s platform credits are used or held."),
        (94, "warn", "94% of this month&#x27;s platform credits are used or held."),
        (95, "bad", "5 platform credits are left: nearly all are used or held."),
        (100, "bad", "All platform credits of this month are used or held."),
    ],
)
def test_a_month_nearly_used_up_says_so(used: int, tone: str, said: str):
    team = make_team(plan=plan_of(100))
    hold(team, used)
    page = show(team).content.decode()
    assert re.findall(r'class="notice notice-(\w+)"', page) == ([tone] if tone else [])
    assert said in page


def test_a_plan_that_grants_nothing_says_so():
    assert "All platform credits of this month are used or held." in words(show(make_team(plan=plan_of(0))))


# --- prices and plans -------------------------------------------------------------------


def test_the_price_rule_and_its_example_are_what_is_charged():
    text = words(show(make_team()))
    assert "A tool that only reads takes 1 platform credit. A call to a model takes 2, and 1 more for" in text
    assert "every started 1,000 tokens, in and out together" in text
    assert "2,900 tokens in and 500 out are 3,400 tokens, counted as 4 × 1,000. 2 + 4 = 6 platform credits" in text
    assert metering.price(Plan.objects.get(key="starter"), 3_400) == 6


def test_another_price_of_the_plan_changes_the_words():
    plan = plan_of(5_000)
    plan.read_credits, plan.model_credits, plan.tokens_per_credit = 3, 5, 500
    plan.save()
    text = words(show(make_team(plan=plan)))
    assert "A tool that only reads takes 3 platform credits." in text
    assert "A call to a model takes 5, and 1 more for every started 500 tokens" in text
    assert "counted as 7 × 500. 5 + 7 = 12 platform credits" in text


def test_every_plan_is_listed_and_ones_own_is_marked():
    text = words(show(make_team()))
    assert (
        "Starter Your plan Free. All tools. 1 to read; 2 for a model, and 1 per 1,000 tokens 5,000 now Pro For" in text
    )
    assert "250,000 a member Change to Pro" in text
    assert "does not roll over" in text


def test_credits_never_stand_alone():
    team = make_team()
    make_call(team, 3)
    text = words(show(team))
    assert re.findall(r"(?i)(?<!platform )\bcredits?\b", text) == []


# --- the ledger -------------------------------------------------------------------------


def test_the_ledger_says_what_happened_the_newest_first():
    team = make_team()
    settle(team, *hold(team, 10), spent=4)
    text = words(show(team))
    lines = ["Charged, nothing held any more", "Held for a call", "Granted by the plan"]
    places = [text.index(line) for line in lines]
    assert places == sorted(places)


def test_the_ledger_pages_by_its_last_line_and_shows_each_once():
    team = make_team()
    for _ in range(queries.LEDGER_PAGE):
        hold(team, 1)
    first = show(team)
    (after,) = re.findall(r"[?]after=([^#\"]+)", first.content.decode())
    second = show(team, after=after)
    assert (f"{queries.LEDGER_PAGE} shown" in words(first), "1 shown Newest" in words(second)) == (True, True)
    assert ["Granted by the plan" in words(page) for page in (first, second)] == [False, True]


def test_lines_of_one_moment_are_each_shown_once(monkeypatch):
    monkeypatch.setattr(queries, "LEDGER_PAGE", 3)
    team, call = make_team(), uuid7()
    held = credits.reserve(team=team, credits=1, call_id=call)
    account = team.credit_accounts.get()
    for _ in range(9):
        CreditEntry.objects.create(team=team, account=account, at=held.at, kind="grant", credits=0)
    shown, page = [], queries.ledger_page(account=account)
    while page.older:
        shown, page = shown + page.entries, queries.ledger_page(account=account, after=page.older)
    assert shown + page.entries == list(account.entries.order_by("-at", "-id"))


@pytest.mark.parametrize("after", ["'; --", "1.2", "9" * 50 + "." + "0" * 32, "x." + "0" * 32, "."])
def test_a_place_in_the_ledger_that_is_none_shows_the_newest(after: str):
    team = make_team()
    hold(team, 1)
    assert "Held for a call" in words(show(team, after=after))


def test_before_the_first_line_there_is_none():
    team = make_team()
    hold(team, 1)
    assert "No older line this month" in words(show(team, after=f"0.{uuid7().hex}"))


def test_another_teams_lines_are_not_ours():
    team, theirs = make_team(), make_team()
    hold(theirs, 4_321)
    hold(team, 1)
    assert "4,321" in words(show(theirs))
    assert "4,321" not in words(show(team))


def test_last_months_lines_are_not_this_months(clock):
    team = make_team()
    hold(team, 1)
    clock(days=31)
    assert "Nothing used this month yet" in words(show(team))


# --- unknown calls ----------------------------------------------------------------------


@pytest.mark.requirement("BUD-7")
def test_unknown_calls_are_named_with_what_they_hold():
    team = make_team()
    make_call(team, 3)
    make_call(team, 4)
    make_call(team, 5, state="sent")
    text = words(show(team))
    assert "Held by unknown calls 7 platform credits, 2 calls" in text
    assert "Held 12 7 by unknown calls" in text
    assert text.count("The worker ended before the answer came.") == 2


def test_another_teams_unknown_call_is_not_named():
    make_call(make_team(), 3)
    assert "unknown calls" not in words(show(make_team()))


# --- who may look -----------------------------------------------------------------------


@pytest.mark.parametrize("role", list(Role))
def test_every_role_sees_the_plan_and_only_readers_of_the_log_get_links_into_it(role: Role):
    team = make_team()
    call = make_call(team, 3)
    response = show(team, make_member(team, role))
    assert response.status_code == 200
    link = f"{reverse('event_list', args=[team.slug])}?call={call.pk}"
    assert (link in response.content.decode()) == (role != Role.MEMBER)
    assert "create_chat_completion" in words(response)


def test_a_stranger_does_not_find_the_page():
    assert show(make_team(), make_stranger()).status_code == 404


def test_the_navigation_leads_to_the_plan():
    team = make_team()
    page = show(team).content.decode()
    assert re.search(rf'<a href="/t/{team.slug}/plan/" aria-current="page">.*?<span>Plan</span>', page)


@pytest.mark.parametrize("calls", [1, 8])
def test_the_page_takes_the_same_few_queries_for_any_number_of_lines(calls: int):
    team = make_team()
    for _ in range(calls):
        make_call(team, 1)
    client = Client()
    client.force_login(owner_of(team))
    with CaptureQueriesContext(connection) as asked:
        client.get(reverse("plan", args=[team.slug]))
    # session, person, membership, clock, account, unknown calls and their sum, plans, packs, lines, their calls, teams
    assert len(asked) == 12


# --- another plan, a pack ---------------------------------------------------------------


def pages_of(team: Team) -> list[str]:
    return [reverse("plan_change", args=[team.slug, "pro"]), reverse("pack_add", args=[team.slug, "pack-10k"])]


def owner_client(team: Team) -> Client:
    client = Client()
    client.force_login(owner_of(team))
    return client


def test_changing_the_plan_says_what_it_does_and_does_it():
    team = make_team()
    make_member(team)
    change, _ = pages_of(team)
    client = owner_client(team)
    credits.open_period(team=team)
    text = words(client.get(change))
    assert "The team gets 500,000 platform credits a month, 250,000 for each of 2 members." in text
    assert "It counts at once: 495,000 more are there in" in text
    assert "A call takes what it takes now." in text
    assert not Event.objects.filter(action="accounts.plan.changed").exists()
    assert client.post(change).status_code == 302
    assert team.credit_accounts.get().granted == 500_000
    event = Event.objects.get(action="accounts.plan.changed", team_id=team.pk)
    assert (event.target_name, event.details) == ("Pro", {"from": "starter", "to": "pro"})
    assert client.post(change).status_code == 422


def test_a_smaller_plan_says_that_this_month_keeps_what_it_has():
    team = make_team(plan=Plan.objects.get(key="pro"))
    text = words(owner_client(team).get(reverse("plan_change", args=[team.slug, "starter"])))
    assert "keeps its 250,000, so nothing that is used or held is taken away; from 1 " in text


def test_another_price_rule_is_told_before_the_change():
    plan = plan_of(7)
    plan.model_credits = 9
    plan.save()
    team = make_team()
    text = words(owner_client(team).get(reverse("plan_change", args=[team.slug, plan.key])))
    assert "From the next call on, a tool that only reads takes 1, and a call to a model 9 and 1 more" in text


@pytest.mark.requirement("BUD-13")
def test_a_pack_is_added_once_however_often_its_form_is_sent():
    team = make_team()
    _, add = pages_of(team)
    client = owner_client(team)
    page = client.get(add).content.decode()
    assert "This month has 15,000 instead of 5,000 platform credits" in page
    (once,) = re.findall(r'name="once" value="([^"]+)"', page)
    assert [client.post(add, {"once": once}).status_code for _ in range(3)] == [302, 422, 422]
    assert team.credit_accounts.get().granted == 15_000
    assert Event.objects.filter(action="accounts.pack.added", team_id=team.pk).count() == 1
    assert "Added: Pack of 10,000" in words(show(team))


@pytest.mark.parametrize("once", ["", "x", "0" * 400])
def test_a_pack_without_its_forms_key_is_not_added(once: str):
    team = make_team()
    assert owner_client(team).post(pages_of(team)[1], {"once": once}).status_code == 422
    assert not team.credit_entries.filter(kind="pack").exists()


def test_where_the_operator_decides_nobody_in_a_team_can(settings):
    settings.PLANS_BY_TEAMS = False
    team = make_team()
    for page in pages_of(team):
        assert owner_client(team).get(page).status_code == 404
        assert owner_client(team).post(page, {"once": uuid7()}).status_code == 404
    assert "For another plan or a pack, ask whoever runs this installation." in words(show(team))
    assert team.credit_entries.count() == 0


def test_the_operator_sets_plans_and_adds_packs_by_a_command(settings):
    settings.PLANS_BY_TEAMS = False
    team, said = make_team(), StringIO()
    call_command("set_plan", team=team.slug, plan="pro", stdout=said)
    call_command("add_pack", team=team.slug, pack="pack-100k", stdout=said)
    assert said.getvalue() == (
        f"{team.name} is on Pro now.\n{team.name} has 100,000 platform credits more this month.\n"
    )
    assert team.credit_accounts.get().granted == 350_000
    events = Event.objects.filter(team_id=team.pk, action__in=["accounts.plan.changed", "accounts.pack.added"])
    assert {event.actor_kind for event in events} == {"system"}


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        ("set_plan", {"team": "none", "plan": "pro"}, "There is no team none."),
        ("set_plan", {"team": "", "plan": "gold"}, "There is no plan gold. Known are: starter, pro."),
        ("set_plan", {"team": "", "plan": "starter"}, "The team is on this plan already."),
        ("add_pack", {"team": "none", "pack": "pack-10k"}, "There is no team none."),
        ("add_pack", {"team": "", "pack": "box"}, "There is no pack box. Known are: pack-10k, pack-100k."),
    ],
)
def test_a_command_that_cannot_be_done_says_why(command: str, options: dict, said: str):
    team = make_team()
    with pytest.raises(CommandError, match=re.escape(said)):
        call_command(command, **options | {"team": options["team"] or team.slug})
