"""The Celery application. A message is a hint that carries ids; the database says what is true."""

import os

from celery import Celery
from celery.signals import setup_logging, worker_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "definable.settings")

app = Celery("definable")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["definable"], related_name="heartbeat")  # signs of life for /readyz


@setup_logging.connect
def keep_our_log(**_signal: object) -> None:
    """Keep Celery from writing a log of its own shape: ours was configured with Django."""


@worker_init.connect
def refuse_unfit_keys(**_signal: object) -> None:
    """A worker without fit keys ends before it takes its first message."""
    from vault.checks import refuse_to_start

    refuse_to_start()
