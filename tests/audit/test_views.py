import csv
import html
import json
from functools import partial
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.permissions import ROLE_PERMISSIONS, Permission, Role
from audit import views
from audit.actions import Actor
from audit.ids import uuid7
from audit.models import Content, Event
from tests.audit.builders import make_call, make_event, sealed
from tests.factories import make_member, make_stranger, make_team, owner_of

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true", "HX-Request-Type": "partial"}


@pytest.fixture
def team(client):
    team = make_team()
    client.force_login(owner_of(team))
    return team


def sign_in(client, team, role):
    client.force_login(make_member(team, role))


def listing(client, team, headers=None, **query):
    return client.get(reverse("event_list", args=[team.slug]), query, headers=headers)


def detail(client, event, team, **query):
    return client.get(reverse("event_detail", args=[team.slug, event.pk]), query)


def export(client, team, format="jsonl", **query):
    url = f"{reverse('event_export', args=[team.slug])}?{urlencode(query)}"
    return client.post(url, {"format": format})


def shown(response) -> list[str]:
    return [str(event.pk) for event in response.context["page"].events]


def text_of(response) -> str:
    return html.unescape(response.content.decode())


# --- who may ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "lists", "exports", "reads"),
    [
        (Role.OWNER, 200, 200, 200),
        (Role.ADMIN, 200, 200, 200),
        (Role.BUILDER, 200, 403, 200),
        (Role.MEMBER, 403, 403, 403),
        (Role.AUDITOR, 200, 200, 200),
    ],
)
def test_each_role_may_do_what_its_permissions_say(client, role, lists, exports, reads):
    team = make_team()
    _, finished = make_call(team)
    sign_in(client, team, role)
    assert listing(client, team).status_code == lists
    assert detail(client, finished, team).status_code == lists
    assert detail(client, finished, team, content="1").status_code == reads
    assert export(client, team).status_code == exports


@pytest.mark.parametrize("event_of", ["their team", "nobody"])
def test_an_event_of_another_team_is_as_unknown_as_one_that_never_was(client, team, event_of):
    theirs = make_event(make_team()) if event_of == "their team" else Event(id=uuid7())
    assert detail(client, theirs, team).status_code == 404
    assert listing(client, team, entry=theirs.pk).status_code == 404
    assert listing(client, team, HTMX, entry=theirs.pk).status_code == 404


def test_a_stranger_finds_no_log(client):
    team = make_team()
    event = make_event(team)
    client.force_login(make_stranger())
    answers = [listing(client, team), detail(client, event, team), export(client, team)]
    assert [answer.status_code for answer in answers] == [404, 404, 404]


def test_the_call_of_another_team_is_not_shown_beside_an_event(client, team):
    _, theirs = make_call(make_team())
    mine = make_event(team, "call.finished", call_id=theirs.call_id)
    response = detail(client, mine, team, content="1")
    assert response.context["call"] is None
    assert response.context["related"] == [mine]
    assert not response.context["has_content"]


# --- the list ---------------------------------------------------------------------------


def test_last_24_hours_are_shown_unless_asked_otherwise(client, team):
    new, old = make_event(team, ago=60), make_event(team, ago=2 * 24 * 3600)
    assert shown(listing(client, team)) == [str(new.pk)]
    assert shown(listing(client, team, range="7d")) == [str(new.pk), str(old.pk)]


def test_a_run_or_a_call_is_found_whenever_it_was(client, team):
    old = make_event(team, ago=90 * 24 * 3600, run_id=uuid7(), call_id=uuid7())
    assert shown(listing(client, team, run=old.run_id)) == [str(old.pk)]
    assert shown(listing(client, team, call=old.call_id)) == [str(old.pk)]
    assert shown(listing(client, team, run=old.run_id, range="24h")) == []


def test_times_typed_are_the_readers(client, team):
    owner = owner_of(team)
    owner.zone = "Asia/Tokyo"
    owner.save(update_fields=["zone"])
    event = make_event(team, ago=3600)
    there = event.at.astimezone(ZoneInfo("Asia/Tokyo"))
    minute = f"{there:%Y-%m-%dT%H:%M}"
    assert shown(listing(client, team, since=minute)) == [str(event.pk)]
    assert shown(listing(client, team, until=minute)) == []


@pytest.mark.requirement("IN-2")
def test_only_the_filters_named_in_the_form_are_read(client, team):
    mine, theirs = make_event(team), make_event(make_team())
    tricks = {
        "team_id": theirs.team_id,
        "canon__contains": "x",
        "order_by": "canon",
        "actor_name": "nobody",
        "actor__regex": "(a+)+$",
        "tool__startswith": "x",
        "limit": "100000",
        "page": "2",
    }
    response = listing(client, team, **tricks)
    assert shown(response) == [str(mine.pk)]
    assert "team_id" not in text_of(response)


