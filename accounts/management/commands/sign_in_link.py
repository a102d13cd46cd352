"""Print a link that signs a member of the demo team in, once, within 15 minutes."""

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from accounts import actions
from accounts.models import User, canonical_email
from audit.clock import app_now


class Command(BaseCommand):
    help = "Print a one-time sign-in link for a member of a demo team, its first owner by default."

    def add_arguments(self, parser) -> None:
        parser.add_argument("--email", default="", help="whom to sign in")

    def handle(self, *, email: str, **options) -> None:
        try:
            token = actions.make_sign_in_link(user=self._person(email), at=app_now())
        except (actions.NoDemo, User.DoesNotExist) as refusal:
            raise CommandError("There is no demo team with this person. Sign in with e-mail and password.") from refusal
        self.stdout.write(f"{settings.BASE_URL}{reverse('sign_in_link', args=[token])}")

    def _person(self, email: str) -> User:
        if email:
            return User.objects.get(email=canonical_email(email))
        owners = User.objects.filter(memberships__team__is_demo=True, memberships__role="owner", is_active=True)
        return owners.earliest("memberships__created_at")
