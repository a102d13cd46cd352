"""Whether an answer on its way is still waited for."""

import math
import time
from uuid import UUID

from django.db import Error

from integrations.bookkeeping import let_go_of_database
from integrations.errors import Withdrawn
from personas.leases import is_away
from personas.models import Run
from personas.standstill import Stopped

LOOK_EVERY = 1.0  # seconds between two looks


class Watch:
    """
    Ends a call that nobody waits for any more: its run was stopped, or its time is over.

    `too_late` is what is raised `seconds` from now; infinite ones never pass.
    """

    def __init__(self, run_id: UUID, seconds: float = math.inf, too_late: type[Withdrawn] = Withdrawn) -> None:
        self.run_id, self.too_late = run_id, too_late
        now = time.monotonic()
        self.ends_at, self.next_look = now + seconds, now + LOOK_EVERY

    def look(self) -> None:
        """
        Raise Stopped, or what was given. Called several times a second while a call is on its way.

        A database that is away for a moment ends no call: its answer may be paid for already.
        """
        now = time.monotonic()
        if now >= self.ends_at:
            raise self.too_late
        if now < self.next_look:
            return
        self.next_look = now + LOOK_EVERY
        if self._is_stopped():
            raise Stopped

    def _is_stopped(self) -> bool:
        try:
            return Run.objects.filter(pk=self.run_id, stop_wanted_at__isnull=False).exists()
        except Error as error:
            if not is_away(error):
                raise
            return False
        finally:
            let_go_of_database()
