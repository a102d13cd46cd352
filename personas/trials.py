"""
Trying one stage of a flow: it alone is done, with what it refers to pinned by hand.

It asks, costs and is logged as in any run. Nothing comes after it: no later stage, delivery, trigger or notice.
"""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts.models import User
from audit.actions import Actor, record, store
from audit.clock import app_now
from audit.models import Content
from personas import actions, checking, estimates, fair, stages, starting, template, texts
from personas.models import Flow, FlowVersion, Run, StageRun
from vault.box import Unreadable
from vault.content import erase_contents, open_content, seal_content

KEPT_AS = "samples"
LONGEST = stages.MAX_INPUT  # characters of one pinned text


class CannotTry(Exception):
    """This stage cannot be tried as it stands; the message says why and what to do."""


def referred(spec: Mapping[str, Any]) -> list[str]:
    """What a stage refers to that can be pinned, in its order: `input.x`, `stage.x.output`."""
    stage = stages.read_stage(spec)
    inner = stage.do.fields() if isinstance(stage, stages.EachStage) else []
    names = [name for _, text in [*stage.fields(), *inner] for name in template.references(text)]
    return [name for name in dict.fromkeys(names) if name not in stages.INPUTS and name != template.ITEM]


def alone(version: FlowVersion, number: int, pinned: Mapping[str, str]) -> FlowVersion:
    """A version, not saved, of that stage alone: as long texts as are pinned stand in for those that it refers to."""
    spec = _spec(version, number)
    before = [
        {"kind": "combine", "name": _stage_of(name), "template": "x" * max(1, len(pinned.get(name, "").encode()))}
        for name in referred(spec)
        if name.startswith("stage.")
    ]
    return FlowVersion(team=version.team, flow=version.flow, stages=[*before, spec], inputs=version.inputs)


def try_stage(
    *, version: FlowVersion, number: int, pinned: Mapping[str, str], by: User, idempotency_key: str = ""
) -> Run:
    """
    Queue a run of the stage of this number alone, counted from 1, with the rights of `by`.

    `pinned` are the values of what it refers to; what is not given is "". Its condition is not looked at. Sending the
    same form twice gives the same run. Raises BadInput and CannotTry.
    """
    _check_persona(version, number)
    if long := [name for name, text in pinned.items() if len(text) > LONGEST]:
        raise stages.BadInput(f"{long[0]} is longer than {LONGEST:,} characters.")
    start = {"version": version, "number": number, "pinned": pinned, "by": by}
    return actions.once(version.team, idempotency_key, _start, **start)


def _check_persona(version: FlowVersion, number: int) -> None:
    """The persona of a draft that came as a file may be still to be chosen."""
    stage = stages.read_stage(_spec(version, number))
    try:
        checking.check_personas(version.team, [getattr(stage, "do", stage)])
    except stages.BadStage:
        raise CannotTry("Choose one of this team's personas for this stage first.") from None


def estimate(version: FlowVersion, number: int, pinned: Mapping[str, str]) -> estimates.Estimate:
    """What a trial with these texts takes."""
    given = {name.removeprefix("input."): text for name, text in pinned.items() if name.startswith("input.")}
    return estimates.of_flow(team=version.team, version=alone(version, number, pinned), inputs=given)


def _start(*, version: FlowVersion, number: int, pinned: Mapping[str, str], by: User, idempotency_key: str) -> Run:
    now, flow = app_now(), version.flow
    given = {name.removeprefix("input."): text for name, text in pinned.items() if name.startswith("input.")}
    run = Run.objects.create(
        team=version.team,
        flow=flow,
        flow_version=version,
        trigger=Run.Trigger.TRIAL,
        inputs_id=starting.keep_inputs(flow, stages.given_inputs(version.inputs, given), now),
        title=flow.name,
        user=by,
        idempotency_key=idempotency_key,
        estimate=estimate(version, number, pinned).as_json(),
        queued_at=now,
        hinted_at=now,
        place=fair.places([version.team_id])[0],
    )
    spec = _spec(version, number)
    for name in referred(spec):
        if name.startswith("stage."):
            _pin(run, _stage_of(name), pinned.get(name, ""))
    _row(run, number - 1, spec).save(force_insert=True)
    starting.announce(run, by, "user")
    return run


def _pin(run: Run, name: str, text: str) -> None:
    """An earlier stage as if it had given this text."""
    position = next(place for place, spec in enumerate(run.flow_version.stages) if spec["name"] == name)
    row = _row(run, position, run.flow_version.stages[position])
    content = texts.sealed(run, row, "output", text)
    store(content)
    row.state, row.reused, row.output_content_id = StageRun.State.DONE, True, content.id
    row.save(force_insert=True)


def _row(run: Run, position: int, spec: Mapping[str, Any]) -> StageRun:
    read = starting.stage_fields(position, dict(spec) | {"when": None})
    return StageRun(team=run.team, run=run, **read)


def _spec(version: FlowVersion, number: int) -> dict[str, Any]:
    return version.stages[number - 1] | {"when": None}


def _stage_of(reference: str) -> str:
    return reference.split(".")[1]


# --- what to pin ------------------------------------------------------------------------


def samples(flow: Flow) -> dict[str, str]:
    """The sample data of a flow by reference; none when it keeps none, or they cannot be read any more."""
    content = Content.objects.filter(team_id=flow.team_id, pk=flow.samples_id).first() if flow.samples_id else None
    try:
        return json.loads(open_content(content=content)) if content else {}
    except Unreadable:
        return {}


@transaction.atomic
def keep_samples(*, flow: Flow, values: Mapping[str, str], by: User) -> None:
    """Pin these texts for trials to come, beside those pinned for other stages. What they replace is erased."""
    found = Flow.objects.select_for_update(no_key=True).get(pk=flow.pk)
    kept = samples(found) | dict(values)
    content = seal_content(
        team_id=flow.team_id, subject=flow.pk, kind=KEPT_AS, data=json.dumps(kept).encode(), at=app_now()
    )
    store(content)
    _put(found, content.id, "kept", by)


@transaction.atomic
def clear_samples(*, flow: Flow, by: User) -> None:
    """Erase the sample data of a flow."""
    found = Flow.objects.select_for_update(no_key=True).get(pk=flow.pk)
    if found.samples_id:
        _put(found, None, "cleared", by)


def _put(flow: Flow, samples_id: UUID | None, what: str, by: User) -> None:
    if flow.samples_id:
        erase_contents(team_id=flow.team_id, content_ids=[flow.samples_id])
    Flow.objects.filter(pk=flow.pk).update(samples_id=samples_id)
    record(
        f"personas.samples.{what}",
        team_id=flow.team_id,
        actor=Actor.user(by),
        target=f"flow:{flow.pk}",
        target_name=flow.name,
    )


def recorded(run: Run) -> dict[str, str]:
    """What the stages of a run gave and what it was given, by reference, as far as it can still be read."""
    rows = run.stages.filter(item=0, output_content_id__isnull=False)
    names = {row.output_content_id: stages.output_of(row.name) for row in rows}
    found = texts.readable(run, [*names, *filter(None, [run.inputs_id])])
    inputs = json.loads(found.pop(run.inputs_id, "{}"))
    return {names[pk]: text for pk, text in found.items()} | {f"input.{name}": text for name, text in inputs.items()}


def last_run(flow: Flow) -> Run | None:
    """The newest run of a flow that came to its end, whose texts may be pinned."""
    done = flow.runs.filter(state=Run.State.SUCCEEDED, erased_at=None).exclude(trigger=Run.Trigger.TRIAL)
    return done.order_by("-id").first()
