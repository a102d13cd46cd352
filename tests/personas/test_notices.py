"""What a team is told without asking: once when it begins, counted while it goes on, once when it is over."""

import smtplib
from datetime import timedelta

import pytest
from django.core import mail
from django.urls import reverse

from accounts.permissions import Role
from audit.clock import app_now
from audit.models import Event
from personas import (
    actions,
    approving,
    at_once,
    delivering,
    dispatch,
    flow_actions,
    noticing,
    schedules,
    watchdog,
)
from personas.execution import work
from personas.models import Delivery, Firing, Notice, Run, Schedule
from tests.factories import make_member, make_team, owner_of
from tests.personas.builders import make_flow, make_persona, make_schedule

pytestmark = pytest.mark.django_db


@pytest.fixture
def team(db):
    return make_team()


@pytest.fixture
def broken(team):
    """A flow whose persona is archived, so that every run of it fails."""
    persona = make_persona(team)
    flow = make_flow(team, [{"kind": "prompt", "name": "one", "persona": str(persona.pk), "template": "Hello"}])
    persona.archived_at = app_now()
    persona.save()
    return flow


def run_of(flow, trigger=Run.Trigger.SCHEDULE) -> Run:
    """A run of a flow as something started it, worked through."""
    run = actions.run_flow(flow=flow, by=owner_of(flow.team), idempotency_key=str(Run.objects.count()))
    Run.objects.filter(pk=run.pk).update(trigger=trigger)
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    return run


def mend(flow) -> None:
    stages = [{"kind": "combine", "name": "one", "template": "Hello"}]
    flow_actions.save_flow(flow=flow, name=flow.name, purpose="", stage_list=stages, by=owner_of(flow.team))
    flow.refresh_from_db()


def tell_a_notice(team, **more) -> Notice:
    given = {"kind": Notice.Kind.FAILED, "about": "flow:1", "name": "Digest", "text": "No such model."} | more
    return noticing.open_notice(team_id=team.pk, **given)


def sent() -> list[str]:
    delivering.deliver_due()
    return [letter.subject for letter in mail.outbox]


# --- runs -------------------------------------------------------------------------------


def test_the_first_failure_of_a_schedule_is_told_the_next_ones_are_counted(team, broken):
    for _ in range(3):
        assert run_of(broken).state == "failed"

    notice = Notice.objects.get()
    assert (notice.kind, notice.times, notice.run) == ("failed", 3, Run.objects.latest("id"))
    assert "archived" in notice.text
    assert sent() == [f"{team.name}: A flow failed"]


def test_a_recovery_ends_the_notice_and_is_told_once(team, broken):
    run_of(broken)
    mend(broken)
    for _ in range(2):
        run_of(broken)

    assert Notice.objects.get().over_at is not None
    assert sent() == [f"{team.name}: A flow failed", f"{team.name}: over, Digest"]


def test_a_failure_that_somebody_watches_is_not_told(broken):
    assert run_of(broken, Run.Trigger.MEMBER).state == "failed"
    assert not Notice.objects.exists()


