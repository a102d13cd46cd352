"""A policy counts for the very next call, whoever makes it, and what it refuses never leaves."""

import pytest

from audit.models import Event
from integrations import catalog
from integrations.models import Call, Policy
from integrations.policy import PolicyRefuses, read_rules
from integrations.policy_actions import set_policy
from tests.integrations.catalog_fixture import read_catalog
from tests.integrations.desk import CHAT, MODEL, QUESTION, Desk

pytestmark = pytest.mark.django_db
FREE = "openai/gpt-oss-20b:free"
ZDR = {"retention": {"openai": "zdr", "anthropic": "zdr"}}


@pytest.fixture
def desk(sandbox, settings) -> Desk:
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    read_catalog(sandbox, wanted=[MODEL])
    yield Desk(sandbox)
    catalog.forget()


def floor(desk: Desk, rules: dict) -> None:
    set_policy(team=desk.team, holder=desk.team.pk, name=desk.team.name, rules=read_rules(rules), by=desk.owner)


def posted(desk: Desk) -> int:
    return len([line for line in desk.sandbox.journal() if line["path"].endswith("/chat/completions")])


@pytest.mark.requirement("LLM-10")
def test_what_no_endpoint_may_serve_is_refused_before_it_leaves_and_written_down(desk):
    floor(desk, ZDR)
    before = posted(desk)
    with pytest.raises(PolicyRefuses, match="no endpoint of openai/gpt-oss-20b:free has it"):
        desk.call(CHAT, QUESTION | {"model": FREE})
    assert posted(desk) == before
    assert not Call.objects.filter(team=desk.team, model=FREE).exists()
    event = Event.objects.get(team_id=desk.team.pk, action="call.refused")
    assert event.outcome == "policy_refuses"
    assert event.details["message"].startswith("The team's floor asks for zero data retention")


@pytest.mark.requirement("LLM-10")
def test_the_next_call_is_served_inside_the_floor(desk):
    assert desk.call().answer.provider == "Anthropic"
    floor(desk, ZDR)
    assert desk.call().answer.provider == "Amazon Bedrock"
    floor(desk, ZDR | {"providers_never": ["amazon-bedrock"]})
    assert desk.call().answer.provider == "Google"
    floor(desk, {})
    assert desk.call().answer.provider == "Anthropic"


def test_a_policy_that_cannot_be_read_refuses_every_call_to_a_model(desk):
    floor(desk, {})
    Policy.objects.filter(team=desk.team).update(rules={"surprise": True})
    with pytest.raises(PolicyRefuses, match="cannot be read"):
        desk.call()


def test_another_teams_floor_counts_for_nobody_else(desk, sandbox):
    floor(Desk(sandbox), {"providers_only": []})
    assert desk.call().call.state == "done"
