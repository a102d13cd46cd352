"""How many calls a minute: counted in the database, so that all processes share one count."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction

from audit.clock import app_now
from integrations.models import Pace
from integrations.pace import TooManyCalls, keep_pace
from tests.factories import make_team

LIMITS = {"team": 30, "member": 20, "persona": 10, "tool": 40}


@pytest.fixture(autouse=True)
def limits(settings):
    settings.CALLS_A_MINUTE = LIMITS


def passes(team, subjects, now) -> bool:
    try:
        with transaction.atomic():
            keep_pace(team_id=team.pk, subjects=subjects, now=now)
    except TooManyCalls:
        return False
    return True


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("subjects", "most"),
    [({"team": ""}, 30), ({"team": "", "member": "m"}, 20), ({"team": "", "persona": "p", "member": "m"}, 10)],
)
def test_the_tightest_subject_counts(subjects, most):
    team, now = make_team(), app_now()
    assert sum(passes(team, subjects, now) for _ in range(50)) == most


@pytest.mark.django_db
def test_a_refused_call_counts_for_none_of_its_subjects():
    team, now = make_team(), app_now()
    for _ in range(30):
        passes(team, {"team": "", "persona": "p"}, now)
    assert sum(passes(team, {"team": "", "persona": "q"}, now) for _ in range(10)) == 10
    assert sum(passes(team, {"team": ""}, now) for _ in range(30)) == 10


@pytest.mark.django_db
def test_time_gives_back_what_it_should_and_no_more():
    team, now = make_team(), app_now()
    assert sum(passes(team, {"persona": "p"}, now) for _ in range(20)) == 10
    later = now + timedelta(seconds=13)
    assert sum(passes(team, {"persona": "p"}, later) for _ in range(20)) == 2
    assert sum(passes(team, {"persona": "p"}, later + timedelta(hours=1)) for _ in range(20)) == 10


@pytest.mark.django_db
def test_the_refusal_says_who_how_many_and_when_to_come_back():
    team, now = make_team(), app_now()
    for _ in range(10):
        keep_pace(team_id=team.pk, subjects={"persona": "p"}, now=now)
    with pytest.raises(TooManyCalls, match=r"One persona may make 10 calls a minute\. Come back in 6 s") as refused:
        keep_pace(team_id=team.pk, subjects={"persona": "p"}, now=now)
    assert refused.value.retry_after == pytest.approx(6, abs=0.01)
    soon = now + timedelta(seconds=refused.value.retry_after)
    keep_pace(team_id=team.pk, subjects={"persona": "p"}, now=soon)


@pytest.mark.django_db
def test_another_team_has_a_count_of_its_own():
    team, other, now = make_team(), make_team(), app_now()
    for _ in range(40):
        passes(team, {"team": ""}, now)
    assert passes(other, {"team": ""}, now)


@pytest.mark.requirement("RATE-1")
@pytest.mark.django_db(transaction=True)
def test_ten_callers_at_once_never_pass_more_than_the_limit():
    team, now = make_team(), app_now()

    def caller(_) -> int:
        try:
            return sum(passes(team, {"team": "", "member": "m", "tool": "t"}, now) for _ in range(8))
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(caller, range(10))) == LIMITS["member"]
    assert Pace.objects.filter(team=team).count() == 3