@pytest.mark.parametrize(
    "query",
    [
        {"persona": "x"},
        {"run": "1"},
        {"range": "1y"},
        {"since": "soon"},
        {"tool": "x" * 81},
        {"since": "2026-02-01T00:00", "until": "2026-01-01T00:00"},
    ],
)
def test_a_filter_that_cannot_be_read_is_marked_and_nothing_is_listed(client, team, query):
    make_event(team)
    response = listing(client, team, **query)
    assert response.status_code == 422
    assert "A filter cannot be read" in text_of(response)
    assert "page" not in response.context
    assert export(client, team, **query).status_code == 422
    assert detail(client, make_event(team), team, **query).status_code == 200


@pytest.mark.parametrize("cursor", ["x", "W10:abc", "é"])
def test_a_place_that_was_tampered_with_is_told_in_words(client, team, cursor):
    make_event(team)
    for name in ("older", "newer"):
        response = listing(client, team, **{name: cursor})
        assert response.status_code == 400
        assert "This place in the log cannot be found" in text_of(response)


@pytest.mark.requirement("IN-10")
def test_a_place_in_one_teams_log_is_none_in_anothers(client, team):
    for ago in range(51):
        make_event(team, ago=ago)
    older = listing(client, team).context["page"].older
    assert len(shown(listing(client, team, older=older))) == 1
    other = make_team(owner=owner_of(team))
    make_event(other)
    assert listing(client, other, older=older).status_code == 400
    assert listing(client, team, older=older, tool="get_credits").status_code == 400


def test_pager_leads_to_the_older_page_and_back(client, team):
    for ago in range(60):
        make_event(team, ago=ago)
    first = listing(client, team)
    assert "50 shown" in text_of(first)
    second = client.get(first.context["older_url"])
    assert (len(shown(second)), second.context["older_url"]) == (10, "")
    assert shown(client.get(second.context["newer_url"])) == shown(first)


def test_log_without_any_entry_says_what_it_is_for(client, team):
    assert "Nothing has happened yet" in text_of(listing(client, team))


def test_filters_without_a_match_can_be_cleared(client, team):
    make_event(team)
    response = listing(client, team, tool="get_credits")
    assert "No entry matches these filters" in text_of(response)
    assert f'href="{reverse("event_list", args=[team.slug])}">Clear filters' in text_of(response)


def test_a_search_that_takes_too_long_offers_shorter_ranges(client, team, busy_log):
    with busy_log:
        response = listing(client, team, range="30d", tool="get_credits")
    assert response.status_code == 503
    assert "Too much to search" in text_of(response)
    assert response.context["ranges"] == [
        ("Last hour", "range=1h&tool=get_credits"),
        ("Last 24 hours", "range=24h&tool=get_credits"),
        ("Last 7 days", "range=7d&tool=get_credits"),
    ]


def test_what_came_by_a_link_stays_chosen(client, team):
    response = listing(client, team, actor="sweeper", persona=uuid7(), tool="retired_tool", range="7d")
    assert '<option value="sweeper" selected>' in response.content.decode()
    assert '<option value="retired_tool" selected>' in response.content.decode()


def test_filters_alone_come_back_to_htmx(client, team):
    make_event(team)
    response = listing(client, team, HTMX)
    assert response.content.decode().strip().startswith('<div id="list">')
    assert "HX-Request" in response.headers["Vary"]


@pytest.mark.parametrize(("page", "most"), [("list", 12), ("drawer", 12), ("entry", 12), ("export", 8)])
def test_a_page_asks_the_database_as_often_for_1000_entries_as_for_3(client, page, most):
    counts = []
    for rows in (3, 1000):
        team = make_team()
        for ago in range(rows - 2):
            make_event(team, ago=ago, tool="get_credits", persona_id=uuid7(), call_id=uuid7())
        _, event = make_call(team, ago=5)
        client.force_login(owner_of(team))
        ask = partial(ASKS[page], client, team, event)
        ask()
        with CaptureQueriesContext(connection) as captured:
            ask()
        counts.append(len(captured))
    assert counts[0] == counts[1] <= most


ASKS = {
    "list": lambda client, team, event: listing(client, team),
    "drawer": lambda client, team, event: listing(client, team, HTMX, entry=event.pk),
    "entry": lambda client, team, event: detail(client, event, team),
    "export": lambda client, team, event: export(client, team, tool="list_providers").getvalue(),
}


