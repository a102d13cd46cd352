"""
The scheduler of django-celery-beat with as many schedules as ours, in a process of its own: it needs other settings.

    python -m bench._celery_beat DATABASE_URL BROKER_URL

Prints one line of JSON. Every message is sent to a real broker; nobody takes them.
"""

import json
import sys
import time
from datetime import timedelta
from statistics import quantiles

import celery
import django
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

SCHEDULES, ZONES = 50_000, ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")
DUE = (1_000, 10_000)
IDLE_SECONDS = 10
PATIENCE = 120  # seconds for all that are due


def main() -> None:
    database, broker = sys.argv[1:]
    where = conninfo_to_dict(database)
    django_database = {"ENGINE": "django.db.backends.postgresql", "NAME": where["dbname"]}
    django_database |= {"HOST": where["host"], "USER": where["user"], "PORT": where.get("port", "")}
    settings.configure(DATABASES={"default": django_database}, INSTALLED_APPS=["django_celery_beat"], USE_TZ=True)
    django.setup()
    _make_schedules()
    scheduler = _scheduler(celery.Celery("rival", broker=broker, set_as_current=True))
    print(json.dumps({"idle_percent": round(_idle(scheduler), 1), "rows": [_measure(scheduler, due) for due in DUE]}))


def _make_schedules() -> None:
    """So many rows, none of them due before the next first of January."""
    from django.core.management import call_command
    from django_celery_beat.models import CrontabSchedule, PeriodicTask

    call_command("migrate", verbosity=0)
    rules = [
        CrontabSchedule.objects.create(minute="0", hour=str(hour), day_of_month="1", month_of_year="1", timezone=zone)
        for hour in range(24)
        for zone in ZONES
    ]
    rows = (
        PeriodicTask(name=f"n{number}", task="digest", crontab=rules[number % len(rules)], last_run_at=_now())
        for number in range(SCHEDULES)
    )
    PeriodicTask.objects.bulk_create(rows, batch_size=5_000)


def _scheduler(app: celery.Celery):
    from django_celery_beat.schedulers import DatabaseScheduler

    class Timed(DatabaseScheduler):
        sent: list[float] = []

        def apply_async(self, *args, **kwargs):
            result = super().apply_async(*args, **kwargs)
            self.sent.append(time.perf_counter())
            return result

    return Timed(app=app)


def _idle(scheduler) -> float:
    """Percent of a core while nothing is due, after the first look, slept through as celery beat does."""
    scheduler.tick()
    began, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < IDLE_SECONDS:
        time.sleep(min(scheduler.tick(), 1.0))
    return (time.process_time() - cpu) / (time.perf_counter() - began) * 100


def _measure(scheduler, due: int) -> dict:
    """Seconds from their time on until so many messages are at the broker."""
    from django_celery_beat.models import PeriodicTasks

    _due_now(due)
    PeriodicTasks.update_changed()
    scheduler.sent.clear()
    began = time.perf_counter()
    while len(scheduler.sent) < due and time.perf_counter() - began < PATIENCE:
        time.sleep(min(scheduler.tick(), 0.01))
    scheduler.sync()
    late = [at - began for at in scheduler.sent]
    p50, p99 = (quantiles(late, n=100)[place] for place in (49, 98))
    return {"due": due, "sent": len(late), "seconds": round(late[-1], 2), "p50": round(p50, 2), "p99": round(p99, 2)}


def _due_now(count: int) -> None:
    """Make the first so many due at this moment, and only once within the hour."""
    from django_celery_beat.models import CrontabSchedule, PeriodicTask

    now = _now()
    rule, _ = CrontabSchedule.objects.get_or_create(minute=str(now.minute), hour="*", timezone="UTC")
    chosen = PeriodicTask.objects.order_by("pk").values("pk")[:count]
    PeriodicTask.objects.filter(pk__in=chosen).update(crontab=rule, last_run_at=now - timedelta(minutes=30))


def _now():
    from django.utils import timezone

    return timezone.now()


if __name__ == "__main__":
    main()
