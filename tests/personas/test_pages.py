from uuid import uuid4

import pytest
from django.urls import reverse

from accounts.permissions import Role
from integrations.actions import enable_for
from integrations.models import Connection
from personas.actions import run_flow
from personas.execution import work
from personas.models import Flow, Persona, Run
from tests.factories import make_member, make_team, owner_of
from tests.personas.builders import make_flow, make_persona, make_schedule
from tests.route_samples import a_connection

pytestmark = pytest.mark.django_db


@pytest.fixture
def team():
    return make_team()


@pytest.fixture
def page(client, team):
    """Open a team's page as its owner and return its text."""
    client.force_login(owner_of(team))

    def get(name, *args, status=200, **query):
        response = client.get(reverse(name, args=[team.slug, *args]), query)
        assert response.status_code == status
        return response.content.decode()

    return get


def test_the_first_visit_says_what_a_persona_is_and_offers_to_make_one(page):
    assert "Create the first persona" in page("persona_list")


def test_the_list_shows_each_persona_with_model_and_scopes(page, team):
    make_persona(team, name="Writer", chain=["openai/gpt-5-mini", "openai/gpt-5"])
    text = page("persona_list")
    assert "Writer" in text
    assert "openai/gpt-5-mini" in text
    assert "1 fallback" in text
    assert "0 of 14" in text


def test_a_search_without_a_match_offers_to_clear_it(page, team):
    make_persona(team)
    assert "No persona matches" in page("persona_list", q="nobody")


def test_a_persona_is_made_edited_and_keeps_its_versions(client, page, team):
    new = {"name": "Clause Reader", "purpose": "Reads", "instructions": "Be exact.", "max_tokens": "200"}
    client.post(reverse("persona_create", args=[team.slug]), new)
    persona = Persona.objects.get(team=team)
    assert (persona.slug, persona.version.number) == ("clause-reader", 1)
    said = new | {"instructions": "Be kind.", "do": "publish"}
    client.post(reverse("persona_edit", args=[team.slug, persona.slug]), said)
    persona.refresh_from_db()
    assert persona.version.number == 2
    assert list(persona.versions.order_by("number").values_list("instructions", flat=True)) == ["Be exact.", "Be kind."]
    assert "Be kind." in page("persona_detail", persona.slug)


def test_a_bad_persona_form_says_what_is_wrong_and_keeps_what_was_typed(client, team):
    client.force_login(owner_of(team))
    bad = {"name": "X", "model": "no slash", "fallback_model": "a/b", "max_tokens": "0"}
    response = client.post(reverse("persona_create", args=[team.slug]), bad)
    text = response.content.decode()
    assert response.status_code == 422
    assert "This is no model id" in text
    assert 'value="no slash"' in text
    assert not Persona.objects.exists()


def builder(*stages, do="save", name="Digest"):
    data = {"name": name, "purpose": "", "stages": str(len(stages)), "do": do}
    for position, stage in enumerate(stages):
        data |= {f"stage-{position}-{field}": value for field, value in stage.items()}
    return data


def test_a_flow_is_built_by_buttons_alone(client, team):
    client.force_login(owner_of(team))
    url = reverse("flow_create", args=[team.slug])
    one = {"kind": "combine", "name": "one", "template": "at {{ input.time }}"}
    two = {"kind": "combine", "name": "two", "template": "{{ stage.one.output }}"}
    added = client.post(url, builder(one, do="add-tool")).content.decode()
    assert 'name="stage-1-tool"' in added
    moved = client.post(url, builder(one, two, do="up-1")).content.decode()
    assert moved.index('value="two"') < moved.index('value="one"')
    assert not Flow.objects.exists()
    client.post(url, builder(one, two))
    assert [stage["name"] for stage in Flow.objects.get(team=team).version.stages] == ["one", "two"]


def test_a_flow_that_refers_to_nothing_is_refused_by_stage(client, team):
    client.force_login(owner_of(team))
    stage = {"kind": "combine", "name": "one", "template": "{{ stage.nobody.output }}"}
    response = client.post(reverse("flow_create", args=[team.slug]), builder(stage))
    assert response.status_code == 422
    assert "Stage 1: template: {{ stage.nobody.output }} is not known here" in response.content.decode()


def test_what_is_wrong_with_a_stage_stands_on_top_of_the_page_too(client, team):
    client.force_login(owner_of(team))
    stage = {"kind": "combine", "name": "Not A Name", "template": "hi"}
    text = client.post(reverse("flow_create", args=[team.slug]), builder(stage)).content.decode()
    summary = text[text.index('id="errors"') : text.index("</ul>", text.index('id="errors"'))]
    assert "Stage 1, Stage name: Use small letters" in summary
    assert "<title>Error: " in text


def test_a_flow_cannot_use_another_teams_persona(client, team):
    theirs = make_persona(make_team())
    client.force_login(owner_of(team))
    stage = {"kind": "prompt", "name": "one", "template": "hi", "persona": str(theirs.pk)}
    response = client.post(reverse("flow_create", args=[team.slug]), builder(stage))
    assert response.status_code == 422
    assert not Flow.objects.filter(team=team).exists()


