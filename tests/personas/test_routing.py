"""Every decision of the router: what each class of failure asks for, and that it always comes to an end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations import errors
from integrations.errors import (
    BadAnswer,
    EmptyAnswer,
    Gone,
    InvalidRequest,
    KeyRefused,
    LimitReached,
    ManagementKeyNeeded,
    ModelUnavailable,
    OutOfBalance,
    Overloaded,
    RateLimited,
    RefusedByPolicy,
    TimedOut,
    Unreachable,
    UpstreamError,
)
from personas.routing import (
    MOST_FALLBACKS,
    MOST_TRIES,
    TRIES_OF_ONE,
    Candidate,
    Failure,
    GiveUp,
    Park,
    Passed,
    Reaction,
    Room,
    Skip,
    Try,
    decide,
    in_time,
    reaction,
)

TWO = [Candidate("first/model"), Candidate("second/model")]
ONE = TWO[:1]
TOO_LONG = InvalidRequest("Too long.", error_type="context_length_exceeded")
MUST_STOP = [
    InvalidRequest("bad"),
    KeyRefused("no"),
    ManagementKeyNeeded("no"),
    OutOfBalance("empty"),
    LimitReached("used up"),
    RefusedByPolicy("declined"),
    UpstreamError("a class that nobody thought of"),
]


def after(*failures, candidates=TWO, room=None, jitter=0.0):
    """What is decided once these candidates failed, given as (place, error)."""
    past = [Failure(*each) if isinstance(each, tuple) else each for each in failures]
    return decide(candidates, past, room or Room(), jitter)


# --- what stops -------------------------------------------------------------------------


@pytest.mark.parametrize("error", MUST_STOP, ids=lambda error: type(error).__name__)
def test_what_no_model_could_do_better_never_moves_on_silently(error):
    assert isinstance(after((0, error)), GiveUp)


def test_every_stop_says_why():
    assert after((0, OutOfBalance("empty"))) == GiveUp("Every model is paid from the same balance, and it is used up.")
    assert after((0, KeyRefused("no"))) == GiveUp("Every model is on the same key, and it was refused.")


def test_a_lost_connection_that_may_have_been_billed_is_not_repeated():
    assert isinstance(after((0, Unreachable("lost", maybe_billed=True))), GiveUp)


def test_a_tool_without_a_model_is_not_repeated_when_it_may_have_taken_effect():
    late = TimedOut("late", maybe_billed=True)
    assert isinstance(after((0, late), candidates=[Candidate("")]), GiveUp)
    assert isinstance(after((0, TimedOut("late")), candidates=[Candidate("")]), Try)


def test_a_host_that_cannot_be_reached_is_tried_once_more_and_then_no_other_model_behind_it():
    gone = Unreachable("no route", sent=False)
    assert after((0, gone)).place == 0
    assert isinstance(after((0, gone), (0, gone)), GiveUp)


# --- what moves on ----------------------------------------------------------------------


def test_the_first_model_is_tried_first():
    assert after() == Try(0, "")


@pytest.mark.parametrize("error", [ModelUnavailable("withdrawn"), Gone("gone"), BadAnswer("garbage")])
def test_a_model_that_is_not_there_is_replaced_at_once(error):
    assert after((0, error)) == Try(1, "Next: second/model.")


@pytest.mark.parametrize("error", [Overloaded("busy"), TimedOut("late"), EmptyAnswer("nothing")])
def test_a_failing_model_is_asked_once_more_and_then_replaced(error):
    assert after((0, error)).place == 0
    assert after((0, error), (0, error)).place == 1
    assert after((0, error), (0, error), (1, error)).place == 1
    assert after(*[(place, error) for place in (0, 0, 1, 1)]) == GiveUp("No other model is left.")


def test_a_second_question_that_may_be_billed_twice_says_so():
    assert "may have been billed" in after((0, TimedOut("late", maybe_billed=True))).why


def test_a_context_that_is_too_short_is_only_answered_by_a_larger_one():
    chain = [Candidate("a/small", 8_000), Candidate("b/same", 8_000), Candidate("c/unknown"), Candidate("d/big", 9_000)]
    past = [Failure(0, TOO_LONG)]
    passed = []
    while isinstance(step := decide(chain, past, Room(), 0), Skip):
        passed.append((step.place, step.outcome))
        past.append(Passed(step.place))
    assert passed == [(1, "does_not_fit"), (2, "does_not_fit")]
    assert step == Try(3, "Next: d/big.")


def test_a_model_that_does_not_fit_is_passed_over_with_its_reason():
    chain = [Candidate("a/b", misfit="it was withdrawn"), Candidate("c/d")]
    assert after(candidates=chain) == Skip(0, "does_not_fit", "It was withdrawn.")
    assert after(Passed(0), candidates=chain) == Try(1, "Next: c/d.")


# --- rate limits ------------------------------------------------------------------------


@pytest.mark.requirement("RATE-4")
def test_a_short_rate_limit_is_waited_for_as_long_as_was_asked():
    step = after((0, RateLimited("slow", retry_after=2)), jitter=0.5)
    assert (step.place, step.seconds) == (0, 2.25)


def test_a_long_rate_limit_is_not_waited_for_while_another_model_is_there():
    assert after((0, RateLimited("slow", retry_after=20))).place == 1
    assert after((0, RateLimited("slow"))).place == 1


def test_the_budget_of_waiting_is_for_the_whole_answer():
    assert after((0, RateLimited("slow", retry_after=2)), room=Room(wait=1.9)).place == 1


def test_a_model_that_others_found_busy_is_passed_over():
    chain = [Candidate("a/b", rests=12), Candidate("c/d")]
    assert after(candidates=chain) == Skip(0, "cooling_down", "It is left in peace for another 12 s.")


def test_a_rest_that_is_nearly_over_is_waited_for_when_nobody_else_is_left():
    chain = [Candidate("a/b", rests=1)]
    assert after(Passed(0), candidates=chain) == Try(0, "Waits 1 s for a/b.", 1.0)


def test_when_every_model_is_rate_limited_the_run_waits_for_the_earliest():
    step = after((0, RateLimited("a", retry_after=40)), (1, RateLimited("b", retry_after=20)))
    assert step == Park(20, "second/model may be asked again in 20 s, before all others.")


def test_a_model_that_is_gone_does_not_keep_the_run_from_waiting_for_the_other():
    assert isinstance(after((0, ModelUnavailable("gone")), (1, RateLimited("b", retry_after=20))), Park)


def test_a_model_that_our_own_limits_refused_is_not_waited_for():
    chain = [Candidate("a/b", rests=60)]
    assert isinstance(after(Passed(0, for_good=True), candidates=chain), GiveUp)


def test_a_parked_run_is_spread_by_jitter_and_never_a_busy_loop():
    only = RateLimited("a", retry_after=0)
    spent = Room(wait=0)
    assert after((0, only), candidates=ONE, room=spent, jitter=0.5) == Park(
        5.25, after((0, only), candidates=ONE, room=spent, jitter=0.5).why
    )


def test_a_limit_that_lasts_until_midnight_is_not_waited_for():
    step = after((0, RateLimited("daily", retry_after=6 * 3600)), candidates=ONE)
    assert step == GiveUp("first/model may be asked again in 6 h, later than this run may wait.")


def test_a_chat_is_never_parked():
    assert isinstance(after((0, RateLimited("a", retry_after=20)), candidates=ONE, room=Room(park=0)), GiveUp)


def test_without_a_word_on_when_to_return_the_stage_fails():
    busy = Overloaded("busy")
    assert isinstance(after((0, busy), (0, busy), candidates=ONE), GiveUp)


# --- limits of all this -----------------------------------------------------------------


@pytest.mark.requirement("RATE-4")
def test_at_most_three_fallbacks_are_asked():
    chain = [Candidate(f"m/{number}") for number in range(10)]
    past = [Failure(place, ModelUnavailable("gone")) for place in range(1 + MOST_FALLBACKS)]
    assert decide(chain, past, Room(), 0) == GiveUp("No further model: 3 fallbacks are the most for one answer.")


def test_what_is_left_of_the_stages_tries_is_the_most_of_one_answer():
    step = after((0, ModelUnavailable("gone")), room=Room(tries=1))
    assert step == GiveUp("No further try: 1 is the most for one answer.")


def test_a_chain_in_which_nothing_fits_is_given_up_without_a_single_try():
    chain = [Candidate("a/b", misfit="it was withdrawn"), Candidate("c/d", misfit="it was withdrawn")]
    assert decide(chain, [Passed(0), Passed(1)], Room(), 0) == GiveUp("No other model is left.")


def test_every_class_of_failure_has_a_thought_out_reaction():
    family = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, UpstreamError)}
    stops = {type(error) for error in MUST_STOP} | {errors.NotReady, errors.NotFound}
    assert {kind for kind in family if reaction(kind("x")) is Reaction.STOP} == stops


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "1 s"), (119, "119 s"), (120, "2 min"), (7300, "3 h")])
def test_times_are_said_in_words(seconds, words):
    assert in_time(seconds) == words


# --- whatever happens -------------------------------------------------------------------

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, UpstreamError)]
some_error = st.builds(
    lambda kind, after, billed, text, long: kind(
        "It failed.",
        retry_after=after,
        maybe_billed=billed,
        partial_text=text,
        error_type="context_length_exceeded" if long else "",
    ),
    st.sampled_from(CLASSES),
    st.none() | st.floats(0, 10_000),
    st.booleans(),
    st.sampled_from(["", "Once upon"]),
    st.booleans(),
)
some_candidate = st.builds(
    Candidate,
    st.sampled_from(["a/b", "c/d", "e/f", ""]),
    st.none() | st.integers(1, 100_000),
    st.sampled_from(["", "it was withdrawn"]),
    st.sampled_from([0.0, 0.0, 0.5, 30.0, 5_000.0]),
)
some_room = st.builds(Room, st.floats(0, 3), st.floats(0, 3600), st.integers(0, 30))


def play(chain, errors_to_come, room, jitter):
    """Let every try fail, in this order, and return what was decided until the end."""
    past, decisions, waited = [], [], 0.0
    for error in errors_to_come:
        while True:
            left = Room(room.wait - waited, room.park, room.tries)
            step = decide(chain, past, left, jitter)
            decisions.append((step, past[-1] if past else None))
            if not isinstance(step, Skip):
                break
            past.append(Passed(step.place))
        if not isinstance(step, Try):
            return decisions, waited
        waited += step.seconds
        past.append(Failure(step.place, error))
    raise AssertionError("It never came to an end.")


@given(
    st.lists(some_candidate, min_size=1, max_size=8),
    st.lists(some_error, min_size=MOST_TRIES + 1, max_size=MOST_TRIES + 1),
    some_room,
    st.floats(0, 1),
)
def test_it_always_ends_within_its_tries_fallbacks_and_waiting(chain, to_come, room, jitter):
    decisions, waited = play(chain, to_come, room, jitter)

    tries = [step for step, _ in decisions if isinstance(step, Try)]
    assert len(tries) <= min(MOST_TRIES, room.tries)
    assert len({step.place for step in tries}) <= 1 + MOST_FALLBACKS
    assert all(sum(each.place == step.place for each in tries) <= TRIES_OF_ONE for step in tries)
    assert waited <= room.wait + 1e-6
    last = decisions[-1][0]
    assert isinstance(last, GiveUp) or 5 <= last.seconds <= room.park


@given(
    st.lists(some_candidate, min_size=1, max_size=8),
    st.lists(some_error, min_size=MOST_TRIES + 1, max_size=MOST_TRIES + 1),
    some_room,
    st.floats(0, 1),
)
def test_no_model_is_tried_that_does_not_fit_or_after_a_class_that_forbids_it(chain, to_come, room, jitter):
    decisions, _ = play(chain, to_come, room, jitter)

    for step, before in decisions:
        if not isinstance(step, Try):
            continue
        assert not chain[step.place].misfit
        if isinstance(before, Failure):
            assert reaction(before.error) is not Reaction.STOP
            if reaction(before.error) is Reaction.LARGER:
                assert chain[step.place].context_length > chain[before.place].context_length
