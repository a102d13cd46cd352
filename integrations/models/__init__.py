"""Connections, the calls made through them, what limits those calls, and what the provider offers."""

from integrations.models.approvals import Approval
from integrations.models.calls import Call
from integrations.models.catalog import Catalog, CatalogEndpoint, CatalogModel, CatalogProvider
from integrations.models.connections import Connection
from integrations.models.consents import Consent
from integrations.models.limits import Cap, CapCounter, CapEntry, Policy
from integrations.models.pace import Pace
from integrations.models.spend import SpendChange, SpendDay

__all__ = [
    "Approval",
    "Call",
    "Cap",
    "CapCounter",
    "CapEntry",
    "Catalog",
    "CatalogEndpoint",
    "CatalogModel",
    "CatalogProvider",
    "Connection",
    "Consent",
    "Pace",
    "Policy",
    "SpendChange",
    "SpendDay",
]
