"""
Working through a run, stage by stage, under a lease.

Each stage begins and ends in a fenced write of its own, so a killed worker loses at most the
stage it was in: the next one closes that stage's open calls as in doubt and does it again.
"""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import Error
from django.db.models.functions import Coalesce

from audit.actions import store
from audit.clock import AppNow, app_now
from audit.models import Content
from integrations.approvals import NeedsApproval, NotApproved
from integrations.calls import CallResult
from personas import asking, attempts, chains, ending, prompting, stages, template
from personas.attempts import Parked, StageFailed, Stopped
from personas.chat import turn
from personas.leases import Lease, LeaseLost, claim, fenced, give_back, is_away, keeper
from personas.models import Run, StageRun
from vault.box import Unreadable
from vault.content import open_content, seal_content


@dataclass(frozen=True, slots=True)
class Output:
    """What a stage gives to later ones."""

    text: str
    used_fallback: bool = False


def work(*, run_id: UUID, owner: str) -> None:
    """
    Take a run and work on it until it ends, must wait, or is lost to another worker.

    Quietly does nothing when the run is not there or not to be had: the message was only a hint.
    """
    lease = claim(run_id=run_id, owner=owner)
    if lease is None:
        return
    with keeper.keeping(lease):
        try:
            run = Run.objects.select_related("team", "user", "flow", "firing", "chat").get(pk=run_id)
            (turn.advance if run.is_turn else _advance)(run, lease)
        except LeaseLost:
            return
        except Error as fault:
            if is_away(fault):  # another worker takes it up when the lease ends
                give_back(lease)
            raise


def _advance(run: Run, lease: Lease) -> None:
    ending.close_open_calls(run)
    for stage in run.stages.exclude(state=StageRun.State.DONE).select_related("persona", "persona__version"):
        stopped, paused = Run.objects.values_list("stop_wanted_at", "paused_at").get(pk=run.pk)
        if stopped:
            return ending.finish(run, lease, Run.State.STOPPED)
        if paused:
            return ending.pause(lease)
        try:
            ending.check_rights(run)
            _do(run, stage, lease)
        except Parked as wait:
            return ending.park(run, stage, lease, wait.seconds)
        except Stopped:
            return ending.stop(run, stage, lease)
        except NeedsApproval as needed:
            return asking.park(run, stage, lease, needed.question)
        except StageFailed as failure:
            return ending.fail(run, stage, lease, str(failure))
    return ending.finish(run, lease, Run.State.SUCCEEDED)


# --- one stage --------------------------------------------------------------------------


def _do(run: Run, stage: StageRun, lease: Lease) -> None:
    version = stage.persona.version if stage.persona else None
    with fenced(lease):
        StageRun.objects.filter(pk=stage.pk).update(
            state=StageRun.State.RUNNING,
            persona_version=version,
            started_at=Coalesce("started_at", AppNow()),  # however often it is taken up again
        )
    output = _perform(run, stage)
    content = seal_content(
        team_id=run.team_id, subject=_subject(run, stage), kind="output", data=output.text.encode(), at=app_now()
    )
    with fenced(lease, attempt=0):
        store(content)
        StageRun.objects.filter(pk=stage.pk).update(
            state=StageRun.State.DONE,
            output_content_id=content.id,
            used_fallback=output.used_fallback,
            finished_at=AppNow(),
        )


def _perform(run: Run, stage: StageRun) -> Output:
    if stage.persona and stage.persona.archived_at:
        raise StageFailed(f"{stage.persona.name} is archived. Choose another persona for this stage.")
    try:
        spec = stages.read_stage(stage.spec)
        if asked := asking.answer(run, stage):
            return _as_asked(run, stage, asked)
        match spec:
            case stages.PromptStage():
                return _prompt(run, stage, spec)
            case stages.ToolStage():
                return _tool(run, stage, spec)
            case stages.CombineStage():
                return Output(template.render(spec.template, values_of(run)))
    except (template.BadReference, NotApproved) as error:
        raise StageFailed(str(error)) from error
    except Unreadable as error:
        raise StageFailed("What this stage needs was sealed with a key that is gone. Run it again.") from error


def _as_asked(run: Run, stage: StageRun, asked: asking.Asked) -> Output:
    """Do what somebody allowed, with the arguments they saw: nothing is rendered again."""
    result, choice = attempts.ask(run, stage, asked.tool, asked.arguments, asked.chain or [""], asked)
    return Output(_text_of(result), used_fallback=choice > 0)


def _prompt(run: Run, stage: StageRun, spec: stages.PromptStage) -> Output:
    version = stage.persona.version
    if version is None:
        raise StageFailed(f"{stage.persona.name} has no published version. Publish its draft first.")
    chain, routing = prompting.chain_of(spec, version)
    if not chain and routing == chains.Routing.ORDER:
        raise StageFailed(f"{stage.persona.name} has no model. Choose one on the persona's page.")
    arguments = prompting.arguments_of(version, template.render(spec.template, values_of(run)))
    result, choice = attempts.ask(run, stage, prompting.tool_of(version), arguments, chain, routing=routing)
    return Output(result.answer.text, used_fallback=choice > 0)


def _tool(run: Run, stage: StageRun, spec: stages.ToolStage) -> Output:
    given = _sealed_arguments(run, stage) if stage.input_content_id else stages.fill(spec.arguments, values_of(run))
    result, choice = attempts.ask(run, stage, spec.tool, given, _models_of_tool(run, stage, given))
    return Output(_text_of(result), used_fallback=choice > 0)


def _models_of_tool(run: Run, stage: StageRun, given: dict[str, Any]) -> list[str]:
    """The one model that the arguments name. A rehearsal has the persona's others behind it, to show them."""
    named = given.get("model")
    model = named if isinstance(named, str) else ""  # what cannot be one, the call refuses
    version = stage.persona.version
    others = chains.named(version.chain) if run.rehearsal and model and version else []
    return [model, *(other for other in others if other != model)]


def _text_of(result: CallResult) -> str:
    return result.answer.text or json.dumps(result.result["data"], indent=2, ensure_ascii=False)


def _sealed_arguments(run: Run, stage: StageRun) -> dict[str, Any]:
    content = Content.objects.filter(pk=stage.input_content_id, team_id=run.team_id).first()
    if content is None:
        raise StageFailed("The arguments of this run were erased. Run the tool again from the console.")
    return json.loads(open_content(content=content))


def _subject(run: Run, stage: StageRun) -> UUID:
    return stage.persona_id or run.flow_id or run.user_id


def values_of(run: Run) -> dict[str, str]:
    """What a template of this run may refer to: its inputs and the outputs of its finished stages."""
    nominal = run.firing.nominal_at if run.firing else run.queued_at
    values = {"input.time": nominal.isoformat(timespec="minutes"), "input.flow": run.title} | _inputs_of(run)
    done = run.stages.filter(state=StageRun.State.DONE, item=0)
    names = {stage.output_content_id: stage.name for stage in done}
    for content in Content.objects.filter(team_id=run.team_id, pk__in=names):
        values[f"stage.{names[content.pk]}.output"] = open_content(content=content).decode()
    return values


def _inputs_of(run: Run) -> dict[str, str]:
    if run.inputs_id is None:
        return {}
    content = Content.objects.filter(pk=run.inputs_id, team_id=run.team_id).first()
    if content is None:
        raise StageFailed("What this run was given is not kept any more. Start the flow again with new inputs.")
    return {f"input.{name}": value for name, value in json.loads(open_content(content=content)).items()}
