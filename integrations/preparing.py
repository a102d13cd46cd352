"""
Steps 1 to 3 of a call: what is wanted becomes a request that may be sent, or a refusal that says why.

    1 resolve    tool and arguments, pinned ones put in        InvalidArguments, UnknownTool
    2 authorise  member's role, grant and scope, approval      NotAllowed, NeedsApproval, NotApproved
    3 constrain  policies, and the dollars that are left       PolicyRefuses, CapReached
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from accounts.models import Team
from integrations import approvals, caps, catalog, metering, pricing, scopes
from integrations.approvals import NeedsApproval, Question
from integrations.bookkeeping import Caller
from integrations.caps import Demand
from integrations.clients import client_for
from integrations.facts import ModelFacts
from integrations.models import Connection
from integrations.policy import Rules, constrain, read_rules
from integrations.registry import Tool, parse_arguments, tokens_upper_bound
from integrations.scopes import Rule, Step, Verdict
from integrations.standing import Standing, authorise, look_up
from integrations.wire import Request


@dataclass(frozen=True, slots=True)
class Asked:
    """
    A call as it is wanted.

    `chain` are the models that may still be asked for the same answer: the dearest bounds what is held.
    """

    team: Team
    connection: Connection
    tool: str
    arguments: Mapping[str, Any] = field(repr=False)
    caller: Caller
    chain: Sequence[str] = ()
    approval_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call that may be made: checked, bounded, and ready as bytes. `most_usd` None: no price is known."""

    asked: Asked
    tool: Tool
    arguments: BaseModel = field(repr=False)
    request: Request = field(repr=False)
    standing: Standing
    why: tuple[Step, ...]
    most_usd: Decimal | None
    approval: tuple[UUID, str] | None = None

    @property
    def model(self) -> str:
        """The model asked for, if any."""
        return getattr(self.arguments, "model", None) or ""

    @property
    def most_credits(self) -> int:
        """The most it can take, in platform credits."""
        bound = tokens_upper_bound(self.tool, self.arguments)
        return self.price(*bound) if bound else self.price()

    def price(self, tokens_in: int | None = None, tokens_out: int | None = None) -> int:
        """What it takes in platform credits. Nobody pays for what the installation looks up itself."""
        if self.asked.caller.user is None:
            return 0
        tokens = (tokens_in or 0) + (tokens_out or 0) if self.tool.tokens else None
        return metering.price(self.asked.team.plan, tokens)

    @property
    def demands(self) -> tuple[Demand, ...]:
        """The caps that must hold what it can cost."""
        return self.standing.demands if self.tool.hints.spends_money else ()


def prepare(asked: Asked, trail: list[Step]) -> Prepared:
    """
    Do steps 1 to 3.

    `trail` gets the rules that were looked at, also when a later one refuses.
    """
    standing = look_up(team=asked.team, connection=asked.connection, caller=asked.caller)
    return prepare_from(standing, asked, trail)


def prepare_from(standing: Standing, asked: Asked, trail: list[Step]) -> Prepared:
    """Do what `prepare` does, for a caller who stands like this."""
    tool = asked.connection.provider.tool(asked.tool)
    arguments = _resolve(tool, asked, standing)
    verdict = _authorise(standing, tool, asked, arguments)
    trail += verdict.steps
    limited, most_usd = _fit(tool, _constrain(standing, asked, tool, arguments, trail), asked, standing)
    request = tool.prepare(limited, client_for(asked.connection.provider))
    prepared = Prepared(asked, tool, limited, request, standing, tuple(trail), most_usd)
    # What somebody allowed is made as they saw it, also where the grant has stopped asking since.
    if verdict.rule is Rule.ASK or (asked.approval_id and standing.scopes):
        return replace(prepared, approval=_approval(prepared, arguments))
    return prepared


# --- resolve and authorise --------------------------------------------------------------


def _resolve(tool: Tool, asked: Asked, standing: Standing) -> BaseModel:
    fixed = scopes.pinned(standing.scopes, tool.name) if standing.scopes else {}
    arguments = parse_arguments(tool, {**asked.arguments, **fixed} if fixed else asked.arguments)
    return scopes.bound(standing.scopes, tool, arguments) if standing.scopes else arguments


