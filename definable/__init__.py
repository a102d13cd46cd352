"""The wiring: settings, URLs, processes. Imported by nothing below it."""

from definable.celery import app as celery_app

__all__ = ["celery_app"]
