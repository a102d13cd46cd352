"""Whether this worker was told to end: it takes up no further run, and hands its own back between two stages."""

from threading import Event

from celery.signals import worker_shutting_down

_told = Event()


def is_told() -> bool:
    return _told.is_set()


@worker_shutting_down.connect
def note(**_signal: object) -> None:
    """A signal asked the worker to end once its tasks have: SIGTERM, as deployments send it."""
    _told.set()
