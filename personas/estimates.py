"""
What a run will take, before it starts: at most, and likely.

"At most" counts one answer for each stage, as long as its persona lets it be, by the dearest model
that may give it; failed tries are not billed. Text that a stage takes over from an earlier prompt
counts with BYTES_PER_TOKEN bytes for each token it may have; what a tool hands on has no bound of
its own, so there the model's whole context counts. What is held at the call itself is exact. A list counts
with as many items as its stage takes, or as it names itself; a stage with a limit in US dollars at most with
that. An input counts as it was given; before that, with INPUT_BYTES or its default.

"Likely" is the middle of what the same persona's answered calls of the same tool took lately: within
the last 30 days, among the team's newest 5,000 calls. Trials of stages do not count.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection as database

from accounts.models import Plan, Team
from integrations import catalog, metering
from integrations.facts import Catalog
from integrations.fitting import needs_of
from integrations.preparing import most_usd
from integrations.registry import (
    InvalidArguments,
    Tool,
    UnknownTool,
    integration_of,
    parse_arguments,
    tokens_upper_bound,
)
from integrations.scopes import named_models
from personas import approving, choosing, items, prompting, stages, template
from personas.candidates import NoCandidates, pick
from personas.chains import Routing
from personas.models import FlowVersion, PersonaVersion

BYTES_PER_TOKEN = 8  # of a carried answer; four are usual, so this is twice that
INPUT_BYTES = 2_000  # of {{ input.… }}, before anything was given
NEWEST = 5_000  # calls of a team, among which its history is looked for
OWN_INPUT_BYTES = 200  # of the time and the flow's name
QUOTES = 4  # bytes around an output in a list
REPAIR_TOKENS = 1_000  # of what is said about an answer that does not fit
ANY_MODEL = "any/model"  # stands in while arguments are measured, whose size does not depend on it


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    Platform credits and US dollars of a run. None means not known.

    `unbounded` says in words why there is no upper bound.
    """

    most_credits: int | None = None
    likely_credits: int | None = None
    most_usd: Decimal | None = None
    likely_usd: Decimal | None = None
    unbounded: str = ""

    def as_json(self) -> dict[str, Any]:
        """As a run keeps it."""
        usd = {name: None if getattr(self, name) is None else str(getattr(self, name)) for name in USD}
        return {"most_credits": self.most_credits, "likely_credits": self.likely_credits, **usd}


USD = ("most_usd", "likely_usd")


def of_tool(*, team: Team, persona_id: UUID, tool: Tool, arguments: Mapping[str, Any]) -> Estimate:
    """Estimate one call of a tool from the console. Raises InvalidArguments."""
    checked = parse_arguments(tool, arguments)
    bound = tokens_upper_bound(tool, checked)
    if bound is None:
        credits = metering.price(team.plan, None)
        return Estimate(credits, credits, Decimal(0), Decimal(0))
    likely = _likely(team, {(persona_id, tool.name)})
    usd = most_usd(tool, checked, named_models(checked), catalog.current(integration_of(tool.name).slug), bound)
    stage = _Stage((persona_id, tool.name), metering.price(team.plan, sum(bound)), usd)
    return _sum([stage], likely)


def of_flow(*, team: Team, version: FlowVersion, inputs: Mapping[str, str] | None = None) -> Estimate:
    """
    Estimate one run of a flow's version, with its personas as they are now. Three queries at most.

    `inputs` are the values that it is given, where they are known.
    """
    try:
        read = stages.read_stages(version.stages, version.inputs)
    except (stages.BadStage, stages.BadInput) as problem:
        return Estimate(unbounded=str(problem))
    wanted = {stage.persona for stage in read if getattr(stage, "persona", "")}
    versions = {str(row.persona_id): row for row in _versions(team, wanted)}
    try:
        sizes = _sizes(version.inputs, inputs or {})
        found = list(_Flow(team.plan, catalog.current(), versions, sizes).walk(read))
    except _NoBound as reason:
        return Estimate(unbounded=str(reason))
    except (InvalidArguments, UnknownTool):  # its call will say what is wrong, and nobody else's run waits for that
        return Estimate(unbounded="A stage asks for something that cannot be sent as it stands.")
    return _sum(found, _likely(team, {stage.kind for stage in found}))


def _tool(name: str) -> Tool:
    return integration_of(name).tool(name)


def _sizes(declared: Sequence[Mapping[str, str]], given: Mapping[str, str]) -> dict[str, int]:
    """The bytes of each declared input: of what was given, or of the longer of its default and what is usual."""
    usual = {each["name"]: max(INPUT_BYTES, len(each.get("default", "").encode())) for each in declared}
    return usual | {name: len(value.encode()) for name, value in given.items()}


