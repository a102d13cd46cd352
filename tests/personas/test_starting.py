"""A run begins with what it was given: a version, inputs, and the reason it was started."""

import pytest

from audit.models import Content, Event
from personas.execution import work
from personas.models import FlowVersion, Run
from personas.stages import BadInput
from personas.starting import start_run
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow
from vault.content import open_content

pytestmark = pytest.mark.django_db
STAGES = [{"kind": "combine", "name": "all", "template": "{{ input.topic }}, {{ input.tone }}"}]
INPUTS = [{"name": "topic", "default": "the sea"}, {"name": "tone", "default": "dry"}]


def flow_with_inputs():
    """A flow whose version in use declares two inputs."""
    flow = make_flow(make_team())
    FlowVersion.objects.filter(pk=flow.version_id).update(stages=STAGES, inputs=INPUTS)
    flow.version.refresh_from_db()
    return flow


def test_inputs_are_sealed_and_reach_the_templates():
    flow = flow_with_inputs()
    run = start_run(flow=flow, user=owner_of(flow.team), inputs={"topic": "harbour-word"})
    sealed = Content.objects.get(pk=run.inputs_id)
    assert b"harbour-word" not in bytes(sealed.ciphertext)
    work(run_id=run.pk, owner="test")
    output = Content.objects.get(pk=run.stages.get().output_content_id)
    assert open_content(content=output) == b"harbour-word, dry"


def test_a_run_whose_inputs_were_erased_says_so():
    flow = flow_with_inputs()
    run = start_run(flow=flow, user=owner_of(flow.team))
    Run.objects.filter(pk=run.pk).update(inputs_id=flow.pk)
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    assert (run.state, run.failure[:27]) == ("failed", "What this run was given is ")


def test_an_input_nobody_declared_starts_nothing():
    flow = flow_with_inputs()
    with pytest.raises(BadInput, match="no input"):
        start_run(flow=flow, user=owner_of(flow.team), inputs={"time": "noon"})
    assert not Run.objects.filter(flow=flow).exists()


def test_a_run_keeps_its_version_what_started_it_and_what_it_waits_for():
    flow = make_flow(make_team())
    draft = FlowVersion.objects.create(
        team=flow.team,
        flow=flow,
        number=2,
        stages=STAGES[:1],
        inputs=INPUTS,
        created_by=owner_of(flow.team),
        created_at=flow.created_at,
    )
    first = start_run(flow=flow, user=owner_of(flow.team))
    second = start_run(
        flow=flow,
        user=owner_of(flow.team),
        version=draft,
        trigger=Run.Trigger.FLOW,
        caused_by=first,
        waits_for=first,
        again_of=first,
    )
    second.refresh_from_db()
    assert (first.flow_version.number, second.flow_version.number) == (1, 2)
    assert (second.trigger, second.caused_by, second.waits_for, second.again_of) == ("flow", first, first, first)
    assert (first.is_unattended, second.is_unattended) == (False, True)
    event = Event.objects.get(run_id=second.pk, action="personas.run.queued")
    assert event.details == {"trigger": "flow", "again_of": str(first.pk), "caused_by": str(first.pk)}
