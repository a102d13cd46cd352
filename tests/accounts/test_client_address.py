"""Whose tries are counted together: the address that the trusted proxy saw, never one that the caller made up."""

import pytest
from django.test import Client
from django.urls import reverse

from tests.factories import make_team

pytestmark = pytest.mark.django_db
LIMIT = 30  # tries to sign in a minute and network


def statuses(tries: int, forwarded: str, address: str = "10.0.0.9") -> list[int]:
    """Try to sign in as one unknown person after another; `forwarded` may hold the number of the try."""
    return [
        Client(REMOTE_ADDR=address, HTTP_X_FORWARDED_FOR=forwarded.format(number))
        .post(reverse("account_login"), {"login": f"p{number}@example.test"})
        .status_code
        for number in range(tries)
    ]


@pytest.mark.requirement("RATE-2")
@pytest.mark.parametrize(
    ("proxies", "forged"),
    [(0, "198.51.100.{}"), (1, "198.51.100.{}, 203.0.113.7"), (1, "198.51.100.{}, 10.1.1.1, 203.0.113.7")],
)
def test_forged_addresses_do_not_reset_the_count(settings, proxies, forged):
    make_team()  # without an owner nobody signs in
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies

    assert statuses(LIMIT + 20, forged) == [200] * LIMIT + [429] * 20


@pytest.mark.requirement("RATE-2")
def test_behind_a_proxy_each_network_has_a_count_of_its_own(settings):
    make_team()
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1

    assert set(statuses(LIMIT + 20, "203.0.113.{}")) == {200}
