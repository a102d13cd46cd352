"""
Sealing and opening per second, against bare AESGCM with the same key, sizes and associated data.

    .venv/bin/python -m bench.vault

Bare is what nobody can leave out: a fresh nonce from the system and one AESGCM call with a ready
key; for content also the SHA-256 that the log keeps of every ciphertext. Ours adds the header,
the associated data and, for content, finding the key, counting its use and making the row's id.
Both sides run in turn, and the best of several rounds counts: other load only slows a round down.
"""

import hashlib
import os
import timeit
from collections.abc import Callable, Iterator
from itertools import repeat
from uuid import uuid4

AIM = 0.6
SIZES = (100, 2_000, 16_000, 64_000)  # a key, a short prompt, a long one, a document
ROUNDS = 7
SECONDS = 0.05

Rates = tuple[float, float]  # ours and bare, each per second


def rates(ours: Callable[[], object], bare: Callable[[], object]) -> Rates:
    """Return how often per second each can be done."""
    timers = [timeit.Timer(ours), timeit.Timer(bare)]
    number = max(1, int(SECONDS / (timers[0].timeit(200) / 200)))
    rounds = [[timer.timeit(number) for timer in timers] for _ in range(ROUNDS)]
    best = [min(column) for column in zip(*rounds, strict=True)]
    return number / best[0], number / best[1]


def box(size: int) -> Iterator[tuple[str, Rates]]:
    """One key's seal and open: what every layer of the vault uses."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from vault.box import Key, bind

    raw, data, nonce = os.urandom(32), os.urandom(size), os.urandom(12)
    key, aead = Key(uuid4(), raw), AESGCM(raw)
    facts = bind(b"definable/vault/v1", uuid4().bytes, b"audit.content.ciphertext", uuid4().bytes, b"prompt")
    bound = facts + bind(b"\x01", uuid4().bytes)
    blob, lying = key.seal(data, facts), aead.encrypt(nonce, data, bound)
    yield "seal", rates(lambda: key.seal(data, facts), lambda: aead.encrypt(os.urandom(12), data, bound))
    yield "open", rates(lambda: key.open(blob, facts), lambda: aead.decrypt(nonce, lying, bound))


def content(size: int) -> Iterator[tuple[str, Rates]]:
    """`seal_content` and `open_content` with warm keys: what every call pays, without the database."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from django.utils import timezone

    from audit.models import Content
    from vault import keys
    from vault.box import Key
    from vault.content import open_content, seal_content

    raw, data, nonce, at = os.urandom(32), os.urandom(size), os.urandom(12), timezone.now()
    key, aead, team_id, subject = Key(uuid4(), raw), AESGCM(raw), uuid4(), uuid4()
    keys.leases.put((team_id.int, subject.int, at.year, at.month), keys.Lease(key, repeat(0)))
    keys.content_keys.put((team_id.int, key.id.int), key)
    bound, lying = bytes(150), aead.encrypt(nonce, data, bytes(150))

    def seal_bare() -> str:
        return hashlib.sha256(aead.encrypt(os.urandom(12), data, bound)).hexdigest()

    said = {"team_id": team_id, "subject": subject, "kind": "prompt", "at": at}
    sealed = seal_content(**said, data=data)
    row = Content(id=sealed.id, team_id=team_id, kind="prompt", ciphertext=sealed.ciphertext)
    yield "seal_content", rates(lambda: seal_content(**said, data=data), seal_bare)
    yield "open_content", rates(lambda: open_content(content=row), lambda: aead.decrypt(nonce, lying, bound))


def run() -> dict:
    """Measure, print one row per work and size, and return the rows."""
    rows = [_row(work, size, *found) for size in SIZES for part in (box, content) for work, found in part(size)]
    print(f"{'vault':<14}{'bytes':>8}{'ours/s':>12}{'bare/s':>12}{'µs each':>10}{'of bare':>9}   aim {AIM:.0%}")
    for row in rows:
        print(
            f"{row['work']:<14}{row['bytes']:>8,}{row['per_second']:>12,}{row['bare_per_second']:>12,}"
            f"{row['microseconds']:>10.1f}{row['ratio']:>9.0%}"
        )
    return {"name": "vault", "aim": AIM, "rows": rows}


def _row(work: str, size: int, ours: float, bare: float) -> dict:
    return {
        "work": work,
        "bytes": size,
        "per_second": round(ours),
        "bare_per_second": round(bare),
        "microseconds": round(1e6 / ours, 2),
        "ratio": round(ours / bare, 3),
    }


if __name__ == "__main__":
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "definable.settings")
    django.setup()
    run()
