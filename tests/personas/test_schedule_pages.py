"""The pages of schedules: setting them, what they show, their pauses, and the calendar."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.urls import reverse

from accounts.permissions import Role
from audit.clock import AppNow, app_now
from integrations.models import Call
from personas import month, schedule_times, schedules, starting, timing
from personas.dispatch import dispatch
from personas.models import Firing, Run, Schedule
from tests.factories import make_member, make_team, owner_of
from tests.personas.builders import make_flow, make_schedule
from tests.route_samples import a_connection

pytestmark = pytest.mark.django_db

CRON = {"kind": "cron", "cron": "0 6 * * 1", "zone": "Europe/Berlin", "catch_up": "latest", "overlap": "skip"}


@pytest.fixture
def flow():
    return make_flow(make_team())


@pytest.fixture
def owner(client, flow):
    owner = owner_of(flow.team)
    owner.zone = "Europe/Berlin"
    owner.save()
    client.force_login(owner)
    return client


def url(name: str, flow, *args) -> str:
    return reverse(name, args=[flow.team.slug, flow.slug, *args])


def text(client, address: str, status: int = 200, **query) -> str:
    response = client.get(address, query)
    assert response.status_code == status
    return response.content.decode()


# --- setting ----------------------------------------------------------------------------


def test_a_flow_gets_several_schedules_of_every_kind(owner, flow):
    every = CRON | {"kind": "every", "every": "90", "unit": "minutes", "name": "Often"}
    once = CRON | {"kind": "once", "starts_at": "2031-03-30T02:30", "name": "Once", "jitter": "5"}
    window = CRON | {"ends_at": "2031-06-01T00:00", "catch_up": "window", "window": "3", "overlap": "queue"}
    for posted in (every, once, window):
        assert owner.post(url("schedule_create", flow), posted).status_code == 302
    often, single, weekly = (flow.schedules.get(name=name) for name in ("Often", "Once", ""))
    assert (often.every_seconds, often.cron, often.starts_at.tzinfo) == (5400, "", UTC)
    assert single.starts_at == datetime(2031, 3, 30, 1, 30, tzinfo=UTC)  # 02:30 is skipped that night: 03:30
    assert single.jitter_seconds == 300
    assert weekly.ends_at == datetime(2031, 5, 31, 22, tzinfo=UTC)
    assert (weekly.catch_up_seconds, weekly.overlap) == (10_800, "queue")
    page = text(owner, url("flow_detail", flow))
    assert "Every 90 minutes" in page
    assert "At 06:00 on Monday" in page


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cron": "0 0 30 2 *"}, "cannot be read"),
        ({"cron": "x"}, "five fields"),
        ({"zone": "Mars/Base"}, "is not a time zone"),
        ({"kind": "every", "every": "5", "unit": "seconds"}, "shortest interval is 10 seconds"),
        ({"kind": "every", "every": "4000", "unit": "days"}, "longest interval is 366 days"),
        ({"kind": "every", "every": ""}, "a whole number"),
        ({"kind": "once"}, "Say when it fires"),
        ({"kind": "once", "starts_at": "2001-01-01T00:00"}, "it has no further time"),
        ({"kind": "once", "starts_at": "soon"}, "Write a date and time"),
        ({"kind": "never"}, "not one of the available choices"),
        ({"jitter": "61"}, "less than or equal to 60"),
        ({"overlap": "explode"}, "not one of the available choices"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_with_what_to_do(owner, flow, wrong, words):
    response = owner.post(url("schedule_create", flow), CRON | wrong)
    assert response.status_code == 422
    assert words in response.content.decode()
    assert not flow.schedules.exists()


def test_no_more_schedules_than_a_flow_may_have(owner, flow, monkeypatch):
    monkeypatch.setattr(schedules, "MOST_OF_FLOW", 1)
    make_schedule(flow)
    response = owner.post(url("schedule_create", flow), CRON)
    assert (response.status_code, flow.schedules.count()) == (422, 1)
    assert "at most 1 schedules" in response.content.decode()


def test_the_form_shows_what_is_set_and_saving_it_unchanged_changes_nothing(owner, flow):
    flow.version.inputs = [{"name": "topic", "default": "news"}]
    flow.version.save()
    said = CRON | {"name": "Weekly", "starts_at": "2031-06-01T07:30", "jitter": "3", "input-topic": "whales"}
    owner.post(url("schedule_create", flow), said)
    schedule = flow.schedules.get()
    page = text(owner, url("schedule_edit", flow, schedule.pk))
    for shown in ("2031-06-01T07:30", "whales", "Weekly", "0 6 * * 1", 'value="3"'):
        assert shown in page
    owner.post(url("schedule_edit", flow, schedule.pk), said)
    again = flow.schedules.get()
    assert (again.pk, again.rule, again.next_at) == (schedule.pk, schedule.rule, schedule.next_at)
    assert starting.kept_inputs(again) == {"topic": "whales"}


def test_an_interval_goes_on_from_where_it_was_counted(owner, flow):
    owner.post(url("schedule_create", flow), CRON | {"kind": "every", "every": "1", "unit": "hours"})
    schedule = flow.schedules.get()
    page = text(owner, url("schedule_edit", flow, schedule.pk))
    assert f"{schedule.starts_at.astimezone(ZoneInfo('Europe/Berlin')):%Y-%m-%dT%H:%M}" in page


# --- what is shown ----------------------------------------------------------------------


@pytest.mark.requirement("SCH-5")
@pytest.mark.parametrize(
    ("cron", "after", "note"),
    [
        ("30 2 * * *", datetime(2027, 3, 27, 12), "so it fires at 03:00"),
        ("30 2 * * *", datetime(2027, 10, 30, 12), "02:30 comes twice, this is the first"),
        ("0 6 * * *", datetime(2027, 3, 27, 12), "1 h earlier by UTC"),
        ("0 6 * * *", datetime(2027, 10, 30, 12), "1 h later by UTC"),
        ("0 6 * * *", datetime(2027, 5, 1, 12), ""),
        ("30 * * * *", datetime(2027, 10, 31, 0, 45), "02:30 comes twice, this is the second"),
    ],
)
def test_changes_of_clocks_are_marked(cron, after, note):
    rule = timing.Rule(zone="Europe/Berlin", cron=cron)
    first, *_ = schedule_times.next_times(rule, after.replace(tzinfo=UTC))
    assert note in first.note
    assert bool(first.note) == bool(note)
    assert first.there.endswith(("CET", "CEST"))


def test_a_preview_says_what_is_wrong_and_never_fails(owner, flow):
    assert "five fields" in text(owner, url("schedule_preview", flow), kind="cron", cron="x", zone="UTC")
    assert "Choose how" in text(owner, url("schedule_preview", flow), zone="UTC")
    assert "is not a time zone" in text(owner, url("schedule_preview", flow))
    broken = {"kind": "once", "zone": "UTC", "starts_at": "99999-99-99"}
    assert "Write a date" in text(owner, url("schedule_preview", flow), **broken)
    every = {"kind": "every", "every": "2", "unit": "days", "zone": "Asia/Kolkata"}
    assert text(owner, url("schedule_preview", flow), **every).count("IST") == 6


def test_a_schedule_lists_what_became_of_its_times(owner, flow):
    schedule = make_schedule(flow)
    old = [Firing.Outcome.MISSED, Firing.Outcome.OVERLAP, Firing.Outcome.PAUSED]
    for hours, outcome in enumerate(old, start=2):
        at = app_now() - timedelta(hours=hours)
        Firing.objects.create(team=flow.team, schedule=schedule, nominal_at=at, fired_at=at, outcome=outcome)
    Schedule.objects.filter(pk=schedule.pk).update(next_at=AppNow() - timedelta(seconds=1), nominal_at=None)
    dispatch()
    page = text(owner, url("schedule_detail", flow, schedule.pk))
    for word in ("Missed", "the run before was still going", "Paused", "Started", "Queued"):
        assert word in page
    stranger = text(owner, url("schedule_detail", make_flow(flow.team, name="Other"), schedule.pk), status=404)
    assert schedule.cron not in stranger


def test_times_are_shown_in_pages(owner, flow, monkeypatch):
    monkeypatch.setattr("personas.schedule_queries.PAGE", 2)
    schedule, now = make_schedule(flow), app_now()
    rows = [
        Firing(team=flow.team, schedule=schedule, nominal_at=now - timedelta(hours=n), fired_at=now, outcome="missed")
        for n in range(1, 4)
    ]
    Firing.objects.bulk_create(rows)
    first = text(owner, url("schedule_detail", flow, schedule.pk))
    assert f"after={rows[1].pk}" in first
    assert "1 shown" in text(owner, url("schedule_detail", flow, schedule.pk), after=rows[1].pk)
    assert "2 shown" in text(owner, url("schedule_detail", flow, schedule.pk), after="nobody")


# --- pauses -----------------------------------------------------------------------------


def test_a_pause_has_an_end_and_a_reason_and_both_are_shown(owner, flow):
    schedule = make_schedule(flow, cron="0 * * * *")
    until = app_now() + timedelta(days=2)
    local = f"{until.astimezone(ZoneInfo('Europe/Berlin')):%Y-%m-%dT%H:%M}"
    owner.post(url("schedule_pause", flow, schedule.pk), {"until": local, "why": "Inventory"})
    schedule.refresh_from_db()
    assert abs(schedule.paused_until - until) < timedelta(minutes=1)
    page = text(owner, url("schedule_detail", flow, schedule.pk))
    assert "Paused until" in page
    assert "Inventory" in page
    owner.post(url("schedule_resume", flow, schedule.pk))
    schedule.refresh_from_db()
    assert (schedule.paused_until, schedule.paused_why) == (None, "")


@pytest.mark.parametrize("until", ["2001-01-01T00:00", "yesterday"])
def test_a_pause_that_cannot_be_is_refused(owner, flow, until):
    schedule = make_schedule(flow)
    assert owner.post(url("schedule_pause", flow, schedule.pk), {"until": until}).status_code == 422
    schedule.refresh_from_db()
    assert (schedule.paused_at, schedule.paused_until) == (None, None)


def test_a_schedule_is_deleted_unless_a_run_of_it_is_going(owner, flow):
    schedule = make_schedule(flow)
    Schedule.objects.filter(pk=schedule.pk).update(next_at=AppNow() - timedelta(seconds=1), nominal_at=None)
    dispatch()
    assert "fires no more" in text(owner, url("schedule_delete", flow, schedule.pk))
    owner.post(url("schedule_delete", flow, schedule.pk))
    assert flow.schedules.exists()
    assert "Stop it or wait" in text(owner, url("schedule_detail", flow, schedule.pk))
    Run.objects.update(state=Run.State.SUCCEEDED, finished_at=app_now())
    owner.post(url("schedule_delete", flow, schedule.pk))
    assert not flow.schedules.exists()


# --- calendar ---------------------------------------------------------------------------


def spend(run: Run, credits: int, usd: Decimal) -> None:
    """A call of a run, as settling leaves it."""
    Call.objects.create(
        team=run.team,
        connection_id=a_connection(run.team),
        run_id=run.pk,
        tool="get_credits",
        state="done",
        outcome="done",
        actor_kind="user",
        actor_id=str(run.user_id),
        actor_name=run.user.email,
        request_sha256="0" * 64,
        started_at=run.queued_at,
        finished_at=run.queued_at,
        credits=credits,
        credits_reserved=credits,
        cost_usd=usd,
    )


def test_the_calendar_counts_runs_costs_and_what_starts_together(owner, flow):
    schedule = make_schedule(flow, cron="0 6 * * *")
    make_schedule(make_flow(flow.team, name="Second"), cron="0 6 * * *")
    for credits in (4, 10, 6):
        run = starting.start_run(flow=flow, user=schedule.owner)
        Run.objects.filter(pk=run.pk).update(state=Run.State.SUCCEEDED, finished_at=app_now())
        spend(run, credits, Decimal("0.5"))
    page = text(owner, reverse("schedule_calendar", args=[flow.team.slug]))
    assert "2 schedules" in page
    times = 29 + ("30 of them are of flows that have not succeeded" in page)  # before 06:00 today's is still to come
    assert f"likely {6 * times} platform credits and ${times / 2:.2f}" in page  # the middle one each time


def test_a_month_has_thirty_local_days_and_counts_only_so_much(flow, monkeypatch):
    monkeypatch.setattr(month, "MOST_OF_SCHEDULE", 100)
    often, daily = make_schedule(flow), make_schedule(make_flow(flow.team, name="Daily"), cron="30 1 * * *")
    now = datetime(2027, 3, 20, 22, 30, tzinfo=UTC)
    for each in (often, daily):
        each.next_at = each.nominal_at = now
    found = month.lay_out([often, daily], {}, now, ZoneInfo("Europe/Berlin"))
    assert len(found.days) == 30
    assert found.days[0].date.isoformat() == "2027-03-20"
    assert found.cut == [often]
    assert sum(entry.count for day in found.days for entry in day.entries if entry.schedule is often) == 100
    assert {entry.count for day in found.days[2:] for entry in day.entries} == {1}
    assert found.unknown == found.count


def test_nothing_to_come_is_said_in_words(owner, flow):
    assert "Nothing fires in the next 30 days" in text(owner, reverse("schedule_calendar", args=[flow.team.slug]))


def test_all_schedules_are_paused_and_switched_on_and_pages_say_so(owner, flow):
    schedule = make_schedule(flow)
    owner.post(reverse("schedules_pause", args=[flow.team.slug]), {"why": "Audit week"})
    for address in (url("flow_detail", flow), url("schedule_detail", flow, schedule.pk)):
        assert "All schedules of this team are paused" in text(owner, address)
    calendar = reverse("schedule_calendar", args=[flow.team.slug])
    assert "Switch all on" in text(owner, calendar)
    owner.post(reverse("schedules_resume", args=[flow.team.slug]))
    assert "Pause all" in text(owner, calendar)


def test_who_only_reads_finds_no_buttons(client, flow):
    schedule = make_schedule(flow)
    client.force_login(make_member(flow.team, Role.AUDITOR))
    page = text(client, url("schedule_detail", flow, schedule.pk))
    page += text(client, reverse("schedule_calendar", args=[flow.team.slug]))
    assert "Pause" not in page
    assert "Delete" not in page