# --- one entry --------------------------------------------------------------------------


def test_entry_shows_its_facts_and_the_other_half_of_its_call(client, team):
    started, finished = make_call(team, model="openai/gpt-5", generation_id="gen-1", request_sha256="f" * 64)
    page = text_of(detail(client, finished, team))
    for fact in (str(finished.call_id), "gen-1", "f" * 64, "openai/gpt-5", "Reader", "owner@example.test"):
        assert fact in page
    assert reverse("event_detail", args=[team.slug, started.pk]) in page


def test_entry_shows_the_small_facts_it_holds(client, team):
    event = make_event(
        team, "accounts.member.role_changed", details={"from": "member", "to": "admin", "items": [1, None]}
    )
    facts = dict(detail(client, event, team).context["facts"])
    assert facts == {"From": "member", "To": "admin", "Items": "1, null"}


def test_drawer_comes_alone_to_htmx_and_with_the_list_to_everybody_else(client, team):
    event = make_event(team)
    alone = listing(client, team, HTMX, entry=event.pk).content.decode()
    whole = listing(client, team, entry=event.pk).content.decode()
    assert alone.strip().startswith('<div class="stack" id="entry">')
    assert whole.index('<dialog class="drawer"') < whole.index('id="entry"') < whole.index("</dialog>")
    assert 'id="list"' in whole
    assert 'id="list"' not in alone


def test_drawer_walks_within_the_filter(client, team):
    older, middle, newer = (make_event(team, tool="get_credits", ago=ago) for ago in (30, 20, 10))
    make_event(team, ago=15)
    context = listing(client, team, HTMX, entry=middle.pk, tool="get_credits").context
    assert (context["newer"], context["older"]) == (newer, older)


@pytest.mark.parametrize("entry", ["x", "1", "0190c7f0"])
def test_what_cannot_be_an_entry_is_not_found(client, team, entry):
    assert listing(client, team, entry=entry).status_code == 404


# --- prompt and response ----------------------------------------------------------------


def readings_of(team):
    return Event.objects.filter(team_id=team.pk, action="audit.content.read")


def test_opening_an_entry_reads_nothing(client, team):
    started, finished = make_call(team)
    for response in (detail(client, finished, team), listing(client, team, entry=started.pk), listing(client, team)):
        assert "What is a lease?" not in text_of(response)
        assert "A promise with an end." not in text_of(response)
    assert not readings_of(team).exists()


@pytest.mark.parametrize("half", [0, 1])
def test_reading_shows_prompt_and_response_and_is_an_event(client, team, half):
    event = make_call(team, run_id=uuid7())[half]
    page = text_of(detail(client, event, team, content="1"))
    assert "What is a lease?" in page
    assert "A promise with an end." in page

    (reading,) = readings_of(team)
    owner = owner_of(team)
    assert (reading.actor_kind, reading.actor_id, reading.actor_name) == ("user", str(owner.pk), owner.email)
    assert (reading.target, reading.persona_id, reading.run_id) == (
        f"call:{event.call_id}",
        event.persona_id,
        event.run_id,
    )
    assert len(reading.details["contents"]) == 2


def test_reading_in_the_drawer_is_the_same_event(client, team):
    _, event = make_call(team)
    assert "What is a lease?" in text_of(listing(client, team, HTMX, entry=event.pk, content="1"))
    assert readings_of(team).count() == 1


def test_each_view_is_one_reading(client, team):
    _, event = make_call(team)
    for _ in range(2):
        detail(client, event, team, content="1")
    assert readings_of(team).count() == 2


def test_what_is_read_is_not_in_the_entry_about_the_reading(client, team):
    _, event = make_call(team)
    detail(client, event, team, content="1")
    assert b"lease" not in bytes(readings_of(team).get().canon)


def test_who_may_not_read_is_told_so_and_reads_nothing(client, team, monkeypatch):
    monkeypatch.setitem(
        ROLE_PERMISSIONS, Role.BUILDER, ROLE_PERMISSIONS[Role.BUILDER] - {Permission.AUDIT_READ_CONTENT}
    )
    _, event = make_call(team)
    sign_in(client, team, Role.BUILDER)
    response = detail(client, event, team, content="1")
    assert response.status_code == 403
    assert "Your role cannot read prompts and responses" in text_of(response)
    assert "What is a lease?" not in text_of(response)
    assert "content=1" not in text_of(detail(client, event, team))
    assert not readings_of(team).exists()


