"""A signed request starts one run of a flow, and nothing else does; a flow follows another one, never in a circle."""

import base64
import hashlib
import hmac
import inspect
import json
import re
from datetime import timedelta
from itertools import pairwise

import pytest
from django.test import Client
from django.urls import reverse

from accounts.permissions import Role
from audit.clock import app_now
from audit.models import Content, Event
from integrations import signing
from integrations.signing import NotSigned, verify
from personas import actions, triggers
from personas.execution import work
from personas.models import FlowVersion, Run, StageRun, Trigger, TriggerEvent
from personas.triggered import DEEPEST
from tests.factories import make_member, make_team, owner_of
from tests.personas.builders import make_flow, make_persona
from vault.content import open_content
from vault.secret import Secret

pytestmark = pytest.mark.django_db
BODY = {"order": {"items": [{"title": "Tea"}], "total": 12}}


@pytest.fixture
def team(db):
    return make_team()


@pytest.fixture
def flow(team):
    return with_inputs(make_flow(team), "title", "total")


@pytest.fixture
def hook(flow):
    mapping = {"title": "order.items.0.title", "total": "order.total"}
    return triggers.add_webhook(flow=flow, mapping=mapping, by=owner_of(flow.team))


def with_inputs(flow, *names: str):
    inputs = [{"name": name, "about": "", "default": ""} for name in names]
    stages = [{"kind": "combine", "name": "all", "template": " ".join(f"{{{{ input.{name} }}}}" for name in names)}]
    FlowVersion.objects.filter(pk=flow.version_id).update(inputs=inputs, stages=stages)
    flow.refresh_from_db()
    return flow


def signature(secret: Secret, event: str, at: int, body: bytes) -> str:
    key = base64.b64decode(secret.use().removeprefix("whsec_"))
    message = event.encode() + b"." + str(at).encode() + b"." + body
    return "v1," + base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()


def send(trigger, secret, body=None, *, event="evt_1", late=timedelta(0), **changed):
    """Send what a good sender sends, but for what is changed."""
    body = body if isinstance(body, bytes) else json.dumps(BODY if body is None else body).encode()
    at = int((app_now() - late).timestamp())
    headers = {"webhook-id": event, "webhook-timestamp": str(at)}
    headers["webhook-signature"] = signature(secret, event, at, body)
    headers |= changed.pop("headers", {})
    given = {"content_type": "application/json"} | changed
    sender = Client(enforce_csrf_checks=True)
    return sender.post(reverse("trigger_in", args=[trigger.address]), body, headers=headers, **given)


def outputs(run: Run) -> list[str]:
    work(run_id=run.pk, owner="test")
    ids = StageRun.objects.filter(run=run).values_list("output_content_id", flat=True)
    return [open_content(content=Content.objects.get(pk=pk)).decode() for pk in ids]


# --- requests ---------------------------------------------------------------------------


@pytest.mark.requirement("WH-1")
def test_only_a_request_that_our_secret_signed_as_it_stands_starts_anything(hook):
    trigger, secret = hook
    forged = [
        {"headers": {"webhook-signature": ""}},
        {"headers": {"webhook-signature": "v1," + base64.b64encode(bytes(32)).decode()}},
        {"headers": {"webhook-id": "evt_2"}},
        {"headers": {"webhook-timestamp": str(int(app_now().timestamp()) + 60)}},
        {"headers": {"webhook-timestamp": "soon"}},
        {"headers": {"webhook-id": ""}},
    ]
    assert [send(trigger, secret, **change).status_code for change in forged] == [401] * len(forged)
    other = Secret("whsec_" + base64.b64encode(bytes(32)).decode())
    assert send(trigger, other).status_code == 401

    Trigger.objects.update(secret=None, secret_id=None)
    assert send(trigger, secret).status_code == 401
    assert not TriggerEvent.objects.exists()
    assert not Run.objects.exists()


@pytest.mark.requirement("WH-1")
def test_signatures_are_held_against_each_other_in_constant_time():
    source = inspect.getsource(signing)
    assert source.count("hmac.compare_digest") == 1
    with pytest.raises(NotSigned):
        verify([], event="e", timestamp="1", given="v1,", body=b"", now=app_now())


@pytest.mark.requirement("WH-2")
def test_an_old_request_starts_nothing_and_one_that_comes_again_starts_nothing_more(hook):
    trigger, secret = hook
    assert send(trigger, secret, late=timedelta(minutes=6)).status_code == 401
    assert send(trigger, secret, late=-timedelta(minutes=6)).status_code == 401

    first, again = send(trigger, secret), send(trigger, secret, {"order": "another body"})

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert str(Run.objects.get().pk) == first.json()["run"]


