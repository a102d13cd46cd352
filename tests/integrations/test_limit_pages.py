import re
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Team
from accounts.permissions import Role
from audit.actions import Actor, record
from audit.clock import app_now
from audit.ids import uuid7
from audit.models import Event
from integrations import limiting, spending
from integrations.dollars import compare_bill
from integrations.models import Call, Cap
from tests.factories import make_member, make_team, owner_of
from tests.integrations.caps import hold, make_cap, settle
from tests.personas.builders import make_persona
from tests.route_samples import a_connection

pytestmark = pytest.mark.django_db


def client_of(team: Team, role: Role = Role.OWNER) -> Client:
    client = Client()
    client.force_login(owner_of(team) if role == Role.OWNER else make_member(team, role))
    return client


def url(name: str, team: Team, *args: object) -> str:
    return reverse(name, args=[team.slug, *args])


def words(response) -> str:
    main = response.content.decode().partition("<main")[2].partition("</main>")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", "<main" + main).split())


def make_call(team: Team, *, cost: str, **more: object) -> Call:
    now = app_now()
    facts = {"team": team, "connection_id": a_connection(team), "tool": "create_chat_completion", "state": "done"}
    facts |= {"actor_kind": "user", "actor_id": str(owner_of(team).pk), "actor_name": "x", "request_sha256": "0" * 64}
    facts |= {"cost_usd": Decimal(cost), "started_at": now, "finished_at": now + timedelta(seconds=1), "id": uuid7()}
    return Call.objects.create(**facts | more)


def send(team: Team, page: str, **fields: str):
    """Send a form, look at what it would mean, and send it again as the page asks."""
    client = client_of(team)
    seen = re.findall(r'name="seen" value="([^"]*)"', client.post(page, fields).content.decode())
    return client.post(page, fields | {"seen": seen[0].replace("&#x27;", "'") if seen else ""})


# --- the list ---------------------------------------------------------------------------


def test_a_cap_is_shown_with_what_is_spent_held_and_left_and_when_it_starts_anew():
    team = make_team()
    make_cap(team, "20")
    settle(team, hold(team, "2"), "1.5")
    hold(team, "0.25")
    text = words(client_of(team).get(url("limit_list", team)))
    assert "The whole team $20.00 a month $1.75 of $20.00 $1.50 $0.25 $18.25 1 " in text


def test_a_cap_for_each_persona_shows_the_one_that_used_most():
    team = make_team()
    quiet, busy = make_persona(team, name="Quiet"), make_persona(team, name="Busy")
    make_cap(team, "2", kind="persona")
    hold(team, "0.5", persona_id=quiet.pk)
    hold(team, "1", persona_id=busy.pk)
    text = words(client_of(team).get(url("limit_list", team)))
    assert "Each persona $2.00 a month $1.00 of $2.00 Most of 2: Busy" in text


@pytest.mark.parametrize("limit", ["0", "0.01"])
def test_a_meter_has_sound_numbers_also_where_nothing_may_be_spent_and_where_it_was_overdrawn(limit: str):
    team = make_team()
    make_cap(team, limit)
    call = hold(team, "0")
    settle(team, call, "5")
    page = client_of(team).get(url("limit_list", team)).content.decode().partition("<main")[2]
    (top, value) = re.search(r'<meter class="bar" min="0" max="([\d.]+)".* value="([\d.]+)"', page).groups()
    assert float(value) == float(top) > 0
    assert "$5.00 of" in page


def test_last_months_spending_is_not_this_months(clock):
    team = make_team()
    make_cap(team, "20")
    hold(team, "3")
    clock(days=31)
    assert "$0.00 of $20.00" in words(client_of(team).get(url("limit_list", team)))


def test_a_subject_that_is_gone_is_said_to_be_gone():
    team = make_team()
    make_cap(team, "2", kind="persona", subject=uuid4())
    assert "A persona that is gone" in words(client_of(team).get(url("limit_list", team)))


