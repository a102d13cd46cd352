"""
Doing what a stage says: asking a model, running a tool, putting texts together. Nothing is written here.

Whoever calls begins and ends the stage.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from integrations.approvals import NotApproved
from integrations.calls import CallResult, OnWait
from integrations.purse import StageLimit
from personas import approving, asking, attempts, chains, prompting, stages, template, texts
from personas.answer_fit import problem_of_answer
from personas.models import PersonaVersion, Run, StageRun
from personas.standstill import StageFailed
from vault.box import Unreadable

Values = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Output:
    """What a stage gives to later ones. `content_id`: it is kept already."""

    text: str
    used_fallback: bool = False
    content_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """
    What a stage may take: `patience` from its start until it is parked no more, `stage_limit` in US dollars.

    `on_wait` is called while a call is on its way, and raises when its answer is not wanted any more.
    """

    patience: timedelta = attempts.PATIENCE
    on_wait: OnWait = None
    stage_limit: StageLimit | None = None

    def as_options(self) -> dict[str, Any]:
        return {"patience": self.patience, "on_wait": self.on_wait, "stage_limit": self.stage_limit}


class Misfit(StageFailed):
    """The answer has not the form that its stage asks for; the message says where."""

    def __init__(self, answer: str, problem: str) -> None:
        self.answer, self.problem = answer, problem
        super().__init__(f"The answer does not have the form that this stage asks for: {problem}")


def perform(
    run: Run, stage: StageRun, spec: Any, values: Values, bounds: Bounds, misfit: Misfit | None = None
) -> Output:
    """
    Do a stage, or one item of a list: `spec` says what, `values` what its references stand for.

    `misfit` is an answer to be put right. Raises Misfit, StageFailed, NeedsDecision, and what
    `attempts.ask` raises.
    """
    if stage.persona and stage.persona.archived_at:
        raise StageFailed(f"{stage.persona.name} is archived. Choose another persona for this stage.")
    try:
        if asked := asking.answer(run, stage):
            return _as_asked(run, stage, spec, asked, bounds)
        match spec:
            case stages.Prompt():
                return _prompt(run, stage, spec, values, bounds, misfit)
            case stages.ToolUse():
                return _tool(run, stage, spec, values, bounds)
            case stages.ApproveStage():
                note, content_id = approving.decided(run, stage, template.render(spec.text, values))
                return Output(note, content_id=content_id)
            case _:
                return Output(template.render(spec.template, values))
    except (template.BadReference, NotApproved) as error:
        raise StageFailed(str(error)) from error
    except Unreadable as error:
        raise StageFailed(texts.KEY_GONE) from error


def _as_asked(run: Run, stage: StageRun, spec: Any, asked: asking.Asked, bounds: Bounds) -> Output:
    """Do what somebody allowed, with the arguments they saw: nothing is rendered again."""
    place, chain = (run, stage, asked.tool, asked.arguments), asked.chain or [""]
    result, choice = attempts.ask(*place, chain, asked, **bounds.as_options())
    return _checked(spec, Output(_text_of(result), used_fallback=choice > 0))


def _prompt(
    run: Run, stage: StageRun, spec: stages.Prompt, values: Values, bounds: Bounds, misfit: Misfit | None
) -> Output:
    version = _version_of(stage)
    chain, routing = prompting.chain_of(spec, version)
    if not chain and routing == chains.Routing.ORDER:
        raise StageFailed(f"{stage.persona.name} has no model. Choose one on the persona's page.")
    told = [{"role": "user", "content": template.render(spec.template, values)}]
    if misfit:
        told += prompting.repair(misfit.answer, misfit.problem)
    arguments = prompting.arguments_of(version, told, spec.output_schema)
    tool = prompting.tool_of(version)
    result, choice = attempts.ask(run, stage, tool, arguments, chain, routing=routing, **bounds.as_options())
    return _checked(spec, Output(result.answer.text, used_fallback=choice > 0))


def _version_of(stage: StageRun) -> PersonaVersion:
    if stage.persona.version is None:
        raise StageFailed(f"{stage.persona.name} has no published version. Publish its draft first.")
    return stage.persona.version


def _checked(spec: Any, output: Output) -> Output:
    """The output, if it has the form that the stage asks for. Raises Misfit."""
    schema = getattr(spec, "output_schema", None)
    if schema is not None and (problem := problem_of_answer(schema, output.text)):
        raise Misfit(output.text, problem)
    return output


def _tool(run: Run, stage: StageRun, spec: stages.ToolUse, values: Values, bounds: Bounds) -> Output:
    is_sealed = stage.input_content_id and not stage.item
    given = _sealed_arguments(run, stage) if is_sealed else stages.fill(spec.arguments, values)
    chain = _models_of_tool(run, stage, given)
    result, choice = attempts.ask(run, stage, spec.tool, given, chain, **bounds.as_options())
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
    found = texts.opened(run, [stage.input_content_id])
    if not found:
        raise StageFailed("The arguments of this run were erased. Run the tool again from the console.")
    return json.loads(found[stage.input_content_id])
