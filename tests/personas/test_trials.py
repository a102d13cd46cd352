"""Trying one stage: it alone is done, with what is pinned, and nothing follows from it."""

import pytest
from django.urls import reverse

from accounts.permissions import Role
from audit.models import Content, Event
from integrations.models import Call
from personas import actions, delivery, queries, schedule_queries, trials
from personas.estimates import of_flow
from personas.models import Delivery, FlowVersion, Notice, Run
from personas.repeating import CannotRepeat, run_again_from
from personas.stages import BadInput
from tests.factories import make_member, make_team, owner_of
from tests.personas.builders import make_flow, make_persona, make_schedule
from tests.personas.flowing import combine, each, go, make_desk, make_writer, prompt, start, told, when
from tests.personas.test_pages import builder
from tests.test_query_budget import MOST_QUERIES
from tests.test_query_budget import queries as queries_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(sandbox, settings):
    return make_desk(sandbox, settings)


def three_stages(writer, **more) -> list[dict]:
    second = prompt(writer, "second", say="{{ stage.first.output }} and {{ stage.first.output }}") | more
    return [prompt(writer, "first"), second, combine("end", "{{ stage.second.output }}")]


def page_of(flow, number: int) -> str:
    return reverse("flow_stage_try", args=[flow.team.slug, flow.slug, flow.version.number, number])


def test_one_stage_is_done_with_what_is_pinned_and_nothing_before_or_after_it(desk):
    flow = make_flow(desk.team, three_stages(make_writer(desk)))
    pinned = {"stage.first.output": "ebb {{ input.flow }}"}
    run = trials.try_stage(version=flow.version, number=2, pinned=pinned, by=desk.owner, idempotency_key="k")
    assert go(run) == "succeeded"
    assert told(run) == {
        "first": "ebb {{ input.flow }}",
        "second": "ebb {{ input.flow }} and ebb {{ input.flow }}",
    }
    assert Call.objects.filter(run_id=run.pk).count() == 1
    assert (run.trigger, run.estimate["most_credits"] > 0) == ("trial", True)
    same = trials.try_stage(version=flow.version, number=2, pinned=pinned, by=desk.owner, idempotency_key="k")
    assert same == run


def test_inputs_are_pinned_too_and_what_is_not_given_is_empty(desk):
    inputs = [{"name": "topic", "about": "", "default": "tides"}]
    flow = make_flow(desk.team, [combine("a", "x"), combine("b", "{{ input.topic }}|{{ stage.a.output }}")], inputs)
    run = trials.try_stage(version=flow.version, number=2, pinned={"input.topic": "ebb"}, by=desk.owner)
    go(run)
    assert told(run)["b"] == "ebb|"
    with pytest.raises(BadInput, match="longer than 100,000 characters"):
        trials.try_stage(version=flow.version, number=2, pinned={"input.topic": "x" * 100_001}, by=desk.owner)
    assert Run.objects.count() == 1


def test_a_condition_is_not_looked_at_and_a_list_is_worked_through(desk):
    writer = make_writer(desk)
    lists = each(writer, "{{ stage.a.output }}", **when("a", "contains", "never"))
    flow = make_flow(desk.team, [combine("a", "x"), lists])
    assert trials.referred(lists) == ["stage.a.output"]
    run = trials.try_stage(version=flow.version, number=2, pinned={"stage.a.output": "one\ntwo"}, by=desk.owner)
    assert go(run) == "succeeded"
    assert told(run)["all"] == '["one", "two"]'


def test_nothing_follows_from_a_trial_and_it_counts_for_no_history(desk):
    flow = make_flow(desk.team, [combine("a", "x")])
    delivery.set_delivery(flow=flow, members=[desk.owner], connections=[], by=desk.owner)
    run = trials.try_stage(version=flow.version, number=1, pinned={}, by=desk.owner)
    go(run)
    assert not Delivery.objects.exists()
    assert queries.usual_duration(run=run) is None
    assert schedule_queries.usual_costs(team=desk.team, flows=[flow.pk]) == {}
    assert trials.last_run(flow) is None
    with pytest.raises(CannotRepeat, match="tried again from the page of its stage"):
        run_again_from(run=run, number=1, by=desk.owner, idempotency_key="")
    broken = make_flow(desk.team, [prompt(make_persona(desk.team, name="Nobody"))], name="Broken")
    assert go(trials.try_stage(version=broken.version, number=1, pinned={}, by=desk.owner)) == "failed"
    assert not Notice.objects.exists()


