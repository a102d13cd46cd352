"""The web process: `uvicorn definable.asgi:application`."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connections

from definable.hybrid import Hybrid
from vault.checks import refuse_to_start

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "definable.settings")


def _close_database_pools() -> None:
    for connection in connections.all():
        connection.close_pool()


pages = get_wsgi_application()
refuse_to_start()

application = Hybrid(
    pages=pages,
    threads=int(os.environ.get("WEB_THREADS", "16")),
    body_limit=settings.FILE_UPLOAD_MAX_MEMORY_SIZE,
    on_shutdown=_close_database_pools,
)