def _versions(team: Team, personas: set[str]) -> list[PersonaVersion]:
    current = team.personas.filter(pk__in=personas).values("version")
    return list(PersonaVersion.objects.filter(team=team, pk__in=current))


# --- stage by stage ---------------------------------------------------------------------


class _NoBound(Exception):
    """What a stage may take has no upper bound that is known; the message says why."""


@dataclass(frozen=True, slots=True)
class _Stage:
    """The most that one stage takes, what history knows it by (a persona and a tool), and how often it is done."""

    kind: tuple[UUID, str]
    most_credits: int
    most_usd: Decimal | None
    times: int = 1


class _Flow:
    """Walks through the stages of a flow, and remembers how much text each hands on at most."""

    def __init__(
        self, plan: Plan, known: Catalog, versions: Mapping[str, PersonaVersion], inputs: Mapping[str, int]
    ) -> None:
        self.plan, self.known, self.versions, self.inputs = plan, known, versions, inputs
        self.carried: dict[str, int | None] = {}  # bytes of an output, None without a bound
        self.item: int | None = 0  # bytes of the longest item of the list that is looked at

    def walk(self, read: Sequence[Any]) -> Iterator[_Stage]:
        for stage in read:
            match stage:
                case stages.EachStage():
                    yield self._each(stage)
                case stages.Prompt() | stages.ToolUse():
                    yield _within(stage, self._work(stage.name, stage, stage.retries))
                case stages.CombineStage():
                    self.carried[stage.name] = self._bytes(stage.template)
                case stages.ApproveStage():
                    self.carried[stage.name] = approving.LONGEST_NOTE * 4

    def _each(self, stage: stages.EachStage) -> _Stage:
        """A list: as often as it may have items, each as long as all of them."""
        times = stage.most
        if not template.references(stage.over):
            times = min(times, len(items.read_list(stage.over, stages.MAX_TEMPLATE)))
        self.item = self._bytes(stage.over)
        one = self._work(stage.name, stage.do, stage.retries)
        gives = self.carried[stage.name]
        self.carried[stage.name] = None if gives is None else times * (gives + QUOTES)
        usd = None if one.most_usd is None else one.most_usd * times
        return _within(stage, replace(one, most_credits=one.most_credits * times, most_usd=usd, times=times))

    def _work(self, name: str, work: stages.Work, retries: int) -> _Stage:
        return self._prompt(name, work, retries) if isinstance(work, stages.Prompt) else self._tool(name, work)

    def _prompt(self, name: str, stage: stages.Prompt, retries: int) -> _Stage:
        version = self._version(name, stage)
        chain, routing = prompting.chain_of(stage, version)
        tool = _tool(prompting.tool_of(version))
        text = template.REFERENCE.sub("", stage.template) or " "
        checked = parse_arguments(
            tool, prompting.arguments_of(version, text, stage.output_schema) | {"model": ANY_MODEL}
        )
        tokens_in, tokens_out = tokens_upper_bound(tool, checked)
        models = self._models(name, chain, routing, needs_of(checked, (tokens_in, tokens_out)))
        sizes = [(self._tokens_in(name, stage, tokens_in, models), tokens_out)]
        if stage.output_schema is not None and retries:  # an answer may be put right once: its model sees it again
            sizes.append((sizes[0][0] + tokens_out + REPAIR_TOKENS, tokens_out))
        self.carried[name] = tokens_out * BYTES_PER_TOKEN
        credits = sum(metering.price(self.plan, sum(size)) for size in sizes)
        if routing == Routing.CHOOSE:  # a first call chooses
            credits += metering.price(self.plan, choosing.LONGEST_REQUEST * 4 + choosing.MOST_TOKENS)
        usd = [most_usd(tool, checked, models, self.known, size) for size in sizes]
        return _Stage((version.persona_id, tool.name), credits, None if None in usd else sum(usd, Decimal(0)))

    def _tool(self, name: str, stage: stages.ToolUse) -> _Stage:
        tool, version = _tool(stage.tool), self._version(name, stage)
        self.carried[name] = None
        if not tool.tokens:
            return _Stage((version.persona_id, tool.name), metering.price(self.plan, None), Decimal(0))
        try:
            checked = parse_arguments(tool, stages.fill(stage.arguments, self._fillers()))
        except (InvalidArguments, template.BadReference):
            raise _NoBound(f"The arguments of stage {name} are known only when it runs.") from None
        tokens_in, tokens_out = tokens_upper_bound(tool, checked)
        models = named_models(checked)
        tokens_in = self._tokens_in(name, stage, tokens_in, models)
        self.carried[name] = tokens_out * BYTES_PER_TOKEN
        credits = metering.price(self.plan, tokens_in + tokens_out)
        usd = most_usd(tool, checked, models, self.known, (tokens_in, tokens_out))
        return _Stage((version.persona_id, tool.name), credits, usd)

    def _version(self, name: str, stage: stages.Work) -> PersonaVersion:
        version = self.versions.get(stage.persona)
        if version is None:
            raise _NoBound(f"The persona of stage {name} is gone.")
        return version

    def _models(self, name: str, chain: Sequence[str], routing: str, needs: Any) -> list[str]:
        try:
            picked = pick(chain, routing, self.known, needs, lambda model: "")
        except NoCandidates as reason:
            raise _NoBound(f"Stage {name}: {reason}") from None
        return [candidate.model for candidate in picked.fitting or picked.candidates]

    def _tokens_in(self, name: str, stage: stages.Work, literal: int, models: Sequence[str]) -> int:
        """No tokenizer makes more tokens than there are bytes, and no prompt is longer than a model's context."""
        found = [self.known.find(model) for model in models]
        contexts = [facts.context_length for facts in found if facts and facts.context_length]
        longest = max(contexts) if len(contexts) == len(models) and contexts else None
        carried = [self._bytes(text) for _, text in stage.fields()]
        if None not in carried:
            whole = literal + sum(carried)
            return min(whole, longest) if longest else whole
        if longest is None:
            raise _NoBound(f"Stage {name} takes over what a tool lists, and its model's context is not known.")
        return longest

    def _bytes(self, text: str) -> int | None:
        """The most bytes that a filled template has, or None."""
        parts = [self._of(name) for name in template.references(text)]
        return None if None in parts else len(text.encode()) + sum(parts)

    def _of(self, reference: str) -> int | None:
        if reference == template.ITEM:
            return self.item
        if reference.startswith("input."):
            return self.inputs.get(reference.removeprefix("input."), OWN_INPUT_BYTES)
        return self.carried.get(reference.removeprefix("stage.").removesuffix(".output"))

    def _fillers(self) -> dict[str, str]:
        """Something to stand for every reference: its size is counted apart."""
        inputs = [*stages.INPUTS, *(f"input.{name}" for name in self.inputs)]
        return dict.fromkeys([*inputs, template.ITEM, *(f"stage.{name}.output" for name in self.carried)], " ")