def test_a_form_is_filled_in_from_the_last_run_from_samples_or_from_the_run_one_came_from(client, desk):
    flow = make_flow(desk.team, [combine("a", "first"), combine("b", "{{ stage.a.output }}")])
    client.force_login(desk.owner)
    page = page_of(flow, 2)
    assert "No run of Flow has given anything yet" in client.get(page).content.decode().replace(flow.name, "Flow")

    run = start_of(flow)
    assert ">\nfirst</textarea>" in client.get(page).content.decode()
    client.post(page, {"do": "keep", "stage-a-output": "  pinned <b>"})
    assert ">\n  pinned &lt;b&gt;</textarea>" in client.get(page).content.decode()
    assert ">\nfirst</textarea>" in client.get(f"{page}?run={run.pk}").content.decode()

    kept = Content.objects.get(kind="samples")
    assert b"pinned" not in bytes(kept.ciphertext)
    client.post(page, {"do": "keep", "stage-a-output": "other"})
    kept.refresh_from_db()
    assert kept.ciphertext is None
    client.post(page, {"do": "clear"})
    flow.refresh_from_db()
    assert flow.samples_id is None and trials.samples(flow) == {}
    deeds = Event.objects.filter(action__startswith="personas.samples.").order_by("id")
    assert [event.action for event in deeds] == [f"personas.samples.{what}" for what in ("kept", "kept", "cleared")]


def test_a_page_says_which_recorded_text_was_too_long_to_be_filled_in_whole(client, desk, monkeypatch):
    flow = make_flow(desk.team, [combine("source", "0123456789"), combine("end", "{{ stage.source.output }}")])
    start_of(flow)
    client.force_login(owner_of(desk.team))
    assert "is cut" not in client.get(page_of(flow, 2)).content.decode()
    monkeypatch.setattr(trials, "LONGEST", 9)
    cut = client.get(page_of(flow, 2)).content.decode()
    assert "What stage source gives is cut." in cut
    assert ">012345678</textarea>" in cut.replace("\n012345678", "012345678")


def start_of(flow) -> Run:
    run = actions.run_flow(flow=flow, by=owner_of(flow.team), idempotency_key="once")
    go(run)
    return run


def test_the_page_starts_the_trial_and_its_run_says_what_it_is(client, desk):
    flow = make_flow(desk.team, three_stages(make_writer(desk)))
    client.force_login(desk.owner)
    shown = client.get(page_of(flow, 2)).content.decode()
    assert "What stage first gives" in shown and "At most" in shown
    check = reverse("flow_stage_check", args=[desk.team.slug, flow.slug, flow.version.number, 2])
    assert f'href="{check}"' in shown
    assert "Nothing stands in its way" in client.get(check).content.decode()
    answer = client.post(page_of(flow, 2), {"stage-first-output": "ebb", "once": "abc"})
    run = Run.objects.get()
    assert answer.url == reverse("run_detail", args=[desk.team.slug, run.pk])
    go(run)
    page = client.get(answer.url).content.decode()
    assert "A trial of stage 2, second" in page and "Try this stage again" in page and "Run again" not in page
    assert "Pinned for this trial" in client.get(f"{answer.url}?stage=1").content.decode()


def test_who_may_not_run_does_not_try_and_foreign_runs_are_not_there(client):
    team = make_team()
    flow = make_flow(team, [combine("a", "{{ input.time }}")])
    client.force_login(make_member(team, Role.AUDITOR))
    assert client.get(page_of(flow, 1)).status_code in (403, 404)
    client.force_login(owner_of(team))
    assert client.get(page_of(flow, 2)).status_code == 404
    foreign = start(make_team(), [combine("a", "x")])
    assert client.get(f"{page_of(flow, 1)}?run={foreign.pk}").status_code == 404
    assert client.get(f"{page_of(flow, 1)}?run=nonsense").status_code == 200


def test_the_builder_saves_a_draft_before_it_leads_to_trying_a_stage(client):
    team = make_team()
    flow = make_flow(team, [combine("a", "x")])
    client.force_login(owner_of(team))
    edit = reverse("flow_edit", args=[team.slug, flow.slug])
    answer = client.post(edit, builder(combine("a", "x"), combine("b", "{{ stage.a.output }}"), do="try-2"))
    flow.refresh_from_db()
    assert (flow.version.number, flow.draft.number) == (1, 2)
    assert answer.url == reverse("flow_stage_try", args=[team.slug, flow.slug, 2, 2])
    assert client.post(edit, builder(combine("a", "{{ no }}"), do="try-1")).status_code == 422


