"""Who may make a team of their own. Each brings free platform credits, month after month, so that they are counted."""

from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import connection, transaction

from accounts.actions import Refused, create_team
from accounts.models import Plan, Team, TeamStart, User

DAY = timedelta(hours=24)


class AddressUnconfirmed(Refused):
    """Whoever wants a team has not shown that the address is theirs."""

    def __init__(self, email: str) -> None:
        super().__init__(f"Confirm your address first: open the link that we mailed to {email}.")


class NetworkFull(Refused):
    """As many teams as may come from one network in a day have come."""

    def __init__(self) -> None:
        super().__init__(
            "Too many teams were made from your network today. Try again tomorrow, or join a team: "
            "ask one of its owners for an invitation."
        )


class NoFreeTeams(Refused):
    """The installation carries as many free teams as it may."""

    def __init__(self) -> None:
        super().__init__(
            "All free teams of this installation are taken. Ask whoever runs it for more, or join a team: "
            "ask one of its owners for an invitation."
        )


def network_of(address: str) -> str:
    """Return the network that an address is counted with: /24 of IPv4, /64 of IPv6, which one customer gets."""
    known = ip_address(address)
    if isinstance(known, IPv6Address) and known.ipv4_mapped:
        known = known.ipv4_mapped
    prefix = 24 if isinstance(known, IPv4Address) else 64
    return str(ip_network((known.packed, prefix), strict=False))


def needs_confirmation(user: User) -> bool:
    """Say whether this person has to confirm their address before they can make a team."""
    mine = EmailAddress.objects.filter(user=user, email=user.email, verified=True)
    return settings.FREE_TEAMS_NEED_CONFIRMED_ADDRESS and not mine.exists()


@transaction.atomic
def start_team(*, name: str, owner: User, network: str, at: datetime, zone: str = "UTC") -> Team:
    """
    Make a team on the free plan for whoever asks; `network` is where they ask from.

    Raises AddressUnconfirmed, NetworkFull, NoFreeTeams. Of many at once exactly as many pass as may.
    """
    if needs_confirmation(owner):
        raise AddressUnconfirmed(owner.email)
    _one_at_a_time()
    _count_for_network(network, at)
    plan = Plan.objects.earliest("position")
    free = Team.objects.filter(plan=plan, is_demo=False)
    if settings.FREE_TEAMS and free.count() >= settings.FREE_TEAMS:
        raise NoFreeTeams
    return create_team(name=name, owner=owner, at=at, zone=zone, plan=plan)


def _one_at_a_time() -> None:
    # Held until the transaction ends, so that whoever comes next counts this team too.
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('accounts.team.start'))")


def _count_for_network(network: str, at: datetime) -> None:
    TeamStart.objects.filter(at__lte=at - DAY).delete()
    most = settings.FREE_TEAMS_A_DAY_PER_NETWORK
    if most and TeamStart.objects.filter(network=network).count() >= most:
        raise NetworkFull
    TeamStart.objects.create(network=network, at=at)
