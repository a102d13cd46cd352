"""The Celery application. A message is a hint that carries ids; the database says what is true."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "definable.settings")

app = Celery("definable")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["definable"], related_name="heartbeat")  # signs of life for /readyz
