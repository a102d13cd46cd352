"""
What to try next when a model says no. Pure decisions: no clock, no rows, no network, no chance.

The class of a failure decides, never its text. Whatever happens, an answer takes at most
MOST_TRIES tries of at most 1 + MOST_FALLBACKS models, and at most Room.wait seconds of waiting.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from integrations import errors
from integrations.errors import UpstreamError

MOST_FALLBACKS = 3  # models that are asked after the first one, for one answer
MOST_TRIES = 6  # for one answer, over all its models
TRIES_OF_ONE = 2  # of one model
JITTER = 0.5  # seconds by which waits for a model are spread
SHORTEST_PARK = 5.0  # seconds; a run is never taken up in a busy loop


# --- what is decided upon ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """
    A model that may be asked.

    `misfit` says in words why it cannot serve this request, empty when it can or nobody knows.
    `rests` is for how many more seconds it is left in peace, 0 when it may be asked now.
    """

    model: str
    context_length: int | None = None
    misfit: str = ""
    rests: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A try that failed: which candidate, and how."""

    place: int
    error: UpstreamError


@dataclass(frozen=True, slots=True)
class Passed:
    """A candidate that was passed over. `for_good`: one of our own limits refused it, so waiting would not help."""

    place: int
    for_good: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """What may still be spent on an answer: seconds of waiting, seconds of being parked, tries."""

    wait: float = 3.0
    park: float = 3600.0
    tries: int = MOST_TRIES


# --- what is decided --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Try:
    """Ask this candidate after `seconds` of waiting, mostly none."""

    place: int
    why: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Skip:
    """Pass this candidate over; `outcome` is the word for it in the ledger."""

    place: int
    outcome: str
    why: str


