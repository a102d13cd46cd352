"""Reads shared by pages: connections with what they reach and who may use them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Count, Max, Q

from accounts.models import Team
from audit.clock import AppNow
from integrations.models import Call, Catalog, CatalogModel, Connection
from integrations.offering import is_varying
from integrations.registry import Tool
from integrations.scopes import allowed_tools
from vault.models import Grant

USE_DAYS = 30


@dataclass(frozen=True, slots=True)
class ToolReach:
    """One tool of a connection: whether its key reaches it, and why not."""

    tool: Tool
    usable: bool
    reason: str

    @property
    def state(self) -> str:
        """The word under which pages show it."""
        if self.tool.hints.retired:
            return "withdrawn"
        return "ready" if self.usable else "blocked"


def reach_of(connection: Connection) -> list[ToolReach]:
    """Return each tool of a connection with what its last test found."""
    untested = "Not tested yet."
    return [
        ToolReach(tool, connection.can_use(tool.name), connection.reach.get(tool.name, untested))
        for tool in connection.provider.tools
    ]


def grants_of(*, team: Team, connection: Connection) -> dict[UUID, set[str]]:
    """Return the tools each holder may use of a connection."""
    grants = Grant.objects.live().filter(team=team, connection=connection.pk)
    return {grant.holder: allowed_tools(grant.scopes) for grant in grants}


def personas_per_connection(*, team: Team) -> Counter[UUID]:
    """Count the holders of each connection of a team."""
    return Counter(Grant.objects.live().filter(team=team).values_list("connection", flat=True))


@dataclass(frozen=True, slots=True)
class Use:
    """How often a tool was called in the last 30 days, and when last; None: not in that time."""

    calls: int
    last_at: datetime | None


def use_of_tools(
    *, team: Team, persona_id: UUID | None = None, flow_id: UUID | None = None
) -> dict[tuple[UUID, str], Use]:
    """Return how a persona or a flow used each tool of each connection, by connection and tool."""
    who = {"persona_id": persona_id} if persona_id else {"flow_id": flow_id}
    recent = Call.objects.filter(team=team, started_at__gte=AppNow() - timedelta(days=USE_DAYS), **who)
    sums = recent.order_by().values_list("connection", "tool").annotate(Count("id"), Max("started_at"))
    return {(connection, tool): Use(count, last_at) for connection, tool, count, last_at in sums}


def catalog_line(integration: str) -> Catalog | None:
    """Return an integration's catalog with its number of `listed` models and of those whose prices are `held`."""
    listed = Q(models__gone_at=None)
    counts = {
        "listed": Count("models", filter=listed),
        "held": Count("models", filter=listed & ~Q(models__held_back="")),
    }
    return Catalog.objects.annotate(**counts).filter(integration=integration).first()


def models_of_varying_price(integration: str, model_ids: list[str]) -> set[str]:
    """Return those of these models whose provider says that their price varies: it writes it as less than nothing."""
    rows = CatalogModel.objects.filter(catalog__integration=integration, model_id__in=model_ids)
    found = rows.values_list("model_id", "data__pricing") if model_ids else ()
    return {model_id for model_id, pricing in found if is_varying(pricing)}


def models_of_catalog(integration: str, model_ids: Iterable[str]) -> dict[str, CatalogModel]:
    """Return those of these models that are or were in the catalog, by their ids."""
    rows = CatalogModel.objects.filter(catalog__integration=integration, model_id__in=list(model_ids))
    return {row.model_id: row for row in rows}


def model_of_catalog(integration: str, model_id: str) -> CatalogModel | None:
    """Return a model as it was read last, one that is gone too; None when it never was in the catalog."""
    return CatalogModel.objects.filter(catalog__integration=integration, model_id=model_id).first()