def test_likely_costs_the_last_run_and_comparisons_leave_trials_out(client, desk):
    flow = make_flow(desk.team, [prompt(make_writer(desk))])
    trial = trials.try_stage(version=flow.version, number=1, pinned={}, by=desk.owner)
    assert go(trial) == "succeeded"
    assert of_flow(team=desk.team, version=flow.version).likely_credits is None
    assert queries.flow_page(team=desk.team).rows[0].last is None
    real = start_of(flow)
    assert of_flow(team=desk.team, version=flow.version).likely_credits > 0
    client.force_login(desk.owner)
    compare = [client.get(reverse("run_compare", args=[desk.team.slug, run.pk])) for run in (real, trial)]
    assert (compare[0].status_code, compare[1].status_code) == (200, 404)
    assert str(trial.pk) not in compare[0].content.decode()


def test_the_estimate_counts_what_is_pinned_and_follows_what_is_written(client, desk):
    inputs = [{"name": "topic", "about": "", "default": ""}]
    said = [combine("a", "x"), prompt(make_writer(desk), "ask", "{{ input.topic }} {{ stage.a.output }}")]
    flow = make_flow(desk.team, said, inputs)
    client.force_login(desk.owner)
    shown = []
    for text in ("x", "x" * 90_000):
        posted = {"input-topic": text, "stage-a-output": "", "estimate": "yes"}
        partial = {"HX-Request": "true", "HX-Request-Type": "partial"}
        answer = client.post(page_of(flow, 2), posted, headers=partial)
        assert "<html" not in answer.content.decode()
        shown.append(answer.context["estimate"].most_credits)
    assert shown[0] < shown[1]
    assert not Run.objects.exists()


def test_lines_end_as_in_a_stage_and_who_may_not_pin_neither_pins_nor_runs(client):
    flow = make_flow(make_team(), [combine("a", "x"), combine("b", "{{ stage.a.output }}")])
    client.force_login(owner_of(flow.team))
    client.post(page_of(flow, 2), {"do": "keep", "stage-a-output": "one\r\ntwo"})
    flow.refresh_from_db()
    assert trials.samples(flow) == {"stage.a.output": "one\ntwo"}
    client.force_login(make_member(flow.team, Role.MEMBER))
    assert client.post(page_of(flow, 2), {"do": "keep", "stage-a-output": "mine"}).status_code == 403
    assert not Run.objects.exists()
    assert trials.samples(flow) == {"stage.a.output": "one\ntwo"}


@pytest.mark.parametrize("persona", ["", "01a20aad-c690-7c5d-9f4c-b5a7a3ce573e"])
def test_a_stage_whose_persona_is_still_to_be_chosen_starts_nothing_and_says_so(client, persona):
    flow = make_flow(make_team(), [combine("a", "x")])
    work = {"kind": "prompt", "persona": persona, "template": "x"}
    stages = [work | {"name": "ask"}, {"kind": "each", "name": "all", "over": "x", "do": work}]
    FlowVersion.objects.filter(pk=flow.version_id).update(stages=stages)
    client.force_login(owner_of(flow.team))
    for number in (1, 2):
        answer = client.post(page_of(flow, number), {"once": "k"})
        assert answer.status_code == 422
        assert "Choose one of this team&#x27;s personas for this stage first." in answer.content.decode()
    assert not Run.objects.exists()


def test_pages_of_a_flow_with_prompts_inputs_and_a_schedule_ask_the_database_twelve_times_at_most(client, desk):
    inputs = [{"name": "topic", "about": "", "default": ""}]
    text = "{{ input.topic }} {{ stage.a.output }} {{ stage.b.output }}"
    stages = [combine("a", "x"), combine("b", "x"), prompt(make_writer(desk), "ask", text)]
    flow = make_flow(desk.team, stages, inputs)
    start_of(flow)
    make_schedule(flow)
    trials.keep_samples(flow=flow, values={"stage.a.output": "x"}, by=desk.owner)
    client.force_login(desk.owner)
    names = [desk.team.slug, flow.slug]
    for url in (page_of(flow, 3), reverse("flow_detail", args=names), reverse("flow_edit", args=names)):
        asked = min((queries_of(client, url) for _ in range(3)), key=len)  # what is cached may end between two of them
        assert len(asked) <= MOST_QUERIES, "\n".join([url, *asked])
