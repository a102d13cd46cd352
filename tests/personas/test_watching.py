import pytest
from django.db import OperationalError, ProgrammingError

from personas import watching
from personas.models import Run
from personas.standstill import Stopped, TimeIsOver
from personas.watching import Watch
from tests.factories import make_team
from tests.personas.flowing import combine, start

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def always_looks(monkeypatch):
    monkeypatch.setattr(watching, "LOOK_EVERY", 0)


@pytest.fixture
def run() -> Run:
    return start(make_team(), [combine("one", "x")])


def test_it_ends_a_call_once_its_run_is_stopped(run):
    watch = Watch(run.pk)
    watch.look()
    Run.objects.filter(pk=run.pk).update(stop_wanted_at=run.queued_at)
    with pytest.raises(Stopped):
        watch.look()


def test_it_ends_a_call_whose_time_is_over(run):
    with pytest.raises(TimeIsOver):
        Watch(run.pk, 0, TimeIsOver).look()


def test_a_database_that_is_away_ends_no_call_and_a_refused_statement_is_told(run, monkeypatch):
    watch, fault = Watch(run.pk), OperationalError("no connection within 10 s")

    def fails(**wanted):
        raise fault

    monkeypatch.setattr(Run.objects, "filter", fails)
    watch.look()
    fault = ProgrammingError("no such column")
    with pytest.raises(ProgrammingError):
        watch.look()