def test_a_schedule_is_previewed_by_the_dispatchers_own_arithmetic(page, team):
    flow = make_flow(team)
    text = page("schedule_preview", flow.slug, kind="cron", cron="0 6 * * 1", zone="Europe/Berlin")
    assert text.count("<li>") == 6
    assert "At 06:00 on Monday" in text


def test_a_flow_shows_its_schedule_in_words_with_the_next_times(page, team):
    flow = make_flow(team)
    make_schedule(flow, cron="0 6 * * 1", zone="Europe/Berlin")
    assert "At 06:00 on Monday" in page("flow_detail", flow.slug)
    assert "Digest" in page("flow_list")


def test_run_now_sent_twice_starts_one_run(client, team):
    flow = make_flow(team)
    client.force_login(owner_of(team))
    for _ in range(2):
        client.post(reverse("flow_run", args=[team.slug, flow.slug]), {"once": "abc"})
    assert Run.objects.filter(team=team).count() == 1


def test_a_run_page_shows_stages_and_output(page, team):
    run = run_flow(flow=make_flow(team), by=owner_of(team), idempotency_key=uuid4().hex)
    assert "Queued" in page("run_detail", run.pk)
    work(run_id=run.pk, owner="test")
    text = page("run_detail", run.pk, stage="1")
    assert "Succeeded" in text
    assert "It is" in text
    assert "Digest" in page("run_list")


def test_progress_is_not_sent_again_while_nothing_changed(client, team):
    run = run_flow(flow=make_flow(team), by=owner_of(team), idempotency_key=uuid4().hex)
    client.force_login(owner_of(team))
    url = reverse("run_progress", args=[team.slug, run.pk])
    before = client.get(url).headers["HX-PTag"]
    work(run_id=run.pk, owner="test")
    assert client.get(url, headers={"HX-PTag": before}).status_code == 200
    after = client.get(url).headers["HX-PTag"]
    assert client.get(url, headers={"HX-PTag": after}).status_code == 304


def test_model_output_on_a_run_page_is_never_html(page, team):
    hostile = "<script>alert(1)</script><img src=x onerror=alert(1)> ![x](http://evil.test/x.png)"
    flow = make_flow(team, [{"kind": "combine", "name": "one", "template": hostile}])
    run = run_flow(flow=flow, by=owner_of(team), idempotency_key=uuid4().hex)
    work(run_id=run.pk, owner="test")
    text = page("run_detail", run.pk)
    assert "<script>alert" not in text
    assert "<img" not in text


def test_a_member_without_the_right_is_told_so(client, team):
    client.force_login(make_member(team, Role.AUDITOR))
    assert client.get(reverse("persona_create", args=[team.slug])).status_code == 403


def test_the_integration_pages_open_without_a_connection(page):
    assert "Connect a key" in page("integration_detail", "openrouter")
    assert "OpenRouter" in page("integration_list")
    assert "Connect and test" in page("connection_create", "openrouter")
    page("integration_detail", "nobody", status=404)


def test_connecting_keeps_the_key_out_of_every_page(client, page, team):
    client.force_login(owner_of(team))
    key = "sk-or-v1-" + "5" * 64
    given = {"label": "Main", "kind": "api_key", "key": key}
    response = client.post(reverse("connection_create", args=[team.slug, "openrouter"]), given)
    connection = Connection.objects.get(team=team)
    assert response.status_code == 302
    for name, args in (("connection_detail", [connection.pk]), ("integration_detail", ["openrouter"])):
        text = page(name, *args)
        assert key not in text
        assert "5555" in text


def test_a_text_that_cannot_be_a_key_is_refused_and_not_shown_again(client, team):
    client.force_login(owner_of(team))
    given = {"label": "Main", "kind": "api_key", "key": "my secret key"}
    response = client.post(reverse("connection_create", args=[team.slug, "openrouter"]), given)
    assert response.status_code == 422
    assert "my secret key" not in response.content.decode()


def test_the_console_says_which_granted_tool_the_key_cannot_reach(page, team):
    connection = Connection.objects.get(pk=a_connection(team))
    connection.state, connection.reach = "ready", {"get_credits": "Needs a management key.", "get_current_key": ""}
    connection.save(update_fields=["state", "reach"])
    persona = make_persona(team)
    enable_for(
        connection=connection, persona_id=persona.pk, tools=["get_credits", "get_current_key"], by=owner_of(team)
    )
    text = page("console", persona.slug)
    assert text.count("not usable with this key") == 1
    assert "Needs a management key." in text


def test_a_persona_that_can_answer_offers_a_chat(page, team):
    make_persona(team, name="Writer")
    make_persona(team, name="Clerk", chain=[])
    assert "chat/new/?persona=writer" in page("persona_detail", "writer")
    assert "chat/new/?persona=clerk" not in page("persona_detail", "clerk")
