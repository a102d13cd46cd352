"""
Steps 1 to 3 of a call: what is wanted becomes a request that may be sent, or a refusal that says why.

    1 resolve    tool and arguments, pinned ones put in        InvalidArguments, UnknownTool
    2 authorise  member's role, grant and scope, approval      NotAllowed, NeedsApproval, NotApproved
    3 constrain  policies, and the dollars that are left       PolicyRefuses, CapReached
"""

from collections.abc import Iterable, Mapping, Sequence
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
from integrations.facts import Catalog
from integrations.models import Connection
from integrations.policy import Rules, constrain, read_rules
from integrations.policy.words import sentences_with_source
from integrations.pricing import Extras
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
    """
    A call that may be made: checked, bounded, and ready as bytes. `most_usd` None: no price is known.

    A cap may have shortened its answer, and `most_usd` with it; what a person allows is the call before that.
    """

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
        return self.most_credits_of(self.arguments)

    def most_credits_of(self, arguments: BaseModel) -> int:
        """The most that a call with these arguments can take, in platform credits."""
        return self.price(*(tokens_upper_bound(self.tool, arguments) or ()))

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
    constrained = _constrain(standing, asked, tool, arguments, trail)
    price = _Price(tool, constrained, asked)
    limited, most_usd = _fit(price, constrained, standing)
    request = tool.prepare(limited, client_for(asked.connection.provider))
    prepared = Prepared(asked, tool, limited, request, standing, tuple(trail), most_usd)
    # What somebody allowed is made as they saw it, also where the grant has stopped asking since.
    if verdict.rule is Rule.ASK or (asked.approval_id and standing.scopes):
        return replace(prepared, approval=_approval(prepared, arguments, price))
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


def _approval(prepared: Prepared, arguments: BaseModel, price: "_Price") -> tuple[UUID, str]:
    """The approval that covers this call, and the hash to use it up with. Raises NeedsApproval and NotApproved."""
    question = _question(prepared, arguments, price)
    approval_id = prepared.asked.approval_id
    if approval_id is None:
        raise NeedsApproval(question)
    return approval_id, approvals.check(approval_id, question, now=prepared.standing.now)


def _question(prepared: Prepared, arguments: BaseModel, price: "_Price") -> Question:
    """What to ask: the call as it is wanted. Caps may shorten it later, whatever room they have then."""
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
        most_credits=prepared.most_credits_of(arguments),
        most_usd=price.most_usd(),
        approvers=prepared.standing.scopes.approvers,
        untrusted=caller.untrusted,
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
    trail += [Step("policy", True, f"{who}: {words}") for words, who in sentences_with_source(done.merged)]
    return done.arguments


def _providers_of_grant(standing: Standing, asked: Asked) -> list[tuple[str, Rules]]:
    limits = standing.scopes and standing.scopes.providers
    if not limits or not (limits.allow or limits.deny):
        return []
    rules = {name: value for name, value in standing.scopes.provider_rules.items() if value}
    return [(f"the grant of {asked.caller.persona_name}", read_rules(rules))]


# --- dollars ----------------------------------------------------------------------------


class _Price:
    """What a call can cost at most, by the length of its answer."""

    def __init__(self, tool: Tool, arguments: BaseModel, asked: Asked) -> None:
        self.tool, self.known = tool, catalog.current(asked.connection.integration)
        self.bound = tokens_upper_bound(tool, arguments)
        # A request to several models goes to any of them; those of the chain are asked one by one.
        self.together = scopes.named_models(arguments)
        self.groups = [self.together, *([model] for model in asked.chain if model and [model] != self.together)]
        self.extras = _extras(tool, arguments, [model for group in self.groups for model in group], self.known)

    def most_usd(self, tokens_out: int | None = None) -> Decimal | None:
        """The most that an answer of so many tokens costs, or of as many as were wanted; None if nobody knows."""
        if self.bound is None:
            return None
        tokens_in, wanted = self.bound
        tokens_out = wanted if tokens_out is None else tokens_out
        return _highest(
            pricing.most_usd(
                [*map(self.known.find, group)], tokens_in=tokens_in, tokens_out=tokens_out, extras=self.extras
            )
            for group in self.groups
        )

    def no_dearer(self, arguments: BaseModel) -> BaseModel:
        """The arguments, such that no endpoint asks more than was counted with; as they are where all are known."""
        models = [*map(self.known.find, self.together)]
        prices = pricing.limit(models)
        return arguments if prices is None or pricing.are_whole(models) else self.tool.no_dearer(arguments, prices)


def _fit(price: _Price, arguments: BaseModel, standing: Standing) -> tuple[BaseModel, Decimal | None]:
    """Keep a call inside its caps, with a shorter answer if need be; return what it costs at most, None if unknown."""
    if price.bound is None or not standing.demands:
        return arguments, price.most_usd()
    if price.extras.unknown:
        raise caps.unknown_price(standing.demands, standing.now, price.extras.unknown)
    wanted = price.bound[1]
    tokens = caps.fitting_tokens(standing.demands, wanted=wanted, most_usd=price.most_usd, at=standing.now)
    if tokens < wanted:
        arguments = _shorter(price.tool, arguments, tokens)
    return price.no_dearer(price.tool.with_bounded_steps(arguments)), price.most_usd(tokens)


def _shorter(tool: Tool, arguments: BaseModel, tokens: int) -> BaseModel:
    # Checked again: other arguments may need more than is left. The rules in `provider` may be longer than a caller's.
    given = {name: value for name, value in as_plain(arguments).items() if name != "provider"}
    shorter = parse_arguments(tool, given | {tool.output_limit: tokens})
    return shorter.model_copy(update={"provider": arguments.provider}) if arguments.provider else shorter


def most_usd(
    tool: Tool, arguments: BaseModel, models: Sequence[str], known: Catalog, tokens: tuple[int, int]
) -> Decimal | None:
    """Return the most that an answer by one of these models can cost, in dollars; None if that is unknown for one."""
    tokens_in, tokens_out = tokens
    return _highest(
        pricing.most_usd(
            [known.find(model)],
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            extras=_extras(tool, arguments, [model], known),
        )
        for model in models
    )


def why_no_price(tool: Tool, arguments: BaseModel, model: str, known: Catalog) -> str:
    """Say in a sentence why no cap could answer for this call to a model; empty when one can."""
    if pricing.limit([known.find(model)]) is None:
        return "Its price is not known, and a cap in dollars counts."
    return _extras(tool, arguments, [model], known).unknown


def _extras(tool: Tool, arguments: BaseModel, models: Sequence[str], known: Catalog) -> Extras:
    return tool.extras(arguments, {model: known.find(model) for model in models}) if tool.extras else Extras()


def _highest(amounts: Iterable[Decimal | None]) -> Decimal | None:
    found = list(amounts)
    return max(found) if found and None not in found else None