@pytest.mark.requirement("WH-3")
def test_the_address_is_long_random_and_held_against_the_whole(hook, flow):
    trigger, secret = hook
    other, _ = triggers.add_webhook(flow=flow, mapping={}, by=owner_of(flow.team))
    assert len(base64.urlsafe_b64decode(trigger.address)) * 8 >= 128
    assert other.address[:8] != trigger.address[:8]
    whole = trigger.address
    for wrong in (whole[:-1], whole + "a", whole.swapcase(), str(trigger.pk), "%2e%2e"):
        trigger.address = wrong
        assert send(trigger, secret).status_code == 404


@pytest.mark.requirement("WH-4")
def test_a_body_is_read_after_its_signature_and_a_bad_one_has_one_answer(hook):
    trigger, secret = hook
    assert send(trigger, secret, b"{", headers={"webhook-signature": "v1,x"}).status_code == 401

    wrong = send(trigger, secret, b'{"a": 1, "a": 2}')
    assert wrong.status_code == 422
    assert send(trigger, secret).json() == wrong.json()  # the same event

    missing = send(trigger, secret, {"order": {}}, event="evt_2")
    assert "“title” is taken from order.items.0.title" in missing.json()["problem"]
    assert not Run.objects.exists()


@pytest.mark.requirement("WH-5")
def test_a_request_is_stored_and_answered_and_a_worker_does_the_work(hook):
    trigger, secret = hook
    run = Run.objects.get(pk=send(trigger, secret).json()["run"])

    assert (run.state, run.trigger, run.user) == ("queued", "webhook", trigger.owner)
    assert outputs(run) == ["Tea 12"]


def test_what_is_too_large_of_another_type_or_too_often_is_refused(hook, settings):
    trigger, secret = hook
    assert send(trigger, secret, content_type="text/plain").status_code == 415
    assert send(trigger, secret, b"x" * (256 * 1024 + 1)).status_code == 413
    assert Client().get(reverse("trigger_in", args=[trigger.address])).status_code == 405

    settings.ACCOUNT_RATE_LIMITS = settings.ACCOUNT_RATE_LIMITS | {"trigger": "1/60s/key"}
    other, _ = triggers.add_webhook(flow=trigger.flow, mapping={}, by=trigger.owner)
    answers = [send(other, secret, event=str(number)) for number in range(2)]
    assert [answer.status_code for answer in answers] == [401, 429]
    assert answers[1].headers["Retry-After"] == "60"


# --- its page ---------------------------------------------------------------------------


def test_a_member_makes_rotates_pauses_and_removes_an_address(client, team, flow):
    client.force_login(owner_of(team))
    page = reverse("flow_trigger_webhook", args=[team.slug, flow.slug])
    assert client.post(page, {"input_title": "has space"}).status_code == 422
    shown = client.post(page, {"input_title": "order.items.0.title"})
    trigger = Trigger.objects.get()
    first = secret_in(shown)
    assert first.use().encode() not in bytes(trigger.secret)

    second = secret_in(client.post(reverse("trigger_rotate", args=[team.slug, trigger.pk])))
    third_at = send(trigger, first), send(trigger, second, event="evt_2")
    assert [answer.status_code for answer in third_at] == [202, 202]
    kept = triggers.secrets_of(Trigger.objects.get(), app_now() + timedelta(hours=25))
    assert [secret.use() for secret in kept] == [second.use()]

    client.post(reverse("trigger_pause", args=[team.slug, trigger.pk]), {"pause": "yes"})
    assert send(trigger, second, event="evt_3").status_code == 404
    client.post(reverse("trigger_pause", args=[team.slug, trigger.pk]), {"pause": "no"})
    assert send(trigger, second, event="evt_3").status_code == 202

    listed = client.get(reverse("flow_triggers", args=[team.slug, flow.slug])).content.decode()
    assert "evt_3" in listed
    assert first.use() not in listed

    client.post(reverse("trigger_remove", args=[team.slug, trigger.pk]))
    assert send(trigger, second, event="evt_4").status_code == 404
    told = Event.objects.filter(team_id=team.pk, action__startswith="personas.trigger.").order_by("id")
    deeds = ["made", "rotated", "paused", "resumed", "removed"]
    assert [event.action for event in told] == [f"personas.trigger.{deed}" for deed in deeds]