@pytest.mark.requirement("AUD-7")
def test_nothing_is_shown_when_the_reading_cannot_be_recorded(client, team, monkeypatch):
    _, event = make_call(team)

    def fail(*args, **kwargs):
        raise RuntimeError("the log is full")

    monkeypatch.setattr(views, "record", fail)
    client.raise_request_exception = False
    response = detail(client, event, team, content="1")
    assert response.status_code == 500
    assert b"lease" not in response.content


def test_erased_content_is_said_to_be_gone_and_nobody_read_it(client, team):
    started, finished = make_call(team)
    Content.objects.filter(pk__in=[started.content_id, finished.content_id]).update(ciphertext=None)
    assert "It was erased" in text_of(detail(client, finished, team, content="1"))
    assert not readings_of(team).exists()


def test_what_a_model_says_is_text(client, team):
    hostile = "<script>alert(1)</script>\u202e{{ team.name }}![x](http://evil.example/x.png)"
    answer = json.dumps({"data": {"text": hostile}}).encode()
    at = make_event(team).at
    event = make_event(team, "call.finished", at=at, content=sealed(team, "response", answer, at), call_id=uuid7())
    raw = detail(client, event, team, content="1").content.decode()
    assert "<script>alert" not in raw
    assert "&lt;script&gt;alert(1)&lt;/script&gt;[U+202E]{{ team.name }}![x](http://evil.example/x.png)" in raw
    assert "<img" not in raw
    assert 'href="http://evil' not in raw


@pytest.mark.parametrize("field", ["actor_name", "target_name", "tool", "model", "persona_name"])
def test_names_in_the_list_are_text_and_hide_nothing(client, team, field):
    text = "<b>x</b>\u202egnp"
    fields = {"actor": Actor("user", "1", text)} if field == "actor_name" else {field: text}
    make_event(team, "call.finished", **fields)
    page = listing(client, team).content.decode()
    assert "&lt;b&gt;x&lt;/b&gt;[U+202E]gnp" in page
    assert "<b>x</b>" not in page


# --- the export -------------------------------------------------------------------------


def test_export_holds_what_the_filters_find_and_both_events_of_a_call(client, team):
    started, finished = make_call(team, tool="get_credits")
    make_event(team)
    response = export(client, team, tool="get_credits")
    lines = [json.loads(line) for line in response.getvalue().decode().splitlines()]
    assert [line["id"] for line in lines] == [str(started.pk), str(finished.pk)]
    assert {line["team"] for line in lines} == {team.slug}
    assert response.headers["Content-Disposition"] == f'attachment; filename="{team.slug}-audit.jsonl"'


def test_export_as_a_table(client, team):
    make_event(team, target="=1+1")
    response = export(client, team, "csv")
    (row,) = csv.DictReader(response.getvalue().decode().splitlines())
    assert row["target"] == "'=1+1"
    assert response.headers["Content-Type"] == "text/csv"


def test_export_is_an_event_that_the_export_does_not_hold(client, team):
    response = export(client, team, range="7d", tool="get_credits")
    assert response.getvalue() == b""
    event = Event.objects.get(team_id=team.pk, action="audit.events.exported")
    assert event.details == {"format": "jsonl", "filter": "range=7d&tool=get_credits"}
    assert str(event.pk).encode() in export(client, team).getvalue()


def test_export_is_a_post_since_it_writes_an_event(client, team):
    assert client.get(reverse("event_export", args=[team.slug])).status_code == 405


def test_export_knows_its_formats(client, team):
    response = export(client, team, "xlsx")
    assert response.status_code == 422
    assert not Event.objects.filter(team_id=team.pk).exists()


def test_export_button_is_for_those_who_may(client, team):
    make_event(team)
    assert "Export CSV" in text_of(listing(client, team))
    sign_in(client, team, Role.BUILDER)
    assert "Export CSV" not in text_of(listing(client, team))


@pytest.mark.parametrize(("action", "heading"), [("call.refused", "refused"), ("call.started", "allowed")])
def test_an_entry_of_a_call_says_why_it_was_allowed_or_refused(client, team, action, heading):
    holds = action == "call.started"
    why = [{"rule": "tool", "holds": holds, "words": "Create <b>message</b> is what it is."}]
    event = make_event(team, action, details={"why": why})

    page = client.get(reverse("event_detail", args=[team.slug, event.pk])).content.decode()

    assert f"Why it was {heading}" in page
    assert ("Holds:" if holds else "Fails:") in page
    assert "Create &lt;b&gt;message&lt;/b&gt; is what it is." in page
