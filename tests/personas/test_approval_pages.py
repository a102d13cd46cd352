"""The inbox and its pages: who sees what, what the buttons do, and what a second tab is told."""

import re
from html import unescape
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Team
from accounts.permissions import Role
from audit.clock import app_now
from audit.models import Content
from integrations.models import Approval
from personas import actions, asking
from personas.leases import claim
from personas.models import Chat, Run
from personas.queries import PAGE
from tests.factories import make_member, make_team, owner_of
from tests.integrations.questions import CHAT, make_approval, make_question
from tests.personas.builders import make_flow, make_persona
from tests.personas.chat.builders import make_chat, make_turn
from vault.models import Grant

pytestmark = pytest.mark.django_db


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def team() -> Team:
    return make_team()


@pytest.fixture
def owner(team) -> Client:
    return signed_in(owner_of(team))


def page(client: Client, approval: Approval) -> str:
    return text(client.get(reverse("approval_detail", args=[approval.team.slug, approval.pk])))


def text(response) -> str:
    """The page as it is read, without its tags."""
    assert response.status_code == 200
    body = re.search(r"<body.*</body>", response.content.decode(), re.DOTALL)[0]
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


def press(client: Client, approval: Approval, verdict: str) -> str:
    address = reverse("approval_decide", args=[approval.team.slug, approval.pk])
    said = text(client.post(address, {"verdict": verdict}, follow=True))
    approval.refresh_from_db()
    return said


def parked(team: Team) -> Run:
    """A run that waits for an approval, as a worker leaves it."""
    persona = make_persona(team, name="Broker")
    stage = {"kind": "prompt", "name": "sell", "persona": str(persona.pk), "template": "Sell the boat"}
    run = actions.run_flow(flow=make_flow(team, [stage]), by=owner_of(team), idempotency_key=uuid4().hex)
    stage = run.stages.get()
    question = make_question(
        team, persona_id=persona.pk, flow_id=run.flow_id, run_id=run.pk, stage_id=stage.pk, user_id=run.user_id
    )
    asking.park(run, stage, claim(run_id=run.pk, owner="test"), question)
    run.refresh_from_db()
    return run


# --- who may ----------------------------------------------------------------------------


@pytest.mark.requirement("LLM-8")
def test_another_teams_approval_is_not_found(owner, team):
    theirs = make_approval(make_team())
    for name in ("approval_detail", "approval_decide"):
        answer = owner.post if name == "approval_decide" else owner.get
        assert answer(reverse(name, args=[team.slug, theirs.pk]), {"verdict": "once"}).status_code == 404
    theirs.refresh_from_db()
    assert theirs.state == "waiting"


@pytest.mark.parametrize("role", [Role.MEMBER, Role.AUDITOR])
def test_who_may_not_decide_sees_the_question_without_buttons_and_why(team, role):
    said = page(signed_in(make_member(team, role)), make_approval(team))
    assert "Sell the boat" in said
    assert f"The role {role} may not decide approvals. Owners, admins and builders can." in said
    assert "Allow once" not in said
    assert "Refuse" not in said


@pytest.mark.parametrize("role", [Role.MEMBER, Role.AUDITOR])
def test_what_a_chat_asks_for_is_shown_to_its_readers_and_to_those_who_decide(team, owner, role):
    chat, other = make_chat(team, user=make_member(team)), signed_in(make_member(team, role))
    approval = make_approval(team, run_id=make_turn(chat).run_id)

    said = page(other, approval)
    assert "a chat that is not shared" in said
    assert "Sell the boat" not in said
    assert all("Sell the boat" in page(client, approval) for client in (owner, signed_in(chat.user)))

    Chat.objects.update(shared_at=app_now())
    assert "Sell the boat" in page(other, approval)


@pytest.mark.requirement("LLM-8")
def test_a_forged_form_of_a_member_without_the_right_decides_nothing(team):
    approval = make_approval(team)
    said = press(signed_in(make_member(team, Role.MEMBER)), approval, "once")
    assert "may not decide" in said
    assert approval.state == "waiting"


def test_a_member_whom_the_grant_names_decides_once_but_not_for_ever(team):
    named = make_member(team, Role.MEMBER)
    approval = make_approval(team, approvers=(named.pk,))
    said = page(signed_in(named), approval)
    assert "Allow once" in said
    assert "Always allow" not in said
    assert "may not decide" not in page(signed_in(owner_of(team)), approval)
    assert f"{named.email}, and owners" in page(signed_in(make_member(team, Role.ADMIN)), approval)
    press(signed_in(named), approval, "once")
    assert (approval.state, approval.decided_by) == ("approved", named)


# --- deciding ---------------------------------------------------------------------------


def test_a_second_tab_is_told_who_decided(owner, team):
    approval = make_approval(team)
    other = make_member(team, Role.ADMIN)
    press(owner, approval, "once")
    said = press(signed_in(other), approval, "refused")
    assert f"Already decided: {owner_of(team).email} allowed this call." in said
    assert approval.state == "approved"


@pytest.mark.parametrize("verdict", ["", "maybe", "approved"])
def test_a_verdict_that_is_none_decides_nothing(owner, team, verdict):
    approval = make_approval(team)
    assert "Choose what to do" in press(owner, approval, verdict)
    assert approval.state == "waiting"


