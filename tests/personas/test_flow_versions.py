"""Versions of flows: a draft runs nothing until it is published, and nobody overwrites what they have not seen."""

import pytest
from django.contrib.messages import get_messages
from django.urls import reverse

from audit.models import Event
from personas import drafting, flow_actions, flow_comparing
from personas.execution import work
from personas.models import Flow, FlowVersion, Run
from personas.starting import start_run
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow, make_persona
from tests.personas.test_pages import builder

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>{{ input.time }}"


@pytest.fixture
def team():
    return make_team()


@pytest.fixture
def flow(team) -> Flow:
    return make_flow(team)


@pytest.fixture
def owner(client, team):
    client.force_login(owner_of(team))
    return client


def combine(name: str, template: str = "x") -> dict:
    return {"kind": "combine", "name": name, "template": template}


def save(flow: Flow, *stages: dict, **more) -> FlowVersion:
    said = {"name": flow.name, "purpose": "", "stage_list": list(stages), "by": owner_of(flow.team), "is_draft": True}
    return flow_actions.save_flow(flow=flow, **(said | more))


def url(name: str, flow: Flow, *args) -> str:
    return reverse(name, args=[flow.team.slug, flow.slug, *args])


def now(flow: Flow) -> tuple[int | None, int | None]:
    """The numbers in use and in draft."""
    found = Flow.objects.select_related("version", "draft").get(pk=flow.pk)
    return found.version and found.version.number, found.draft and found.draft.number


def said(response) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


# --- drafts -----------------------------------------------------------------------------


def test_a_draft_runs_nothing_until_it_is_published(flow, owner):
    save(flow, combine("two", "second"))
    assert now(flow) == (1, 2)
    run = start_run(flow=Flow.objects.get(pk=flow.pk), user=owner_of(flow.team))
    assert run.flow_version.number == 1
    assert "Version 2 published" in said(owner.post(url("flow_publish", flow), {"number": "2"}))
    assert now(flow) == (2, None)
    assert FlowVersion.objects.get(flow=flow, number=2).published_at
    work(run_id=run.pk, owner="test")
    assert Run.objects.get(pk=run.pk).state == Run.State.SUCCEEDED
    assert run.stages.get().name == "all"


def test_a_flow_that_is_only_a_draft_is_shown_and_does_not_run(team, owner):
    response = owner.post(reverse("flow_create", args=[team.slug]), builder(combine("one")) | {"do": "draft"})
    flow = Flow.objects.get(team=team)
    assert now(flow) == (None, 1)
    page = owner.get(response.url).content.decode()
    assert "does not run until it is published" in page and "Run now" not in page
    assert owner.get(reverse("flow_list", args=[team.slug])).status_code == 200
    owner.post(url("flow_run", flow), {"once": "x"})
    assert not Run.objects.exists()
    for name in ("schedule_create", "flow_triggers"):
        assert owner.get(url(name, flow)).status_code == 404
    assert "this draft is all there is" in said(owner.post(url("flow_discard", flow), {"number": "1"}))
    owner.post(url("flow_publish", flow), {"number": "1"})
    assert "Run now" in owner.get(response.url).content.decode()


def test_a_draft_is_edited_discarded_and_restored(flow, owner):
    save(flow, combine("two"))
    assert 'value="two"' in owner.get(url("flow_edit", flow)).content.decode()
    owner.post(url("flow_discard", flow), {"number": "2"})
    assert now(flow) == (1, None)
    owner.post(url("flow_restore", flow, 2), {"seen": "2"})
    assert now(flow) == (1, 3)
    assert "not the draft any more" in said(owner.post(url("flow_publish", flow), {"number": "2"}))
    told = Event.objects.filter(target=f"flow:{flow.pk}").order_by("at", "id").values_list("action", flat=True)
    assert list(told) == [f"personas.flow.{verb}" for verb in ("made", "drafted", "draft_discarded", "restored")]


def test_what_two_tabs_save_is_not_lost(flow, owner):
    page = owner.get(url("flow_edit", flow)).content.decode()
    assert 'name="seen" value="1"' in page
    save(flow, combine("theirs"))
    mine = builder(combine("mine")) | {"seen": "1", "do": "publish"}
    answer = owner.post(url("flow_edit", flow), mine)
    text = answer.content.decode()
    assert answer.status_code == 409
    assert "Version 2 was saved meanwhile" in text and 'value="mine"' in text and 'name="seen" value="2"' in text
    assert now(flow) == (1, 2)
    assert owner.post(url("flow_edit", flow), mine | {"seen": "2"}).status_code == 302
    assert now(flow) == (3, None)


def test_the_same_form_sent_twice_makes_one_version(flow):
    first = save(flow, combine("two"), seen=1)
    assert save(flow, combine("two"), seen=1) == first
    with pytest.raises(drafting.Outdated):
        save(flow, combine("three"), seen=1)


def test_a_stage_that_nobody_touched_is_the_same_though_browsers_end_lines_otherwise(flow, owner):
    save(flow, combine("two", "a\nb"))
    posted = builder(combine("two", "a\r\nb")) | {"seen": "2", "do": "publish", "name": flow.name}
    owner.post(url("flow_edit", flow), posted)
    assert FlowVersion.objects.get(flow=flow, number=3).stages == FlowVersion.objects.get(flow=flow, number=2).stages


# --- history ----------------------------------------------------------------------------


def test_the_history_says_what_each_version_changed(flow, owner):
    save(flow, combine("all", "other"), combine("more"))
    save(flow, combine("more"), combine("all", "other"))
    save(flow, combine("more"), combine("all", "other"), inputs=[{"name": "topic", "default": "x"}])
    page = owner.get(url("flow_versions", flow)).content.decode()
    for words in ("The first version.", "Added more; Changed all.", "The order of its stages.", "Other inputs."):
        assert words in page
    assert "Removed more" not in page


def test_two_versions_are_compared_stage_by_stage_and_word_by_word(flow, team, owner):
    writer = make_persona(team)
    prompt = {"kind": "prompt", "name": "all", "persona": str(writer.pk), "template": "Say it is {{ input.time }}"}
    save(flow, prompt, combine("added", HOSTILE))
    page = owner.get(url("flow_version", flow, 2)).content.decode()
    assert "From version 1 to 2" in page and "A new stage, number 2." in page
    assert "persona: Writer" in page.replace('<ins><span class="sr">added: </span>', "")
    assert "<ins>" in page and "<del>" in page and "<script>alert" not in page
    assert "Publish version 2" in page
    assert owner.get(url("flow_version", flow, 3)).status_code == 404


def test_every_field_of_a_stage_that_is_not_at_its_default_is_in_its_text():
    stage = {
        "kind": "each",
        "name": "n",
        "over": "a\nb",
        "do": {"kind": "prompt", "persona": "p", "chain": ["a/b", "c/d"], "template": "t"},
        "when": {"stage": "x", "is": "failed", "value": ""},
        "retries": 0,
        "timeout": 30,
        "most_usd": None,
    }
    text = flow_comparing.as_text(stage, {"p": "Writer"})
    assert "over: \na\nb" in text and "persona: Writer" in text and "chain: a/b, then c/d" in text
    assert "timeout: 30" in text and '"is": "failed"' in text
    assert "retries" not in text and "most_usd" not in text
