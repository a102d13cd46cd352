"""Background doors of the integrations."""

from datetime import timedelta
from uuid import UUID

from celery import shared_task

from audit.clock import app_now
from integrations import actions, catalog_reading, consenting, deciding, rollups, settling
from integrations.bookkeeping import close_in_doubt
from integrations.models import Call, Connection
from integrations.queue import read_catalog_later, settle_later, test_later
from integrations.registry import integrations
from integrations.sweeping import one_by_one

HINT_AGAIN = timedelta(seconds=10)
LONGEST_CALL = timedelta(minutes=20)  # a call may take 15; whoever sent an older one is gone


@shared_task
def test_connection(*, connection_id: str, **_later) -> None:
    """Test what one connection's key reaches."""
    waiting = Connection.objects.live().filter(pk=UUID(connection_id), test_wanted_at__isnull=False)
    connection = waiting.select_related("team__plan", "credential", "created_by").first()
    if connection:
        actions.run_test(connection=connection)


@shared_task
def redeem(*, consent_id: str, **_later) -> None:
    """Exchange the code that a member came back with for a key."""
    consenting.redeem(consent_id=UUID(consent_id))


@shared_task
def settle(*, call_id: str, **_later) -> None:
    """Ask what one unknown call took."""
    waiting = Call.objects.filter(pk=UUID(call_id), state=Call.State.UNKNOWN).exclude(generation_id="")
    call = waiting.select_related("team__plan", "connection").first()
    if call:
        settling.settle_unknown(call=call)


@shared_task
def refresh_catalog(**_later) -> None:
    """Read what the integrations offer, unless somebody did in the last five minutes."""
    wanted = catalog_reading.models_in_use()
    for provider in integrations():
        catalog_reading.refresh(integration=provider.slug, wanted=wanted)


@shared_task
def watch_catalog(**_later) -> None:
    """Hint at a catalog that was never read, or is more than an hour old."""
    listing = [provider.slug for provider in integrations() if provider.catalog]
    if any(catalog_reading.is_due(integration=slug, now=app_now()) for slug in listing):
        read_catalog_later()


@shared_task
def sweep(**_later) -> None:
    """Hint again at what nobody did, close calls whose sender is gone, have lost ones settled, end what is late."""
    now = app_now()
    one_by_one(Connection.objects.live().filter(test_wanted_at__lt=now - HINT_AGAIN)[:100], _hint_at_test)
    gone = Call.objects.filter(state=Call.State.SENT, started_at__lt=now - LONGEST_CALL)
    one_by_one(gone[:100], lambda call: close_in_doubt(call=call))
    for call_id in settling.take_due():
        settle_later(call_id)
    deciding.expire_due()
    consenting.sweep()


@shared_task
def roll_up(**_later) -> None:
    """Add up what calls took on the days of which one has changed."""
    rollups.roll_up()


def _hint_at_test(connection: Connection) -> None:
    # The row remembers the hint, so that they do not pile up while no worker runs.
    waiting = Connection.objects.filter(pk=connection.pk, test_wanted_at=connection.test_wanted_at)
    if waiting.update(test_wanted_at=app_now()):
        test_later(connection)
