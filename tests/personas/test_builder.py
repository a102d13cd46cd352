"""The builder: every kind of stage goes in and comes out as it was, and what is wrong is said where it stands."""

import pytest
from django.urls import reverse

from personas.execution import work
from personas.models import Flow, Run
from personas.stage_forms import StageForm, initial, kind_of
from personas.stages import read_stages
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow, make_persona
from tests.personas.test_pages import builder

pytestmark = pytest.mark.django_db

SCHEMA = {"type": "object", "properties": {"score": {"type": "number"}}}


@pytest.fixture
def team():
    return make_team()


@pytest.fixture
def owner(client, team):
    client.force_login(owner_of(team))
    return client


def every_kind(persona: str) -> list[dict]:
    prompt = {"kind": "prompt", "persona": persona, "template": "Rate {{ item }}", "chain": ["a/b", "c/d"]}
    prompt |= {"routing": "cheapest", "output_schema": SCHEMA}
    tool = {"kind": "tool", "persona": persona, "tool": "get_credits", "arguments": {"q": "{{ input.topic }}"}}
    return [
        {"kind": "combine", "name": "list", "template": "{{ input.topic }}"},
        {"kind": "each", "name": "rated", "over": "{{ stage.list.output }}", "most": 7, "at_once": 3, "do": prompt},
        {"kind": "each", "name": "looked", "over": "a\nb", "do": tool, "retries": 2, "timeout": 60, "most_usd": "0.5"},
        prompt | {"name": "best", "template": "Which?", "when": {"stage": "rated", "is": "contains", "value": "9"}},
        tool | {"name": "mend", "when": {"stage": "best", "is": "failed", "value": ""}},
        {"kind": "approve", "name": "asked", "text": "Send {{ stage.best.output }}?"},
    ]


def as_posted(stage: dict) -> dict[str, str]:
    """What a browser sends of the form that shows a stage."""
    form = StageForm(initial=initial(stage), kind=kind_of(stage), personas=[], tools=[])
    values = {name: form[name].value() for name in form.fields}
    return {name: "" if value is None else str(value) for name, value in values.items()} | {"kind": kind_of(stage)}


def test_every_kind_of_stage_is_built_shown_and_saved_again_unchanged(owner, team):
    stages = every_kind(str(make_persona(team).pk))
    url = reverse("flow_create", args=[team.slug])
    response = owner.post(url, builder(*map(as_posted, stages)) | {"inputs": "topic = whales\ntone"})
    assert response.status_code == 302, response.content.decode()
    flow = Flow.objects.get(team=team)
    inputs = [{"name": "topic"}, {"name": "tone"}]
    assert flow.version.stages == [stage.model_dump() for stage in read_stages(stages, inputs)]
    assert [(each["name"], each["default"]) for each in flow.version.inputs] == [("topic", "whales"), ("tone", "")]
    shown = owner.get(reverse("flow_detail", args=[team.slug, flow.slug])).content.decode()
    for words in (
        "Only if <b>best</b> failed",
        "contains “9”",
        "For up to 7 items, 3 at once",
        "Up to 2 further tries",
    ):
        assert words in shown
    edit = reverse("flow_edit", args=[team.slug, flow.slug])
    form = owner.get(edit).content.decode()
    assert "topic = whales\ntone</textarea>" in form
    assert form.count("<details") >= 6
    owner.post(edit, builder(*map(as_posted, flow.version.stages)) | {"inputs": "topic = whales\ntone"})
    again = Flow.objects.get(team=team).version
    assert (again.number, again.stages, again.inputs) == (2, flow.version.stages, flow.version.inputs)


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({"kind": "combine", "template": "x", "when_test": "failed"}, "Name the earlier stage"),
        (
            {"kind": "combine", "template": "x", "when_test": "above", "when_stage": "first", "when_value": "much"},
            "0.8",
        ),
        (
            {"kind": "combine", "template": "x", "when_test": "done", "when_stage": "nobody"},
            "no earlier stage is named",
        ),
        ({"kind": "combine", "template": "x", "timeout": "5"}, "greater than or equal to 10"),
        ({"kind": "combine", "template": "x", "most_usd": "0"}, "write more than nothing"),
        ({"kind": "approve", "text": ""}, "This field is required"),
        ({"kind": "approve", "text": "{{ item }}"}, "is not known here"),
        ({"kind": "combine", "template": "{{ input.topic }}"}, "is not known here"),
    ],
)
def test_what_is_wrong_with_a_stage_is_said(owner, team, stage, words):
    first = {"kind": "combine", "name": "first", "template": "1"}
    response = owner.post(reverse("flow_create", args=[team.slug]), builder(first, {"name": "second"} | stage))
    assert response.status_code == 422
    assert words in response.content.decode()
    assert not Flow.objects.exists()


@pytest.mark.parametrize("inputs", ["Topic", "time = now", "a\na", "x" * 41, "= 1"])
def test_inputs_that_cannot_be_are_refused(owner, team, inputs):
    stage = {"kind": "combine", "name": "one", "template": "1"}
    response = owner.post(reverse("flow_create", args=[team.slug]), builder(stage) | {"inputs": inputs})
    assert response.status_code == 422
    assert not Flow.objects.exists()


def test_a_button_adds_each_kind(owner, team):
    url = reverse("flow_create", args=[team.slug])
    for kind in ("approve", "each_prompt", "each_tool"):
        page = owner.post(url, builder(do=f"add-{kind}")).content.decode()
        assert f'value="{kind}"' in page


def test_run_now_takes_inputs_and_leaves_the_others_as_the_flow_says(owner, team):
    flow = make_flow(team, [{"kind": "combine", "name": "one", "template": "1"}])
    flow.version.inputs = [{"name": "topic", "default": "whales"}, {"name": "tone", "default": "dry"}]
    flow.version.stages = [{"kind": "combine", "name": "one", "template": "{{ input.topic }}, {{ input.tone }}"}]
    flow.version.save()
    assert "input-topic" in owner.get(reverse("flow_detail", args=[team.slug, flow.slug])).content.decode()
    run_url = reverse("flow_run", args=[team.slug, flow.slug])
    owner.post(run_url, {"once": "abc", "input-topic": "ships", "input-tone": " "})
    run = Run.objects.get(team=team)
    work(run_id=run.pk, owner="test")
    assert "ships, dry" in owner.get(reverse("run_detail", args=[team.slug, run.pk])).content.decode()
    page = owner.post(run_url, {"once": "def", "input-colour": "red"}, follow=True).content.decode()
    assert "This flow has no input “colour”" in page
    assert Run.objects.filter(team=team).count() == 1