def test_a_notice_stands_or_falls_with_the_end_of_its_run(broken, monkeypatch):
    def breaks(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(noticing, "_tell", breaks)
    with pytest.raises(ZeroDivisionError):
        run_of(broken)

    assert (Notice.objects.count(), Run.objects.get().state) == (0, "running")


# --- times ------------------------------------------------------------------------------


def test_a_schedule_that_nobody_fires_is_told_until_it_fires(team, clock):
    schedule = make_schedule(make_flow(team), cron="0 * * * *")
    Schedule.objects.update(next_at=app_now() - timedelta(minutes=3))
    for _ in range(3):
        watchdog.watch()
    notice = Notice.objects.get()
    assert (notice.kind, notice.about, notice.times) == ("missed", f"schedule:{schedule.pk}", 1)

    clock(minutes=1)
    dispatch.dispatch()
    for run in Run.objects.all():
        work(run_id=run.pk, owner="test")
    watchdog.watch()
    notice.refresh_from_db()
    assert notice.over_at is not None


def test_times_that_were_missed_while_nothing_ran_are_told_once(team, clock):
    make_schedule(make_flow(team), cron="* * * * *", catch_up="skip")
    clock(minutes=20)
    dispatch.dispatch()
    assert Firing.objects.filter(outcome="missed").exists()
    for _ in range(2):
        watchdog.watch()

    assert Notice.objects.filter(kind="missed").count() == 1
    assert "nothing was running" in Notice.objects.get().text


def test_a_run_that_no_worker_takes_is_told(team, clock):
    make_schedule(make_flow(team), cron="* * * * *")
    clock(minutes=1)
    dispatch.dispatch()
    clock(minutes=12)
    Schedule.objects.update(next_at=app_now() + timedelta(hours=1))
    watchdog.watch()
    assert "over ten minutes for a worker. Whoever runs" in Notice.objects.get().text


def test_a_run_that_waits_in_line_is_told_with_what_it_waits_for(team, clock):
    flow = make_flow(team)
    at_once.set_for_flow(flow=flow, most=1, by=owner_of(team))
    run_of(flow)
    make_schedule(flow, cron="* * * * *")
    clock(minutes=1)
    dispatch.dispatch()
    Run.objects.filter(firing=None).update(state="running", finished_at=None, lease_until=app_now() + timedelta(days=1))
    clock(minutes=12)
    Schedule.objects.update(next_at=app_now() + timedelta(hours=1))
    watchdog.watch()
    assert "1 run of this flow is at work, which is as many as may be at once." in Notice.objects.get().text


def test_a_run_that_asks_a_person_is_told_at_once_and_over_when_it_goes_on(team):
    asks = {"kind": "approve", "name": "look", "text": "Send it?"}
    run = run_of(make_flow(team, [asks]))
    notice = Notice.objects.get(kind="asks")
    assert (notice.run, notice.text) == (run, "Stage 1, look, shows a text for a member to approve.")
    work(run_id=run.pk, owner="test")
    watchdog.watch()
    assert Notice.objects.get().over_at is None

    approving.decide(run=run, number=1, approve=True, note="", by=owner_of(team))
    work(run_id=run.pk, owner="test")
    watchdog.watch()
    assert Notice.objects.get().over_at


# --- schedules that are switched off by themselves --------------------------------------


def fire(schedule: Schedule) -> None:
    """Fire a schedule as its time comes, and work through what it starts."""
    Schedule.objects.filter(pk=schedule.pk).update(next_at=app_now(), nominal_at=app_now())
    dispatch.dispatch()
    for run in Run.objects.filter(state="queued"):
        work(run_id=run.pk, owner="test")


@pytest.mark.requirement("SCH-11")
def test_a_schedule_whose_runs_fail_five_times_in_a_row_is_switched_off_and_told(team, broken):
    schedule = make_schedule(broken)
    for _ in range(4):
        fire(schedule)
    schedule.refresh_from_db()
    assert schedule.paused_at is None

    fire(schedule)
    schedule.refresh_from_db()
    notice = Notice.objects.get(kind="paused")
    assert schedule.paused_at and schedule.paused_why.startswith("Its last 5 runs failed. The last one: ")
    assert (notice.about, notice.text) == (f"schedule:{schedule.pk}", schedule.paused_why)
    assert Event.objects.get(action="personas.schedule.paused").actor_kind == "system"
    fire(schedule)
    assert Run.objects.count() == 5

    schedules.resume_schedule(schedule=schedule, by=owner_of(team))
    notice.refresh_from_db()
    assert notice.over_at


@pytest.mark.requirement("SCH-11")
def test_a_success_between_them_keeps_a_schedule_on(team, broken):
    schedule = make_schedule(broken)
    for number in range(8):
        fire(schedule)
        if number == 3:
            Run.objects.filter(pk=Run.objects.latest("finished_at").pk).update(state="succeeded")
    schedule.refresh_from_db()
    assert Run.objects.filter(state="failed").count() == 7
    assert schedule.paused_at is None


def test_a_run_that_waits_for_over_an_hour_is_told_until_it_goes_on(team, clock):
    run = actions.run_flow(flow=make_flow(team), by=owner_of(team), idempotency_key="waits")
    Run.objects.update(state="parked", started_at=app_now(), parked_until=app_now() + timedelta(days=1))
    clock(minutes=59)
    watchdog.watch()
    assert not Notice.objects.exists()

    clock(minutes=61)
    for _ in range(2):
        watchdog.watch()
    assert (Notice.objects.get().kind, Notice.objects.get().times) == ("parked", 1)

    actions.stop_run(run=run, by=owner_of(team))
    watchdog.watch()
    assert Notice.objects.get().over_at is not None


def test_a_run_that_a_member_paused_is_not_told(team, clock):
    actions.run_flow(flow=make_flow(team), by=owner_of(team), idempotency_key="paused")
    Run.objects.update(state="parked", started_at=app_now(), paused_at=app_now())
    clock(hours=3)
    watchdog.watch()
    assert not Notice.objects.exists()


# --- mail -------------------------------------------------------------------------------


def test_owners_get_mail_until_they_say_otherwise_others_when_they_ask(team):
    member = make_member(team, Role.MEMBER)
    tell_a_notice(team)
    assert {row.user for row in Delivery.objects.all()} == {owner_of(team)}

    noticing.set_wish(membership=team.memberships.get(user=owner_of(team)), kinds=[])
    noticing.set_wish(membership=team.memberships.get(user=member), kinds=["failed", "no such kind"])
    tell_a_notice(team, about="flow:2")
    assert set(Delivery.objects.filter(notice__about="flow:2").values_list("user", flat=True)) == {member.pk}


def test_who_has_left_gets_nothing(team):
    admin = make_member(team, Role.ADMIN)
    noticing.set_wish(membership=team.memberships.get(user=admin), kinds=["failed"])
    tell_a_notice(team)
    team.memberships.get(user=admin).delete()

    assert sent() == [f"{team.name}: A flow failed"]
    assert "no longer a member" in Delivery.objects.get(user=admin).failure


def test_a_mail_server_that_is_away_is_asked_again_later_and_then_no_more(team, monkeypatch, clock):
    def away(*_, **__):
        raise smtplib.SMTPServerDisconnected

    monkeypatch.setattr(delivering, "send_mail", away)
    tell_a_notice(team)
    hours = 0
    for tries in range(1, len(delivering.PAUSES) + 2):
        delivering.deliver_due()
        row = Delivery.objects.get()
        assert row.tries == tries
        delivering.deliver_due()  # not due yet
        assert Delivery.objects.get().tries == tries
        hours += 3
        clock(hours=hours)
    assert (row.state, row.failure) == ("failed", "The mail server did not take it: SMTPServerDisconnected.")


def test_a_name_with_a_line_break_makes_no_header(team):
    team.name = "Night\r\nBcc: drop@evil.example"
    team.save()
    tell_a_notice(team)
    sent()
    (letter,) = mail.outbox
    assert letter.subject == "Night Bcc: drop@evil.example: A flow failed"
    assert letter.recipients() == [owner_of(team).email]


# --- the page ---------------------------------------------------------------------------


def test_the_page_shows_what_is_open_and_puts_it_away_once(client, team):
    notice = tell_a_notice(team)
    client.force_login(owner_of(team))
    here = reverse("notice_list", args=[team.slug])
    assert "No such model." in client.get(here).content.decode()

    for _ in range(2):
        client.post(reverse("notice_put_away", args=[team.slug, notice.pk]))
    page = client.get(here).content.decode()
    assert "Nothing wants attention" in page
    assert f"put away by {owner_of(team).email}" in page


def test_a_member_chooses_what_comes_by_mail(client, team):
    client.force_login(owner_of(team))
    page = client.post(reverse("notice_wishes", args=[team.slug]), {"kinds": ["missed"]}, follow=True).content.decode()
    assert page.count(" checked") - page.count('id="shortcuts-on" checked') == 1
    assert noticing.wishes_of(team.memberships.get(user=owner_of(team))) == ["missed"]


def test_an_outside_address_is_asked_each_minute_and_its_fault_stops_nothing(settings):
    settings.PING_URL = "http://127.0.0.1:1/alive"
    watchdog.ping()