def test_a_cap_that_expects_states_how_far_it_can_be_passed():
    team = make_team()
    make_cap(team, "2", mode="expected")
    for _ in range(20):
        make_call(team, cost="0.01", most_usd=Decimal("0.5"))
    text = words(client_of(team).get(url("limit_list", team)))
    assert "Such a cap can be passed by the calls under way at one moment" in text
    assert "by up to $0.49 for each of them" in text


def test_without_caps_the_page_says_what_that_means():
    team = make_team()
    assert "No cap is set" in words(client_of(team).get(url("limit_list", team)))
    assert "Owners and admins can set a cap." in words(client_of(team, Role.AUDITOR).get(url("limit_list", team)))


@pytest.mark.parametrize("role", [Role.BUILDER, Role.MEMBER, Role.AUDITOR])
def test_who_may_not_set_limits_sees_them_and_is_offered_nothing(role: Role):
    team = make_team()
    cap = make_cap(team)
    client = client_of(team, role)
    page = client.get(url("limit_list", team)).content.decode()
    assert "The whole team" in page
    assert "limits/new/" not in page
    assert client.post(url("limit_end", team, cap.pk)).status_code == 403
    assert Cap.objects.live().count() == 1


# --- bills unlike the catalog -----------------------------------------------------------


def test_a_bill_more_than_two_percent_away_from_the_catalog_is_listed():
    team = make_team()
    make_call(team, cost="0.0123", price_usd=Decimal("0.01"), model="a/dear")
    make_call(team, cost="0.005", price_usd=Decimal("0.01"), model="a/cheap")
    make_call(team, cost="0.0102", price_usd=Decimal("0.01"), model="a/fair")
    make_call(team, cost="5", model="a/unpriced")
    make_call(make_team(), cost="0.02", price_usd=Decimal("0.01"), model="a/foreign")
    text = words(client_of(team).get(url("limit_list", team)))
    assert "billed $0.0123, catalog says $0.01: 23 % more" in text
    assert "billed $0.005, catalog says $0.01: 50 % less" in text
    assert [model for model in ("a/fair", "a/unpriced", "a/foreign") if model in text] == []


def test_a_bill_for_what_the_catalog_calls_free_is_listed_without_a_share():
    team = make_team()
    make_call(team, cost="0.01", price_usd=Decimal(0))
    assert [call.cost_usd for call in spending.unlike_bills(team=team, at=app_now())] == [Decimal("0.01")]
    assert compare_bill(Decimal("0.01"), Decimal(0)) == "billed $0.01, catalog says $0.00"


def test_the_entry_of_a_call_says_how_far_its_bill_is_from_the_catalog():
    team = make_team()
    call = make_call(team, cost="0.0123", price_usd=Decimal("0.01"))
    event = record("call.finished", actor=Actor.user(owner_of(team)), team_id=team.pk, call_id=call.pk, cost_usd=None)
    text = words(client_of(team).get(url("event_detail", team, event.pk)))
    assert "billed $0.0123, catalog says $0.01: 23 % more" in text


# --- a new cap --------------------------------------------------------------------------


def test_a_new_cap_is_previewed_as_a_sentence_before_it_is_set():
    team = make_team()
    persona = make_persona(team, name="Night Writer")
    make_call(team, cost="0.41", persona_id=persona.pk)
    make_call(team, cost="7", persona_id=uuid4())
    fields = {"who": f"persona:{persona.pk}", "limit_usd": "2", "period": "day", "mode": "strict"}
    preview = words(client_of(team).post(url("limit_create", team), fields))
    assert "Night Writer may spend at most $2.00 a day, counted strictly; so far today $0.41." in preview
    assert not Cap.objects.exists()
    assert send(team, url("limit_create", team), **fields).status_code == 302
    cap = Cap.objects.get(team=team)
    assert (cap.kind, cap.subject, cap.period, cap.limit_usd) == ("persona", persona.pk, "day", 2)
    event = Event.objects.get(action="integrations.cap.set")
    assert (event.target_name, event.details["limit_usd"]) == ("Night Writer", "2")


