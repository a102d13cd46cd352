"""One JSON line per request, on its way to the disk before the client reads anything."""

import os
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from .exchange import Reply, Request, json_bytes
from .money import as_text


class Journal:
    """Appends to a file, or to nothing when there is none."""

    def __init__(self, path: Path | None) -> None:
        self._file: int | None = None
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, request: Request, reply: Reply) -> None:
        if self._file is None:
            return
        line = {
            "at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "request_id": request.headers.get("x-request-id"),
            "method": request.method,
            "path": f"/api/v1{request.path}",
            "key_sha256": request.key_sha256,
            "body_sha256": sha256(request.body).hexdigest(),
            "model": reply.model,
            # Nothing was ever answered: there is no status to speak of.
            "status": None if reply.silent is not None or reply.cut == "head" else reply.status,
            "generation_id": reply.generation_id,
            "cost": None if reply.cost is None else as_text(reply.cost),
        }
        # One write on a file opened for appending: lines never mix, and a killed process loses none.
        os.write(self._file, json_bytes(line) + b"\n")