@dataclass(frozen=True, slots=True)
class Park:
    """Nobody can answer now, but somebody will: come back after this many seconds, with the chain afresh."""

    seconds: float
    why: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nothing else would help."""

    why: str


Decision = Try | Skip | Park | GiveUp


class Reaction(Enum):
    """What a class of failures asks for."""

    WAIT = "wait as long as was asked, if that is short; else the next model"
    AGAIN = "the same model once more, then the next"
    SAME_HOST = "the same once more; every model lives behind this host"
    NEXT = "the next model"
    LARGER = "the next model with a larger context"
    STOP = "no model, since none would take it or somebody must decide"


REACTIONS: dict[type[UpstreamError], Reaction] = {
    errors.RateLimited: Reaction.WAIT,
    errors.Overloaded: Reaction.AGAIN,
    errors.TimedOut: Reaction.AGAIN,
    errors.EmptyAnswer: Reaction.AGAIN,
    errors.Unreachable: Reaction.SAME_HOST,
    errors.ModelUnavailable: Reaction.NEXT,
    errors.Gone: Reaction.NEXT,
    errors.BadAnswer: Reaction.NEXT,
}

STOPS = {
    errors.InvalidRequest: "The request itself is wrong, so no model would take it.",
    errors.KeyRefused: "Every model is on the same key, and it was refused.",
    errors.ManagementKeyNeeded: "Every model is on the same key, and it may not do this.",
    errors.OutOfBalance: "Every model is paid from the same balance, and it is used up.",
    errors.LimitReached: "Every model counts against the same limit, and it is used up.",
    errors.RefusedByPolicy: "What was declined by one model is not carried to another by itself.",
}


def reaction(error: UpstreamError) -> Reaction:
    """Return what a failure asks for, by its class. A class that nobody thought of stops."""
    if isinstance(error, errors.InvalidRequest) and error.error_type == "context_length_exceeded":
        return Reaction.LARGER
    return next((REACTIONS[kind] for kind in type(error).__mro__ if kind in REACTIONS), Reaction.STOP)


def decide(candidates: Sequence[Candidate], past: Sequence[Failure | Passed], room: Room, jitter: float) -> Decision:
    """
    Decide the next step towards an answer from what has been done so far, oldest first.

    `jitter`, between 0 and 1, spreads the waits of workers that failed together.
    """
    answer = _Answer(candidates, past, room, jitter)
    if past and isinstance(past[-1], Failure):
        decision = answer.after_failure(past[-1])
        if decision:
            return decision
    return answer.next()


@dataclass(frozen=True, slots=True)
class _Answer:
    candidates: Sequence[Candidate]
    past: Sequence[Failure | Passed]
    room: Room
    jitter: float

    # --- the model that failed last -----------------------------------------------------

    def after_failure(self, last: Failure) -> Decision | None:
        """Stop, or ask the same model again; None for going on to the next."""
        wanted = reaction(last.error)
        why = self._why_stop(last, wanted)
        if why:
            return GiveUp(why)
        if wanted in (Reaction.WAIT, Reaction.AGAIN, Reaction.SAME_HOST):
            again = self._again(last, wanted)
            if again is None and wanted is Reaction.SAME_HOST:
                return GiveUp(self._why_unreachable(last.place))
            return again
        return None

    def _why_unreachable(self, place: int) -> str:
        if not self.candidates[place].model:
            return "It cannot be reached."
        return "Every model lives behind this host, and it cannot be reached."

    def _why_stop(self, last: Failure, wanted: Reaction) -> str:
        error, names_model = last.error, bool(self.candidates[last.place].model)
        if error.may_have_acted:
            return "Nobody knows whether it was done, so it is not repeated by itself."
        if error.maybe_billed and (wanted is Reaction.SAME_HOST or not names_model):
            return "Nobody knows whether it was billed, so it is not repeated by itself."
        if wanted is Reaction.STOP and not names_model:
            return "Sending it again would not help."
        if wanted is Reaction.STOP:
            return next((STOPS[kind] for kind in type(error).__mro__ if kind in STOPS), "No model would do better.")
        return ""

    def _again(self, last: Failure, wanted: Reaction) -> Try | None:
        told = last.error.retry_after
        if (wanted is Reaction.WAIT and told is None) or not self._may_try(last.place):
            return None
        seconds = (told or 0.0) + JITTER * self.jitter
        if seconds > self.room.wait:
            return None
        return Try(last.place, _why_again(last.error), seconds)

    # --- the next one -------------------------------------------------------------------

    def next(self) -> Decision:
        """Go on to the first candidate that nobody has looked at yet."""
        seen = {step.place for step in self.past}
        for place, candidate in enumerate(self.candidates):
            if place not in seen:
                return self._look_at(place, candidate)
        return self._come_back_or_give_up()

    def _look_at(self, place: int, candidate: Candidate) -> Decision:
        if candidate.misfit:
            return Skip(place, "does_not_fit", _sentence(candidate.misfit))
        if self._is_too_small(candidate):
            return Skip(place, "does_not_fit", "Its context is not larger than one that was too short.")
        if candidate.rests > 0:
            return Skip(place, "cooling_down", f"It is left in peace for another {in_time(candidate.rests)}.")
        if not self._may_try(place):
            return self._come_back_or_give_up()
        return Try(place, self._why_next(candidate))

    def _why_next(self, candidate: Candidate) -> str:
        return f"Next: {candidate.model}." if self.past else ""

    def _may_try(self, place: int) -> bool:
        tried = [step.place for step in self.past if isinstance(step, Failure)]
        if len(tried) >= min(MOST_TRIES, self.room.tries) or tried.count(place) >= TRIES_OF_ONE:
            return False
        refused = {step.place for step in self.past if isinstance(step, Passed) and step.for_good}
        return place in tried or len({*tried, *refused}) <= MOST_FALLBACKS

    def _is_too_small(self, candidate: Candidate) -> bool:
        """Whether its context is no larger than one that was too short; one nobody knows counts as such."""
        exceeded = [
            self.candidates[step.place].context_length
            for step in self.past
            if isinstance(step, Failure) and reaction(step.error) is Reaction.LARGER
        ]
        own = candidate.context_length
        return any(own is None or short is None or own <= short for short in exceeded)

    # --- nobody is left -----------------------------------------------------------------

    def _come_back_or_give_up(self) -> Decision:
        waits = dict(self._waits())
        if not waits or self._tried() >= self.room.tries:
            return GiveUp(self._why_give_up())
        place = min(waits, key=waits.__getitem__)
        soonest = waits[place]
        spread = JITTER * self.jitter
        if soonest + spread <= self.room.wait and self._may_try(place):
            return Try(place, f"Waits {in_time(soonest)} for {self.candidates[place].model}.", soonest + spread)
        seconds = max(SHORTEST_PARK, soonest) * (1 + self.jitter / 10)
        when = f"{self._name(place)} may be asked again in {in_time(soonest)}"
        if seconds > self.room.park:
            return GiveUp(f"{when}, later than this run may wait.")
        return Park(seconds, f"{when}, before all others.")

    def _waits(self) -> Iterator[tuple[int, float]]:
        """Those that will be able to answer later, each with the seconds until then."""
        refused = {step.place for step in self.past if isinstance(step, Passed) and step.for_good}
        told = {step.place: step.error for step in self.past if isinstance(step, Failure)}
        for place, candidate in enumerate(self.candidates):
            if candidate.misfit or place in refused or self._is_too_small(candidate):
                continue
            error = told.get(place)
            later = error.retry_after if error and reaction(error) in (Reaction.WAIT, Reaction.AGAIN) else None
            if candidate.rests > 0 or later is not None:
                yield place, max(candidate.rests, later or 0.0)

    def _why_give_up(self) -> str:
        tried = self._tried()
        if tried >= min(MOST_TRIES, self.room.tries):
            return f"No further try: {tried} is the most for one answer."
        if len({step.place for step in self.past}) < len(self.candidates):
            return f"No further model: {MOST_FALLBACKS} fallbacks are the most for one answer."
        if not any(candidate.model for candidate in self.candidates):
            return "Nothing else can be asked for this."
        return "No other model is left." if len(self.candidates) > 1 else "There is no other model to ask."

    def _tried(self) -> int:
        return sum(isinstance(step, Failure) for step in self.past)

    def _name(self, place: int) -> str:
        return self.candidates[place].model or "The service"


def _why_again(error: UpstreamError) -> str:
    if error.retry_after is not None:
        return f"Waits {in_time(error.retry_after)} as it was told, then asks it once more."
    billed = " It may have been billed for the first time." if error.maybe_billed else ""
    return f"Asks it once more.{billed}"


def _sentence(words: str) -> str:
    said = words[:1].upper() + words[1:]
    return said if said.endswith(".") else f"{said}."


def in_time(seconds: float) -> str:
    """Say a length of time in words, rounded up to what people would say."""
    whole = int(-(-seconds // 1))
    if whole < 120:
        return f"{whole} s"
    return f"{-(-whole // 60)} min" if whole < 7200 else f"{-(-whole // 3600)} h"
