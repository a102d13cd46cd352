"""The broker as somebody sees it who can reach it: whichever of the two kinds the suite runs on."""

import base64
import json
from collections.abc import Sequence

import amqp
import redis
from django.conf import settings
from kombu import Connection, Queue

HOLD = 500  # messages a round trip
UNSENDABLE = (UnicodeEncodeError, amqp.exceptions.FrameSyntaxError)  # what AMQP itself has no way to say


def put(queue: str, messages: Sequence[bytes]) -> None:
    """Place messages as Celery's Redis transport keeps them, oldest first; AMQP leaves out what it cannot express."""
    _put_amqp(queue, messages) if _speaks_amqp() else _put_redis(queue, messages)


def content(queues: Sequence[str]) -> str:
    """Return all that lies there, with the messages unpacked, a line each. Takes nothing away."""
    return _amqp_content(queues) if _speaks_amqp() else _redis_content()


def _speaks_amqp() -> bool:
    return settings.CELERY_BROKER_URL.startswith("amqp")


def _redis() -> redis.Redis:
    url = settings.CELERY_BROKER_URL.replace("redis+socket://", "unix://").replace("virtual_host=", "db=")
    return redis.Redis.from_url(url)


def _put_redis(queue: str, messages: Sequence[bytes]) -> None:
    client = _redis()
    for start in range(0, len(messages), HOLD):
        client.lpush(queue, *messages[start : start + HOLD])


def _redis_content() -> str:
    client = _redis()
    messages = [message for name in client.scan_iter(_type="list") for message in client.lrange(name, 0, -1)]
    bodies = [base64.b64decode(json.loads(message)["body"]) for message in messages]
    others = [str(client.dump(name)).encode() for name in client.scan_iter()]
    return b"\n".join([*messages, *bodies, *others]).decode()


def _put_amqp(queue: str, messages: Sequence[bytes]) -> None:
    with Connection(settings.CELERY_BROKER_URL) as link:
        channel = link.default_channel
        Queue(queue)(channel).queue_declare()
        for message in messages:
            try:
                channel.basic_publish(_as_amqp(json.loads(message)), routing_key=queue)
            except UNSENDABLE:
                continue


def _as_amqp(message: dict) -> amqp.Message:
    return amqp.Message(
        base64.b64decode(message["body"]),
        content_type=message["content-type"],
        content_encoding=message["content-encoding"],
        application_headers=message["headers"],
        correlation_id=message["properties"]["correlation_id"],
        delivery_mode=2,
    )


def _amqp_content(queues: Sequence[str]) -> str:
    """What is read and not acknowledged goes back when the channel closes."""
    lines = []
    with Connection(settings.CELERY_BROKER_URL) as link:
        for queue in queues:
            Queue(queue)(link.default_channel).queue_declare()
            while message := link.default_channel.basic_get(queue):
                lines += [json.dumps(message.headers, default=str), message.body]
    return "\n".join(line.decode() if isinstance(line, bytes) else line for line in lines)
