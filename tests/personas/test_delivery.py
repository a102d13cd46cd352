"""Results go where the flow says, to members and webhooks of its team alone; a delivery never changes its run."""

import pytest
from django.core import mail
from django.urls import reverse

from accounts.permissions import Role
from audit.models import Event
from integrations import actions as connecting
from integrations.webhook.tools import WEBHOOK
from personas import actions, delivering, delivery, noticing
from personas.execution import work
from personas.models import Delivery, Flow, Notice, Run
from tests.factories import make_member, make_team, owner_of
from tests.personas.builders import make_flow
from tests.receiver import receiving

pytestmark = pytest.mark.django_db

SECRET = "a-secret-of-our-own"
HOSTILE = "Done.\r\nBcc: drop@evil.example\r\n\r\n<b>bold</b>"


@pytest.fixture
def team(db):
    return make_team()


@pytest.fixture
def flow(team) -> Flow:
    return make_flow(team, [{"kind": "combine", "name": "one", "template": HOSTILE}])


@pytest.fixture
def receiver(settings):
    with receiving() as found:
        settings.OUTGOING_ALSO_TO = [found.origin]
        yield found


@pytest.fixture
def webhook(team, receiver):
    posted = WEBHOOK.connecting.join({"url": receiver.url, "secret": SECRET})
    made = connecting.connect(
        team=team, integration=WEBHOOK, label="Desk", kind="api_key", posted=posted, by=owner_of(team)
    )
    connecting.run_test(connection=made)
    receiver.deliveries.clear()
    return made


def set_to(flow: Flow, *, members=(), connections=()) -> None:
    delivery.set_delivery(flow=flow, members=members, connections=connections, by=owner_of(flow.team))


def done(flow: Flow, **how) -> Run:
    run = actions.run_flow(flow=flow, by=owner_of(flow.team), idempotency_key=str(Run.objects.count()), **how)
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    return run


# --- mail -------------------------------------------------------------------------------


def test_a_result_is_mailed_as_plain_text_to_members_who_may_still_read_it(team, flow):
    stays, leaves = make_member(team, Role.AUDITOR), make_member(team, Role.MEMBER)
    set_to(flow, members=[stays, leaves])
    run = done(flow)
    team.memberships.get(user=leaves).delete()
    delivering.deliver_due()

    (letter,) = mail.outbox
    assert letter.recipients() == [stays.email]
    assert letter.subject == f"{team.name}: result of Digest"
    assert "Bcc" not in letter.message().as_string().partition("\n\n")[0]
    assert "<b>bold</b>" in letter.body
    assert letter.message().get_content_type() == "text/plain"
    assert "no longer a member" in Delivery.objects.get(user=leaves).failure
    assert Event.objects.filter(action="personas.run.mailed", run_id=run.pk).count() == 1
    assert Run.objects.get().state == "succeeded"


def test_only_runs_that_succeed_in_earnest_are_delivered(team, flow):
    set_to(flow, members=[owner_of(team)])
    done(flow, rehearsal=True)
    run = actions.run_flow(flow=flow, by=owner_of(team), idempotency_key="stopped")
    actions.stop_run(run=run, by=owner_of(team))
    assert not Delivery.objects.exists()


def test_who_is_gone_when_a_run_ends_makes_no_run_fail(team, flow):
    gone = make_member(team, Role.MEMBER)
    set_to(flow, members=[gone])
    team.memberships.get(user=gone).delete()
    assert done(flow).state == "succeeded"
    assert not Delivery.objects.exists()


# --- webhooks ---------------------------------------------------------------------------


@pytest.mark.requirement("WH-6")
def test_a_result_is_posted_signed_and_tried_again_under_one_id(team, flow, webhook, receiver, clock):
    set_to(flow, connections=[webhook])
    run = done(flow)
    receiver.answers(503)
    delivering.deliver_due()
    row = Delivery.objects.get()
    assert (row.state, row.tries, "answered 503" in row.failure) == ("waiting", 1, True)

    receiver.answers(200)
    delivering.deliver_due()  # not due yet
    clock(minutes=2)
    delivering.deliver_due()
    row.refresh_from_db()
    assert (row.state, row.tries, row.failure) == ("sent", 2, "")
    first, second = receiver.deliveries
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == f"msg_{row.pk.hex}"
    assert second.is_signed_with(SECRET)
    assert second.said["type"] == "run.succeeded"
    assert second.said["data"]["output"].startswith("Done.")
    assert second.said["data"]["run"] == str(run.pk)
    assert Run.objects.get().state == "succeeded"


