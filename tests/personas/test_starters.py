"""The personas to start from: complete, honest about their tools, lent in one step or not at all."""

import pytest
from django.urls import reverse

from accounts.permissions import Role
from integrations.fitting import needs_of
from integrations.registry import get_tool, parse_arguments, tokens_upper_bound
from personas import chains, exchange, prompting, starters, wishes
from personas.forms import PersonaForm
from personas.models import Persona, PersonaVersion
from tests.factories import make_member, make_team, owner_of
from tests.personas.builders import make_persona
from tests.route_samples import a_connection
from vault.models import Grant

pytestmark = pytest.mark.django_db

each_starter = pytest.mark.parametrize("starter", starters.STARTERS, ids=lambda starter: starter.key)


@pytest.fixture
def team():
    return make_team()


@pytest.fixture
def owner(client, team):
    client.force_login(owner_of(team))
    return client


def start(team, key: str) -> str:
    return reverse("persona_start", args=[team.slug, key])


def typed(starter, **more) -> dict:
    """What the form of a starter posts when nothing is changed."""
    form = PersonaForm(initial=PersonaForm.initial_of(Persona(name=starter.name), PersonaVersion(**starter.says)))
    values = {name: form[name].value() for name in form.fields}
    return {name: value for name, value in values.items() if value not in (None, False)} | more


def grants_of(persona) -> list[dict]:
    return list(Grant.objects.live().filter(holder=persona.pk).values_list("scopes", flat=True))


def test_there_are_five_with_different_addresses():
    assert len({starter.key for starter in starters.STARTERS} - {"blank", "import"}) == 5


@each_starter
def test_a_starter_says_what_the_editor_would_take(starter):
    form = PersonaForm(typed(starter))
    assert form.is_valid(), form.errors
    said = {name: form.said[name] for name in PersonaVersion.SAYS}
    assert exchange.Said(**said).says == said


@each_starter
def test_a_starter_can_be_asked_in_both_shapes(starter):
    for shape in PersonaVersion.Format.values:
        version = PersonaVersion(**starter.says, format=shape)
        tool = get_tool("openrouter", prompting.tool_of(version))
        checked = parse_arguments(tool, prompting.arguments_of(version, "hi") | {"model": "openai/gpt-5.4-mini"})
        assert needs_of(checked, tokens_upper_bound(tool, checked))


@each_starter
def test_a_starters_tools_exist_and_its_chain_holds(starter):
    assert all(wishes.is_known(wish) for wish in starter.wishes)
    said = starter.says
    assert chains.problem_of(said["chain"], said.get("routing", "order")) == ""


@each_starter
def test_without_a_connection_it_is_created_and_says_what_it_lacks(owner, team, starter):
    page = owner.get(start(team, starter.key)).content.decode()
    assert "No integration that has these tools is connected." in page
    owner.post(start(team, starter.key), typed(starter))
    persona = team.personas.get()
    assert (persona.version.number, grants_of(persona)) == (1, [])
    assert persona.wants == wishes.written(starter.wishes)
    page = owner.get(reverse("persona_detail", args=[team.slug, persona.slug])).content.decode()
    assert "not lent yet" in page


def test_its_tools_are_lent_in_the_same_step_as_previewed(owner, team):
    connection = a_connection(team)
    starter = starters.find("credit-watch")
    page = owner.get(start(team, starter.key)).content.decode()
    assert "Credit Watch may now use Create chat completion, Get credits and Get current key without asking." in page
    owner.post(start(team, starter.key), typed(starter, connection=str(connection)))
    persona = team.personas.get()
    on = {name for scopes in grants_of(persona) for name, said in scopes["tools"].items() if said["rule"] == "allowed"}
    assert (on, persona.wants) == ({wish.tool for wish in starter.wishes}, [])


@pytest.mark.parametrize("which", ["another team's", "nobody's", "no id"])
def test_a_connection_that_is_not_the_teams_lends_nothing_and_creates_nothing(owner, team, which):
    other = {"another team's": str(a_connection(make_team())), "nobody's": "0" * 32, "no id": "main"}[which]
    starter = starters.find("credit-watch")
    assert owner.post(start(team, starter.key), typed(starter, connection=other)).status_code == 404
    assert not team.personas.exists()


def test_a_starter_that_is_not_there_is_not_found(owner, team):
    assert owner.get(start(team, "boundless")).status_code == 404


@pytest.mark.parametrize("role", [Role.MEMBER, Role.AUDITOR])
def test_who_may_not_edit_starts_nothing(client, team, role):
    client.force_login(make_member(team, role))
    assert client.get(reverse("persona_new", args=[team.slug])).status_code == 403
    assert client.post(start(team, "credit-watch"), typed(starters.find("credit-watch"))).status_code == 403


# --- wishes -----------------------------------------------------------------------------


@pytest.fixture
def wishing(team) -> Persona:
    wanted = [wishes.Wish("openrouter", "get_credits"), wishes.Wish("openrouter", "get_current_key", "ask")]
    return make_persona(team, wants=wishes.written(wanted))


def wishes_page(persona) -> str:
    return reverse("persona_wishes", args=[persona.team.slug, persona.slug])


def test_what_it_lacks_is_lent_as_previewed_and_keeps_what_it_had(owner, team, wishing):
    connection = a_connection(team)
    page = owner.get(wishes_page(wishing)).content.decode()
    assert "may now use Get credits without asking." in page
    assert "may now use Get current key, after asking a person." in page
    owner.post(wishes_page(wishing), {"connection": str(connection)})
    rules = {name: said["rule"] for name, said in grants_of(wishing)[0]["tools"].items()}
    assert rules == {"get_credits": "allowed", "get_current_key": "ask"}
    wishing.refresh_from_db()
    assert wishing.wants == []


def test_what_is_lent_already_is_not_loosened(owner, team, wishing):
    connection = team.connections.get(pk=a_connection(team))
    strict = {"get_credits": {"rule": "ask", "unattended": False}}
    wishes.integrations.set_scopes(
        connection=connection,
        holder=wishing.pk,
        name="Writer",
        scopes=wishes.lending.read_or_none({"tools": strict}),
        by=owner_of(team),
    )
    owner.post(wishes_page(wishing), {"connection": str(connection.pk)})
    kept = grants_of(wishing)[0]["tools"]["get_credits"]
    assert (kept["rule"], kept["unattended"]) == ("ask", False)


def test_without_a_choice_nothing_is_lent(owner, wishing):
    answer = owner.post(wishes_page(wishing), {})
    assert answer.status_code == 422
    assert "Choose a connection first." in answer.content.decode()


def test_a_persona_can_do_without(owner, wishing):
    owner.post(reverse("persona_wishes_drop", args=[wishing.team.slug, wishing.slug]))
    wishing.refresh_from_db()
    assert wishing.wants == []


def test_a_tool_that_is_gone_is_no_wish():
    assert wishes.read([{"integration": "openrouter", "tool": "gone", "rule": "allowed"}]) == []
