"""
One JSON line per fact, on standard error, in every process.

Ours, Django's, Celery's and uvicorn's lines all pass through here. Keys and one-time links are
masked; an exception is told by its kind, its first line and where it happened, never with
variables or the rows a database quotes; whatever could begin a line or move a cursor is escaped.
"""

import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

import structlog

LONGEST = 4000  # characters of one text
MOST_PLACES = 20  # lines of code of one exception, the innermost ones
MOST_ERRORS = 5  # exceptions that caused each other
LASTING = {"web", "worker", "control", "beat"}  # whose end nobody sees but the log

MASK = "[removed]"
SECRETS = re.compile(
    r"""
    (?: sk-or- | \b(?:sk|pk|rk)- ) [A-Za-z0-9_-]{5,}        # a provider's key
    | (?<=Bearer\ ) \S+
    | (?<=://) [^/\s:@]* : [^/\s@]+ (?=@)                   # user and password of an address
    | (?<=/invite/) [^/\s"']+ | (?<=/sign-in/) [^/\s"']+ | (?<=/setup/) [^/\s"']+
    | (?<=/hooks/) [^/\s"'?]+
    | (?<=/confirm-email/) [^/\s"']+ | (?<=/reset/key/) [^/\s"']+
    """,
    re.VERBOSE,
)


def configure(options: Mapping[str, Any]) -> None:
    """Send every logger of this process to standard error as JSON, from options["level"] up. Repeating it is fine."""
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    handler = _StandardError()
    handler.setFormatter(JsonLines())
    logging.root.handlers = [handler]
    logging.root.setLevel(options["level"])
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it writes whole addresses, queries included
    logging.captureWarnings(True)
    _configure_structlog()
    if os.environ.get("DEFINABLE_ROLE") in LASTING:
        sys.excepthook = _uncaught
        threading.excepthook = lambda what: _uncaught(what.exc_type, what.exc_value, what.exc_traceback)


def _configure_structlog() -> None:
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt | SystemExit):
        logging.getLogger(__name__).critical("process.failed", exc_info=(kind, error or kind(), trace))


class _StandardError(logging.StreamHandler):
    """Standard error as it is now; a test may have put another one in its place."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        facts = dict(record.msg) if isinstance(record.msg, dict) else {"event": _message(record)}
        error = _error_of(facts.pop("exc_info", None) or record.exc_info)
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "role": os.environ.get("DEFINABLE_ROLE", "manage"),
            "logger": record.name,
            **facts,
        }
        if error is not None:
            line["errors"] = [_told(each) for each in _chain(error)]
        return json.dumps(_clean(line), ensure_ascii=True)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # the arguments do not fit; they stay out of the log
        return str(record.msg)


def _error_of(exc_info: Any) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1]
    return sys.exc_info()[1] if exc_info else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and what led to it."""
    for _ in range(MOST_ERRORS):
        if error is None:
            return
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _told(error: BaseException) -> dict[str, Any]:
    # The first line alone: from the second on, databases and checkers quote the data they refuse.
    said = str(error).partition("\n")[0][:300]
    places = traceback.extract_tb(error.__traceback__)[-MOST_PLACES:]
    at = [f"{'/'.join(place.filename.split('/')[-3:])}:{place.lineno} {place.name}" for place in places]
    return {"kind": f"{type(error).__module__}.{type(error).__qualname__}", "said": said, "at": at}


def _clean(value: Any) -> Any:
    """The same value of JSON's own types, without secrets and not too long."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_text(name): _clean(held) for name, held in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(held) for held in value]
    return _text(value)


def _text(value: Any) -> str:
    return SECRETS.sub(MASK, str(value)[: LONGEST * 2])[:LONGEST]
