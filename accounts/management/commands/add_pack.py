"""Add a pack to a team's month: for whoever runs the installation."""

from django.core.management.base import BaseCommand, CommandError

from accounts import actions, credits
from accounts.models import Pack, Team
from audit.actions import Actor
from audit.clock import app_now
from audit.ids import uuid7


class Command(BaseCommand):
    help = "Add a pack of platform credits to a team's month. Running it twice adds two."

    def add_arguments(self, parser) -> None:
        parser.add_argument("--team", required=True, help="as in its address")
        parser.add_argument("--pack", required=True, help="its key, such as pack-10k")

    def handle(self, *, team: str, pack: str, **options) -> None:
        try:
            wanted = Pack.objects.get(key=pack)
            found = Team.objects.get(slug=team)
            actions.add_pack(team=found, pack=wanted, by=Actor.system("add_pack"), at=app_now(), key=uuid7())
        except Team.DoesNotExist:
            raise CommandError(f"There is no team {team}.") from None
        except Pack.DoesNotExist:
            known = ", ".join(Pack.objects.values_list("key", flat=True))
            raise CommandError(f"There is no pack {pack}. Known are: {known}.") from None
        except credits.Full as refusal:
            raise CommandError(str(refusal)) from None
        self.stdout.write(f"{found.name} has {wanted.credits:,} platform credits more this month.")