def test_what_was_changed_after_the_preview_is_previewed_again():
    team = make_team()
    fields = {"who": "team:", "limit_usd": "2", "period": "day", "mode": "strict"}
    client = client_of(team)
    page = client.post(url("limit_create", team), fields).content.decode()
    (seen,) = re.findall(r'name="seen" value="([^"]*)"', page)
    again = client.post(url("limit_create", team), fields | {"limit_usd": "200", "seen": seen})
    assert "The whole team may spend at most $200.00 a day" in words(again)
    assert not Cap.objects.exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"who": "run:", "period": "day"}, "A run is limited in all."),
        ({"limit_usd": "-1"}, "greater than or equal to 0"),
        ({"limit_usd": "NaN"}, "Enter a number."),
        ({"limit_usd": "1e99"}, "less than or equal to"),
        ({"who": f"persona:{uuid4()}"}, "Select a valid choice."),
        ({"who": "everyone"}, "Select a valid choice."),
        ({"mode": "loose"}, "Select a valid choice."),
        ({"period": "year"}, "Select a valid choice."),
    ],
)
def test_a_cap_that_makes_no_sense_is_refused_at_its_field(fields: dict[str, str], said: str):
    team = make_team()
    good = {"who": "team:", "limit_usd": "2", "period": "month", "mode": "strict"}
    response = client_of(team).post(url("limit_create", team), good | fields)
    assert response.status_code == 422
    assert said in words(response)


def test_another_teams_persona_cannot_be_limited():
    team, theirs = make_team(), make_persona(make_team(), name="Theirs")
    fields = {"who": f"persona:{theirs.pk}", "limit_usd": "2", "period": "month", "mode": "strict"}
    assert client_of(team).post(url("limit_create", team), fields).status_code == 422


def test_a_second_cap_for_the_same_is_refused():
    team = make_team()
    make_cap(team)
    response = send(team, url("limit_create", team), who="team:", limit_usd="2", period="month", mode="strict")
    assert response.status_code == 422
    assert "There is a cap for this and this period already." in words(response)
    assert Cap.objects.count() == 1


# --- change and end ---------------------------------------------------------------------


def test_a_cap_lowered_below_what_is_used_says_that_calls_are_refused_and_is_changed():
    team = make_team()
    cap = make_cap(team, "20")
    hold(team, "8")
    page = url("limit_edit", team, cap.pk)
    preview = words(client_of(team).post(page, {"limit_usd": "5", "mode": "strict"}))
    assert "used or held so far $8.00 this month. The next calls are refused until it starts anew or is" in preview
    assert send(team, page, limit_usd="5", mode="expected").status_code == 302
    cap.refresh_from_db()
    assert (cap.limit_usd, cap.mode) == (5, "expected")
    event = Event.objects.get(action="integrations.cap.changed")
    assert event.details["limit_usd"] == ["20", "5"]


def test_a_cap_is_ended_once():
    team = make_team()
    cap = make_cap(team, "20")
    page = url("limit_end", team, cap.pk)
    client = client_of(team)
    assert "The whole team may spend at most $20.00 a month." in words(client.get(page))
    assert [client.post(page).status_code, client.post(page).status_code] == [302, 404]
    assert Event.objects.filter(action="integrations.cap.ended").count() == 1
    send(team, url("limit_create", team), who="team:", limit_usd="2", period="month", mode="strict")
    assert Cap.objects.live().get().limit_usd == 2


def test_of_two_who_end_or_change_a_cap_the_second_is_told():
    team = make_team()
    cap, by = make_cap(team), owner_of(team)
    limiting.end_cap(cap=cap, name="The whole team", by=by, at=app_now())
    with pytest.raises(limiting.CapEnded):
        limiting.end_cap(cap=cap, name="The whole team", by=by, at=app_now())
    with pytest.raises(limiting.CapEnded):
        limiting.change_cap(cap=cap, name="x", limit_usd=Decimal(1), mode="strict", by=by, at=app_now())


def test_another_teams_cap_is_not_found():
    team, theirs = make_team(), make_cap(make_team())
    for name in ("limit_edit", "limit_end"):
        assert client_of(team).post(url(name, team, UUID(str(theirs.pk)))).status_code == 404
    assert Cap.objects.live().count() == 1
