"""
What would stand in a run's way, found before it starts: asked of the same code as real calls, and nothing is sent.

Each finding names its stage and the smallest change that mends it. What only shows in a run is not looked for: what a
provider answers, and what a condition makes of that.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any
from uuid import UUID

from accounts.models import User
from audit.actions import Actor
from audit.clock import app_now
from audit.ids import uuid7
from integrations import catalog
from integrations.bookkeeping import Caller
from integrations.explaining import explain
from integrations.fitting import Needs
from integrations.scopes import Rule
from personas import prompting, stages
from personas.candidates import NoCandidates, pick
from personas.chains import Routing, named
from personas.checking import problems_of_flow
from personas.conditions import is_handled
from personas.lending import Asker, connection_for
from personas.models import Flow, FlowVersion, Persona, Run, StageRun
from personas.stages import BadInput, BadStage, work_of
from personas.standstill import StageFailed

MOST_BY_RULE = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One thing that is in the way of a stage, with what would help.

    `stops`: the stage would fail; otherwise it would wait for somebody, or go on without a model. `persona`: the one
    on whose page that is changed; None: in the flow itself.
    """

    stage: str
    words: str
    stops: bool = True
    persona: Persona | None = None


def findings(*, flow: Flow, version: FlowVersion, by: User, unattended: bool = False) -> list[Finding]:
    """
    Look at every stage of a version as a run of `by` would do it now; `unattended`: as a schedule would start it.

    Takes three queries, two for each persona and connection, and one for each model that is asked.
    """
    try:
        read = stages.read_stages(version.stages, version.inputs)
    except (BadStage, BadInput) as problem:
        return [Finding("", str(problem))]
    look = _Look(flow, version, by, unattended)
    found = [finding for stage in read for finding in look.at(stage.name, getattr(stage, "do", stage))]
    found = list(dict.fromkeys(found))  # what several models of a stage have in common is said once
    models = problems_of_flow(flow=flow, version=version, at=app_now())
    return found + [Finding("", problem, stops=False) for problem in models]


def hindrance(run: Run) -> tuple[StageRun, str] | None:
    """
    The first stage that a run would not get past, and why, before anything is paid for it; None if none is known.

    The stage whose turn it is says so itself. One that is done under a condition, or whose failure a later one deals
    with, ends no run.
    """
    rows = list(run.stages.filter(item=0))
    if not run.flow_version or any(row.started_at for row in rows):
        return None
    later = [row for row in rows if row.state == StageRun.State.WAITING][1:]
    if not later:
        return None
    specs = [row.spec for row in rows]
    look = _Look(run.flow, run.flow_version, run.user, run.is_unattended)
    for row in later:
        if row.spec.get("when") or is_handled(row.name, specs):
            continue
        stage = stages.read_stage(row.spec)
        for finding in look.at(row.name, getattr(stage, "do", stage)):
            if finding.stops:
                return row, f"{finding.words} This was found before the run began, so nothing was asked."
    return None


class _Look:
    """One look at a version: personas are read once, and what was decided for one stage counts for its like."""

    def __init__(self, flow: Flow, version: FlowVersion, by: User, unattended: bool) -> None:
        self.flow, self.by, self.unattended = flow, by, unattended
        self.run_id = uuid7()  # of a run that there is not
        wanted = {work_of(spec).get("persona") for spec in version.stages} - {None, ""}
        rows = flow.team.personas.filter(pk__in=wanted).select_related("version")
        self.personas = {str(row.pk): row for row in rows}
        self.decided: dict[tuple[UUID, str, str | None], Any] = {}

    def at(self, stage: str, work: Any) -> Iterator[Finding]:
        if not hasattr(work, "persona"):
            return
        persona = self.personas.get(work.persona)
        if persona is None or persona.archived_at:
            yield Finding(stage, "Its persona is archived or gone. Choose another one.")
        elif work.kind == "tool":
            yield from self._call(stage, persona, work.tool, _model_in(work.arguments))
        elif persona.version is None:
            yield Finding(stage, f"{persona.name} has no published version. Publish its draft.", persona=persona)
        else:
            yield from self._prompt(stage, persona, work)

    def _prompt(self, stage: str, persona: Persona, work: Any) -> Iterator[Finding]:
        """A prompt goes on while one of its models may be asked."""
        models, routing = prompting.chain_of(work, persona.version)
        if not models and routing == Routing.ORDER:
            yield Finding(stage, f"{persona.name} names no model. Choose one.", persona=persona)
            return
        tool = prompting.tool_of(persona.version)
        try:
            asked = named(models) or _found_by_rule(models, routing)
        except NoCandidates as reason:
            yield Finding(stage, str(reason), persona=persona)
            return
        found = [list(self._call(stage, persona, tool, model)) for model in asked]
        goes_on = any(not any(each.stops for each in of_model) for of_model in found)
        for finding in chain.from_iterable(found):
            yield replace(finding, stops=finding.stops and not goes_on)

    def _call(self, name: str, persona: Persona, tool: str, model: str | None) -> Iterator[Finding]:
        key = persona.pk, tool, model
        if key not in self.decided:
            self.decided[key] = self._decide(persona, tool, model)
        rule, words = self.decided[key]
        if rule is not Rule.ALLOWED:
            yield Finding(name, words, rule is Rule.OFF, persona)

    def _decide(self, persona: Persona, tool: str, model: str | None) -> tuple[Rule, str]:
        try:
            asker = Asker(self.flow.team, persona, self.flow.pk, self.run_id, self.unattended)
            connection = connection_for(asker, tool)
        except StageFailed as failure:
            return Rule.OFF, str(failure)
        found = explain(
            team=self.flow.team,
            connection=connection,
            tool=connection.provider.tool(tool),
            caller=self._caller(persona),
            model=model,
        )
        return found.rule, found.message

    def _caller(self, persona: Persona) -> Caller:
        return Caller(
            user=self.by,
            actor=Actor.user(self.by),
            persona_id=persona.pk,
            persona_name=persona.name,
            flow_id=self.flow.pk,
            run_id=self.run_id,
            unattended=self.unattended,
        )


def _model_in(arguments: Mapping[str, Any]) -> str | None:
    """The model that a tool stage names; None if an earlier stage or an input will."""
    model = str(arguments.get("model") or "")
    return None if "{{" in model else model


def _found_by_rule(models: Sequence[str], routing: str) -> list[str]:
    """The first few models that a rule finds. Raises NoCandidates."""
    picked = pick(models, routing, catalog.current(), Needs(), lambda model: "")
    return [candidate.model for candidate in picked.candidates[:MOST_BY_RULE]]
