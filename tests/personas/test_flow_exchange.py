"""Flows as files: what goes out comes in again, as a draft; nothing in a file is trusted."""

import pytest
import yaml
from django.contrib.messages import get_messages
from django.urls import reverse

from audit.models import Event
from personas import flow_exchange, yaml_text
from personas.models import Flow, FlowVersion
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow, make_persona
from tests.personas.test_builder import every_kind

pytestmark = pytest.mark.django_db

FILE = """
format: definable.flow
format_version: 1
origin: 0190a6f0-0000-7000-8000-000000000001
name: Tides
inputs:
- name: topic
  default: whales
stages:
- kind: prompt
  name: ask
  persona: Night Writer
  template: |
    About {{ input.topic }}.
    Be brief.
- kind: combine
  name: end
  template: '{{ stage.ask.output }}'
"""


@pytest.fixture
def team():
    return make_team()


def take_in(team, text: str = FILE) -> flow_exchange.Imported:
    return flow_exchange.import_flow(team=team, text=text, by=owner_of(team))


def refused(text: str) -> str:
    with pytest.raises(flow_exchange.NotAFlow) as refusal:
        take_in(make_team(), text)
    assert not Flow.objects.exists()
    return str(refusal.value)


# --- out and in -------------------------------------------------------------------------


def test_a_flow_of_every_kind_of_stage_comes_in_as_it_went_out(team):
    flow = make_flow(team, [{"kind": "combine", "name": "first", "template": "x"}])
    inputs = [{"name": "topic", "about": "", "default": "whales"}]
    stages = flow_exchange.stages.read_stages(every_kind(str(make_persona(team).pk)), inputs)
    said = {"stages": [stage.model_dump() for stage in stages], "inputs": inputs}
    FlowVersion.objects.filter(pk=flow.version_id).update(**said)
    flow.version.refresh_from_db()
    text = flow_exchange.export_flow(flow=flow, by=owner_of(team))
    assert str(team.pk) not in text and str(flow.pk) not in text and "persona: Writer" in text
    assert yaml.safe_load(text)["name"] == flow.name

    other = make_team()
    writer = make_persona(other)
    found = take_in(other, text)
    there = yaml_text.dump(found.draft.stages).replace(str(writer.pk), str(stages[2].persona))
    assert yaml.safe_load(there) == said["stages"]
    assert (found.draft.inputs, found.unknown, found.flow.version) == (inputs, [], None)


def test_a_file_that_comes_again_changes_its_flow_and_makes_no_copy(team):
    make_persona(team, name="Night Writer")
    first = take_in(team)
    assert take_in(team).draft is None
    again = take_in(team, FILE.replace("Be brief", "Be exact"))
    assert (again.flow, again.draft.number) == (first.flow, 2)
    assert Flow.objects.get(team=team).draft == again.draft
    told = Event.objects.filter(target=f"flow:{first.flow.pk}").values_list("action", flat=True)
    assert list(told) == ["personas.flow.imported"] * 2


def test_what_goes_out_and_comes_back_into_its_team_is_nothing_new(team):
    flow = make_flow(team)
    found = take_in(team, flow_exchange.export_flow(flow=flow, by=owner_of(team)))
    assert (found.flow, found.draft) == (flow, None)


def test_a_persona_that_this_team_has_not_is_still_to_be_chosen(team, client):
    client.force_login(owner_of(team))
    answer = client.post(reverse("flow_import", args=[team.slug]), {"text": FILE})
    said = " ".join(str(message) for message in get_messages(answer.wsgi_request))
    assert "Choose a persona of this team for: ask." in said
    flow = Flow.objects.get(team=team)
    pages = [reverse(name, args=[team.slug, flow.slug]) for name in ("flow_detail", "flow_edit", "flow_versions")]
    checked = reverse("flow_preflight", args=[team.slug, flow.slug, 1])
    assert [client.get(page).status_code for page in (answer.url, checked, *pages)] == [200] * 5
    answer = client.post(reverse("flow_publish", args=[team.slug, flow.slug]), {"number": "1"})
    said = " ".join(str(message) for message in get_messages(answer.wsgi_request))
    assert "Nothing was published. Stage 1: choose one of this team's personas." in said
    assert Flow.objects.get(team=team).version is None


def test_a_member_takes_a_flow_out_as_a_file(team, client):
    client.force_login(owner_of(team))
    flow = make_flow(team)
    answer = client.post(reverse("flow_export", args=[team.slug, flow.slug]))
    assert answer["Content-Disposition"] == f'attachment; filename="{flow.slug}.flow.yaml"'
    assert answer.content.decode().startswith("format: definable.flow\n")


# --- hostile files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "This is no flow"),
        ("[1, 2]", "This is no flow"),
        ("format: definable.persona", "This is no flow"),
        (FILE.replace("format_version: 1", "format_version: 2"), "reads version 1"),
        (FILE + "secret: x\n", "secret"),
        (FILE + "name: Again\n", "Line 19: this key stands twice"),
        (FILE.replace("kind: combine", "kind: shell"), "Stage 2"),
        (FILE.replace("stage.ask", "stage.gone"), "{{ stage.gone.output }} is not known"),
        (FILE.replace("name: Tides", "name: !!python/object/apply:os.system [id]"), "Line 5"),
        (FILE.replace("name: Tides", "name: &a Tides"), "Line 5: write it out"),
        ("a: &a [x]\nb: [*a, *a]", "Line 1: write it out"),
        ("name: 'open", "Line 1"),
        ("\x00", "cannot be read"),
        ("format: definable.flow\nname: " + "[" * 50, "Line 2: the file goes too deep"),
        ("- x\n" * 30_000, "too many parts"),
        ("x" * (1024 * 1024 + 1), "larger than 1 MiB"),
        (FILE.replace("Tides", "2026-13-45"), "cannot be read"),
        (FILE.replace("name: Tides", "name: 2026-11-23"), "name"),
        (FILE.replace("persona: Night Writer", "persona: {a: b}"), "Stage 1"),
    ],
    ids=range(19),
)
def test_a_file_that_is_not_what_it_should_be_is_refused_with_its_place(text, words):
    assert words in refused(text)


def test_a_page_says_what_is_wrong_and_keeps_the_text(team, client):
    client.force_login(owner_of(team))
    answer = client.post(
        reverse("flow_import", args=[team.slug]), {"text": "format: definable.flow\nformat_version: 3"}
    )
    assert answer.status_code == 422
    assert "reads version 1" in answer.content.decode() and "format_version: 3" in answer.content.decode()
