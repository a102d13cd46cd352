"""Print the link that makes this installation's first account and team."""

from django.conf import settings
from django.core.management.base import BaseCommand
from django.urls import reverse

from accounts import actions
from audit.clock import app_now


class Command(BaseCommand):
    help = "Print a one-time link that makes the first owner. Does nothing once there is one."

    def handle(self, **options) -> None:
        try:
            token = actions.make_first_owner_link(at=app_now())
        except actions.OwnerExists:
            self.stdout.write("This installation has an owner.")
            return
        self.stdout.write(f"Set up the first owner: {settings.BASE_URL}{reverse('first_owner', args=[token])}")