def test_what_a_receiver_refuses_is_given_up_and_tried_again_on_the_page(client, team, flow, webhook, receiver):
    set_to(flow, connections=[webhook])
    run = done(flow)
    receiver.answers(400)
    delivering.deliver_due()
    assert Delivery.objects.get().state == "failed"

    client.force_login(owner_of(team))
    page = reverse("run_detail", args=[team.slug, run.pk])
    shown = client.get(page).content.decode()
    assert "answered 400" in shown
    assert "Try again" in shown
    again = reverse("delivery_again", args=[team.slug, Delivery.objects.get().pk])
    for _ in range(2):
        client.post(again)
    assert Event.objects.filter(action="personas.delivery.tried_again").count() == 1
    receiver.answers(200)
    delivering.deliver_due()
    assert "Sent" in client.get(page).content.decode()


def test_the_page_of_a_run_follows_its_deliveries_until_each_has_ended(client, team, flow, webhook, receiver, clock):
    set_to(flow, connections=[webhook])
    run = done(flow)
    client.force_login(owner_of(team))
    url = reverse("run_progress", args=[team.slug, run.pk])
    waiting = client.get(url)
    assert "hx-trigger" in waiting.content.decode()
    receiver.answers(503)
    delivering.deliver_due()
    tried = client.get(url, headers={"HX-PTag": waiting["HX-PTag"]})
    assert "answered 503" in tried.content.decode()
    assert client.get(url, headers={"HX-PTag": tried["HX-PTag"]}).status_code == 304
    receiver.answers(200)
    clock(minutes=2)
    delivering.deliver_due()
    sent = client.get(url, headers={"HX-PTag": tried["HX-PTag"]}).content.decode()
    assert "Sent" in sent
    assert url not in sent


# --- the page ---------------------------------------------------------------------------


def test_results_go_to_nobody_outside_the_team_whatever_the_form_says(client, team, flow, webhook):
    stranger = make_member(make_team(), Role.OWNER)
    client.force_login(owner_of(team))
    page = reverse("flow_delivery", args=[team.slug, flow.slug])
    foreign = stranger.memberships.get().pk
    assert client.post(page, {"members": [str(foreign)]}).status_code == 422
    assert Flow.objects.get().delivery == []

    mine = team.memberships.get(user=owner_of(team)).pk
    for _ in range(2):
        assert client.post(page, {"members": [str(mine)], "connections": [str(webhook.pk)]}).status_code == 302
    assert {each["kind"] for each in Flow.objects.get().delivery} == {"mail", "webhook"}
    assert client.get(page).content.decode().count(" checked") == 3  # and one of the shell
    assert Event.objects.filter(action="personas.flow.delivery_set").count() == 1


# --- notices ----------------------------------------------------------------------------


@pytest.mark.requirement("WH-6")
def test_notices_are_posted_signed_to_the_webhooks_that_a_member_chose(team, webhook, receiver, client):
    client.force_login(owner_of(team))
    chosen = {"webhooks": [str(webhook.pk), "not-an-id"]}
    address = reverse("notice_webhooks", args=[team.slug])
    client.post(address, chosen)
    client.post(address, chosen)
    assert Event.objects.filter(action="personas.notices.posted_to").count() == 1
    about = {"team_id": team.pk, "kind": Notice.Kind.FAILED, "about": "flow:1"}
    noticing.open_notice(name="Digest", text="No such model.", **about)
    noticing.end_notices(**(about | {"about": ["flow:1"]}))
    delivering.deliver_due()
    begun, over = receiver.deliveries
    assert {b"notice.begun" in begun.body, b"notice.over" in over.body, b"No such model." in begun.body} == {True}
    assert begun.headers["webhook-signature"].startswith("v1,")
    client.post(address, {})
    noticing.open_notice(name="Digest", text="Again.", **about)
    assert not Delivery.objects.filter(kind="webhook", state="waiting").exists()
