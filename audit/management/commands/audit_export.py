import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Team
from audit.clock import app_now
from audit.export import json_lines
from audit.models import Event
from audit.queries import Filter, every_event, exported_events

AGO = re.compile(r"(\d{1,4})([mhd])")
UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Command(BaseCommand):
    help = "Print the audit log as JSON lines, the oldest event first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--team", metavar="SLUG", help="only this team's events")
        parser.add_argument("--since", metavar="TIME", help="ISO 8601 (UTC unless it says otherwise), or 30m, 1h, 7d")

    def handle(self, *args: object, team: str | None, since: str | None, **options: object) -> None:
        names = dict(Team.objects.values_list("pk", "slug"))
        for line in json_lines(self._events(team, since), lambda id: names.get(id, id and str(id))):
            self.stdout.write(line, ending="")

    def _events(self, slug: str | None, since: str | None) -> Iterator[Event]:
        start = parse_since(since) if since else None
        if slug is None:
            return every_event(since=start)
        team = Team.objects.filter(slug=slug).first()
        if team is None:
            raise CommandError(f"There is no team {slug}.")
        return exported_events(Filter(team.pk, since=start))


def parse_since(text: str) -> datetime:
    """Return the moment that `--since` names. Raises CommandError."""
    if ago := AGO.fullmatch(text):
        return app_now() - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{text} is no time. Write 2026-01-31T12:00, or 30m, 1h, 7d.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