def test_allowing_wakes_the_run_and_its_page_stops_waiting(owner, team):
    run = parked(team)
    run_page = reverse("run_detail", args=[team.slug, run.pk])
    waiting = text(owner.get(run_page))
    assert "Waiting for approval by an owner, admin or builder until" in waiting
    assert "Every model of this stage is rate limited" not in waiting
    assert "Waiting for approval" in text(owner.get(reverse("run_list", args=[team.slug])))
    assert "Waiting for approval" in text(owner.get(reverse("flow_list", args=[team.slug])))

    press(owner, run.approval, "once")

    assert Run.objects.claimable().filter(pk=run.pk).exists()
    assert "Waiting for approval" not in text(owner.get(run_page))


def test_allowing_for_ever_changes_the_grant(owner, team):
    run = parked(team)
    grant = Grant.objects.create(
        team=team,
        holder=run.approval.persona_id,
        connection=run.approval.connection_id,
        scopes={"tools": {CHAT: "ask"}},
        created_by=run.user,
        created_at=run.queued_at,
    )
    assert "Allowed from now on" in press(owner, run.approval, "always")
    grant.refresh_from_db()
    assert grant.scopes["tools"][CHAT]["rule"] == "allowed"


def test_allowing_for_ever_after_the_grant_ended_says_so(owner, team):
    approval = make_approval(team)
    assert "has ended" in press(owner, approval, "always")
    assert approval.state == "waiting"


def test_an_expired_question_has_no_buttons(owner, team, clock):
    approval = make_approval(team)
    clock(hours=73)
    assert "Allow once" not in page(owner, approval)
    assert "expired" in press(owner, approval, "once")


# --- what is shown ----------------------------------------------------------------------


@pytest.mark.requirement("LLM-8")
def test_a_question_shows_all_that_is_bound(owner, team):
    approval = make_approval(team, unattended=True)
    said = page(owner, approval)
    for words in (
        "Broker asks for create_chat_completion",
        "Sell the boat",
        "openai/gpt-5-mini, then anthropic/claude-sonnet-4.6",
        "Temperature 0.7",
        "$0.0125 and 8 platform credits",
        f"{owner_of(team).email}, unattended",
        approval.connection.label,
        approval.request_sha256,
    ):
        assert words in said, words


@pytest.mark.requirement("LLM-7")
def test_a_question_says_when_words_of_strangers_had_been_read(owner, team):
    said = page(owner, make_approval(team, untrusted=True))
    assert "Words of strangers had been read when this was asked for" in said
    assert "Rule Words of strangers had been read, or create_chat_completion is set" in said
    assert "strangers" not in page(owner, make_approval(team))


def test_dollars_nobody_can_bound_are_said_to_be_unknown(owner, team):
    assert "dollars not known" in page(owner, make_approval(team, most_usd=None))
    free = make_approval(team, most_usd=None, tool="get_current_key", arguments={}, chain=())
    assert "no dollars and 8 platform credits" in page(owner, free)
    listed = text(owner.get(reverse("approval_list", args=[team.slug])))
    assert "dollars not known" in listed
    assert "no dollars" in listed


HOSTILE = "</pre><img src=x onerror=alert(1)><button>Allow once</button>\u202e"


def test_what_a_model_wrote_stays_text(owner, team):
    arguments = {"messages": [{"role": HOSTILE, "content": HOSTILE}], "user": HOSTILE, HOSTILE: [HOSTILE]}
    approval = make_approval(team, arguments=arguments, chain=(HOSTILE,), persona_name=HOSTILE[:60])
    for name in ("approval_detail", "approval_list"):
        ids = [approval.pk] if name == "approval_detail" else []
        body = owner.get(reverse(name, args=[team.slug, *ids])).content.decode()
        assert "<img src=x" not in body
        assert body.count("<button>Allow once") == 0
    assert "\u202e" not in page(owner, make_approval(team, arguments=arguments))


def test_a_question_that_was_erased_can_only_be_refused(owner, team):
    approval = make_approval(team)
    Content.objects.filter(pk=approval.arguments_content_id).update(ciphertext=None)
    said = page(owner, approval)
    assert "was erased" in said
    assert "Allow once" not in said
    assert "Refuse" in said


def test_waiting_ones_come_first_and_older_ones_are_a_link_away(owner, team):
    first = make_approval(team)
    decided = make_approval(team, connection_id=first.connection_id)
    press(owner, decided, "refused")
    for number in range(PAGE):
        make_approval(team, connection_id=first.connection_id, persona_name=f"Persona {number:02}")
    here = reverse("approval_list", args=[team.slug])
    said = text(owner.get(here))
    assert said.index("Waiting") < said.index("Persona 49") < said.index("Decided and ended") < said.rindex("Refused")
    assert "Broker" not in said[: said.index("Decided and ended")]

    older = re.search(r'href="(\?only=waiting&amp;after=[^"]+)"', owner.get(here).content.decode())[1]
    said = text(owner.get(here + unescape(older)))
    assert "Broker" in said
    assert "Persona 49" not in said
    assert "Decided and ended" not in said


def test_a_page_of_nothing_says_so(owner, team):
    here = reverse("approval_list", args=[team.slug])
    assert "Nothing waits" in text(owner.get(here))
    assert "None so far" in text(owner.get(here, {"only": "decided", "after": "nonsense"}))