def _within(stage: stages.Stage, found: _Stage) -> _Stage:
    """What a stage takes at most, within its own limit in US dollars. Without a known price, nothing is asked there."""
    if stage.most_usd is None:
        return found
    limit = Decimal(stage.most_usd)
    return replace(found, most_usd=limit if found.most_usd is None else min(found.most_usd, limit))


# --- together ---------------------------------------------------------------------------

# Only the team's newest calls are looked at, in the order of their index: a run is started inside a
# transaction that holds schedules. Measured with 200,000 calls of one team: 8 ms, where all of them took 90.
LIKELY = """
SELECT persona_id, tool, percentile_disc(0.5) WITHIN GROUP (ORDER BY credits),
       percentile_disc(0.5) WITHIN GROUP (ORDER BY coalesce(cost_usd, 0))
  FROM (
    SELECT persona_id, tool, state, credits, cost_usd, run_id FROM integrations_call
     WHERE team_id = %(team)s AND started_at > app_now() - interval '30 days'
     ORDER BY started_at DESC, id DESC LIMIT %(newest)s
  ) newest
 WHERE state = 'done' AND persona_id = ANY(%(personas)s) AND tool = ANY(%(tools)s)
   AND (run_id IS NULL OR run_id NOT IN (
       SELECT id FROM personas_run
        WHERE team_id = %(team)s AND trigger = 'trial' AND queued_at > (SELECT app_now()) - interval '31 days'))
 GROUP BY persona_id, tool
"""

Likely = dict[tuple[UUID, str], tuple[int, Decimal]]


def _likely(team: Team, kinds: set[tuple[UUID, str]]) -> Likely:
    asked = {"team": team.pk, "newest": NEWEST}
    asked |= {"personas": [kind[0] for kind in kinds], "tools": [kind[1] for kind in kinds]}
    with database.cursor() as cursor:
        cursor.execute(LIKELY, asked)
        return {(persona, tool): (credits, usd) for persona, tool, credits, usd in cursor.fetchall()}


def _sum(found: Sequence[_Stage], likely: Likely) -> Estimate:
    usual = [(stage.times, *likely.get(stage.kind, (None, None))) for stage in found]
    dollars = [stage.most_usd for stage in found]
    is_known = all(credits is not None for _, credits, _ in usual)
    return Estimate(
        most_credits=sum(stage.most_credits for stage in found),
        likely_credits=sum(times * credits for times, credits, _ in usual) if is_known else None,
        most_usd=None if None in dollars else sum(dollars, Decimal(0)),
        likely_usd=sum((times * usd for times, _, usd in usual), Decimal(0)) if is_known else None,
    )