def _authorise(standing: Standing, tool: Tool, asked: Asked, arguments: BaseModel) -> Verdict:
    return authorise(
        standing,
        team=asked.team,
        connection=asked.connection,
        tool=tool,
        caller=asked.caller,
        arguments=arguments,
        models=asked.chain,
    )


def _approval(prepared: Prepared, arguments: BaseModel) -> tuple[UUID, str]:
    """The approval that covers this call, and the hash to use it up with. Raises NeedsApproval and NotApproved."""
    question = _question(prepared, arguments)
    approval_id = prepared.asked.approval_id
    if approval_id is None:
        raise NeedsApproval(question)
    return approval_id, approvals.check(approval_id, question, now=prepared.standing.now)


def _question(prepared: Prepared, arguments: BaseModel) -> Question:
    asked, caller = prepared.asked, prepared.asked.caller
    return Question(
        team_id=asked.team.pk,
        connection_id=asked.connection.pk,
        tool=prepared.tool.name,
        chain=tuple(asked.chain),
        user_id=caller.user.pk,
        persona_id=caller.persona_id,
        persona_name=caller.persona_name,
        flow_id=caller.flow_id,
        run_id=caller.run_id,
        stage_id=caller.stage_id,
        unattended=caller.unattended,
        arguments=as_plain(arguments),
        most_credits=prepared.most_credits,
        most_usd=prepared.most_usd,
        approvers=prepared.standing.scopes.approvers,
    )


def as_plain(arguments: BaseModel) -> dict[str, Any]:
    """Return checked arguments as they could be given again."""
    return arguments.model_dump(mode="json", by_alias=True, exclude_unset=True)


# --- constrain --------------------------------------------------------------------------


def _constrain(standing: Standing, asked: Asked, tool: Tool, arguments: BaseModel, trail: list[Step]) -> BaseModel:
    sources = [*standing.policies, *_providers_of_grant(standing, asked)]
    if not sources or not tool.tokens:
        return arguments
    done = constrain(arguments, sources, catalog.current(asked.connection.integration))
    trail += [Step("policy", True, f"Inside the rule {rule}.") for rule in done.rules]
    return done.arguments


def _providers_of_grant(standing: Standing, asked: Asked) -> list[tuple[str, Rules]]:
    limits = standing.scopes and standing.scopes.providers
    if not limits or not (limits.allow or limits.deny):
        return []
    rules = {name: value for name, value in standing.scopes.provider_rules.items() if value}
    return [(f"the grant of {asked.caller.persona_name}", read_rules(rules))]


# --- dollars ----------------------------------------------------------------------------


def _fit(tool: Tool, arguments: BaseModel, asked: Asked, standing: Standing) -> tuple[BaseModel, Decimal | None]:
    """Shorten the answer until the most it can cost fits under the caps; return that cost, None if unknown."""
    bound = tokens_upper_bound(tool, arguments)
    if bound is None:
        return arguments, None
    tokens_in, wanted = bound
    models = _models(arguments, asked)

    def most_usd(tokens_out: int) -> Decimal | None:
        return dearest(models, tokens_in, tokens_out)

    tokens = caps.fitting_tokens(standing.demands, wanted=wanted, most_usd=most_usd, at=standing.now)
    if tokens < wanted:
        arguments = parse_arguments(tool, as_plain(arguments) | {tool.output_limit: tokens})
    return arguments, most_usd(tokens)


def _models(arguments: BaseModel, asked: Asked) -> list[ModelFacts | None]:
    """What is known of every model that may answer."""
    known = catalog.current(asked.connection.integration)
    named = dict.fromkeys([*scopes.named_models(arguments), *filter(None, asked.chain)])
    return [known.find(model) for model in named]


def dearest(models: Sequence[ModelFacts | None], tokens_in: int, tokens_out: int) -> Decimal | None:
    """Return the most that an answer by any of these models can cost, in dollars; None if one price is unknown."""
    most = [pricing.most_usd(model, tokens_in=tokens_in, tokens_out=tokens_out) for model in models]
    return max(most) if most and None not in most else None
