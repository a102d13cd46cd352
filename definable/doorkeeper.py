"""
What a worker takes from its queue: a task of ours with ids in it.

Celery trusts a message once it knows the name in it, and ends when its shape is wrong. Whoever can
write to the broker could stop every worker; here such a message is dropped and named in the log.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from celery.worker.consumer import Consumer as CelerysConsumer
from kombu import Message
from kombu.exceptions import KombuError

LONGEST_BODY = 4096  # bytes; ids need a few hundred
LONGEST_NAME = 100  # characters of a task's name or a message's id

log = structlog.get_logger(__name__)


class Consumer(CelerysConsumer):
    """Celery's consumer behind a door."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], None]:
        handle = super().create_task_handler(*args, **kwargs)

        def take(message: Message) -> None:
            headers = headers_of(message, self.app.conf.task_routes)
            if headers is None:
                log.warning("message.refused")
                return message.reject_log_error(log, self.connection_errors)
            message.headers, message.properties = headers, {"correlation_id": headers["id"]}
            return handle(message)

        return take


def headers_of(message: Message, known: dict[str, Any]) -> dict[str, Any] | None:
    """
    Return the headers to read a message by, or None for one that is no task of ours.

    Made anew from the name, the id and the expiry: of the rest nothing is believed.
    """
    said = message.headers if isinstance(message.headers, dict) else {}
    task, id, expires = said.get("task"), said.get("id"), said.get("expires")
    if not (_is_word(task) and task in known and _is_word(id) and _is_time(expires) and _carries_ids(message)):
        return None
    none = dict.fromkeys(("eta", "group", "group_index", "parent_id", "shadow", "stamps", "stamped_headers"))
    described = {"argsrepr": "()", "kwargsrepr": "{}", "origin": "", "ignore_result": True, "replaced_task_nesting": 0}
    fixed = {"lang": "py", "retries": 0, "timelimit": [None, None]}
    return none | described | fixed | {"task": task, "id": id, "root_id": id, "expires": expires}


def _carries_ids(message: Message) -> bool:
    """Whether the body is JSON of named ids and nothing else: no arguments by place, no tasks to follow."""
    if message.content_type != "application/json" or len(message.body or "") > LONGEST_BODY:
        return False
    try:
        body = message.decode()
    except (KombuError, ValueError, TypeError, LookupError, RecursionError):
        return False
    match body:
        case [[], dict() as arguments, dict() as follow_up] if not any(follow_up.values()):
            return all(_is_id(name, value) for name, value in arguments.items())
        case _:
            return False


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME


def _is_time(value: Any) -> bool:
    if value is None:
        return True
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _is_id(name: str, value: Any) -> bool:
    try:
        return name.endswith("_id") and str(UUID(value)) == value
    except (AttributeError, TypeError, ValueError):
        return False
