"""Make the demo team, connected to the sandbox. Does nothing where there is one."""

from urllib.parse import urlsplit

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from accounts.models import Team
from definable.demo import MODELS, make_demo_team
from integrations import catalog_reading


class Command(BaseCommand):
    help = "Make a demo team that is connected to the sandbox."

    def handle(self, **options) -> None:
        if Team.objects.filter(is_demo=True).exists():
            return
        api_key, management_key = self._key(limit=25), self._key(management=True)
        # Before anything runs: a dollar cap refuses what has no price, and a rule finds no model.
        catalog_reading.refresh(integration="openrouter", wanted=MODELS)
        with transaction.atomic():
            make_demo_team(api_key=api_key, management_key=management_key)

    def _key(self, **wanted: object) -> str:
        """Ask the sandbox for a key; only a sandbox hands them out."""
        address = urlsplit(settings.INTEGRATION_URLS["openrouter"])
        try:
            answer = httpx.post(
                f"{address.scheme}://{address.netloc}/__sandbox/keys", json=wanted, timeout=5, trust_env=False
            )
            return answer.raise_for_status().json()["key"]
        except (httpx.HTTPError, ValueError, KeyError) as problem:
            raise CommandError("The demo needs the sandbox, and it does not answer. Is it running?") from problem
