"""Put a team on another plan: for whoever runs the installation."""

from django.core.management.base import BaseCommand, CommandError

from accounts import actions
from accounts.models import Plan, Team
from audit.actions import Actor
from audit.clock import app_now


class Command(BaseCommand):
    help = "Put a team on another plan. More platform credits count at once, fewer from the next month."

    def add_arguments(self, parser) -> None:
        parser.add_argument("--team", required=True, help="as in its address")
        parser.add_argument("--plan", required=True, help="its key, such as pro")

    def handle(self, *, team: str, plan: str, **options) -> None:
        try:
            wanted = Plan.objects.get(key=plan)
            found = Team.objects.select_related("plan").get(slug=team)
            actions.change_plan(team=found, plan=wanted, by=Actor.system("set_plan"), at=app_now())
        except Team.DoesNotExist:
            raise CommandError(f"There is no team {team}.") from None
        except Plan.DoesNotExist:
            known = ", ".join(Plan.objects.values_list("key", flat=True))
            raise CommandError(f"There is no plan {plan}. Known are: {known}.") from None
        except actions.SamePlan as refusal:
            raise CommandError(str(refusal)) from None
        self.stdout.write(f"{found.name} is on {wanted.name} now.")