def test_a_trigger_gets_another_name_and_mapping_and_keeps_its_address_and_secret(client, team, flow):
    by, builder = owner_of(team), make_member(team, Role.BUILDER)
    hook, secret = triggers.add_webhook(flow=flow, mapping={"title": "wrong.field"}, by=by, name="Shop")
    client.force_login(builder)
    page = reverse("trigger_edit", args=[team.slug, hook.pk])
    shown = client.get(page).content.decode()
    assert 'value="Shop"' in shown and 'value="wrong.field"' in shown

    assert client.post(page, {"name": "Orders", "input_title": "has space"}).status_code == 422
    client.post(page, {"name": "Orders", "input_title": "order.title"})
    hook.refresh_from_db()
    assert (hook.name, hook.mapping, hook.owner) == ("Orders", {"title": "order.title"}, builder)
    body = json.dumps({"order": {"title": "Tide"}}).encode()
    assert send(hook, secret, body).status_code == 202
    assert (
        "Orders: a signed request" in client.get(reverse("flow_triggers", args=[team.slug, flow.slug])).content.decode()
    )


def test_how_the_flow_before_must_end_is_changed_and_which_it_is_stays(client, team, flow):
    before = make_flow(team, [{"kind": "combine", "name": "all", "template": "News"}], name="Before")
    trigger = triggers.add_after(flow=flow, after=before, outcome="succeeded", mapping={}, by=owner_of(team))
    client.force_login(owner_of(team))
    page = reverse("trigger_edit", args=[team.slug, trigger.pk])
    client.post(page, {"outcome": "ended", "after": flow.slug, "input_title": "output"})
    trigger.refresh_from_db()
    assert (trigger.outcome, trigger.after, trigger.mapping) == ("ended", before, {"title": "output"})


def secret_in(response) -> Secret:
    return Secret(re.search(r"whsec_[A-Za-z0-9+/=]+", response.content.decode())[0])


# --- after another flow -----------------------------------------------------------------


def test_a_flow_starts_once_after_another_one_and_is_handed_what_that_gave(team, flow):
    before = make_flow(team, [{"kind": "combine", "name": "all", "template": "News"}], name="Before")
    mapping = {"title": "output", "total": "state"}
    trigger = triggers.add_after(flow=flow, after=before, outcome="succeeded", mapping=mapping, by=owner_of(team))
    by = make_member(team, Role.BUILDER)
    run = actions.run_flow(flow=before, by=by, idempotency_key="1")
    work(run_id=run.pk, owner="test")

    follower = Run.objects.get(flow=flow)
    assert (follower.trigger, follower.caused_by, follower.user) == ("flow", run, trigger.owner)
    assert outputs(follower) == ["News succeeded"]

    rehearsed = actions.run_flow(flow=before, by=by, idempotency_key="2", rehearsal=True)
    work(run_id=rehearsed.pk, owner="test")
    assert Run.objects.filter(flow=flow).count() == 1


def test_a_follower_of_failures_starts_after_those_alone(team, flow):
    persona = make_persona(team)
    stage = {"kind": "prompt", "name": "one", "persona": str(persona.pk), "template": "Hello"}
    before = make_flow(team, [stage], name="Before")
    after = make_flow(team, name="Only successes")
    triggers.add_after(flow=flow, after=before, outcome="failed", mapping={"title": "failure"}, by=owner_of(team))
    triggers.add_after(flow=after, after=before, outcome="succeeded", mapping={}, by=owner_of(team))
    persona.archived_at = app_now()
    persona.save()
    run = actions.run_flow(flow=before, by=owner_of(team), idempotency_key="1")
    work(run_id=run.pk, owner="test")

    assert "archived" in outputs(Run.objects.get(caused_by=run))[0]


def test_flows_never_follow_each_other_in_a_circle_and_long_rows_end(team):
    flows = [make_flow(team, name=f"Flow {number}") for number in range(DEEPEST + 1)]
    by = owner_of(team)
    for before, flow in pairwise(flows):
        triggers.add_after(flow=flow, after=before, outcome="ended", mapping={}, by=by)
    for after in (flows[-1], flows[0]):
        with pytest.raises(triggers.CannotTrigger, match="for ever"):
            triggers.add_after(flow=flows[0], after=after, outcome="ended", mapping={}, by=by)
    with pytest.raises(triggers.CannotTrigger, match="already"):
        triggers.add_after(flow=flows[1], after=flows[0], outcome="failed", mapping={}, by=by)

    actions.run_flow(flow=flows[0], by=by, idempotency_key="1")
    while run := Run.objects.filter(state="queued").first():
        work(run_id=run.pk, owner="test")
    assert Run.objects.count() == DEEPEST
    assert "in a row" in TriggerEvent.objects.get(run=None).problem
