from integrations.errors import (
    EmptyAnswer,
    InvalidRequest,
    KeyRefused,
    ModelUnavailable,
    OutOfBalance,
    Overloaded,
    RateLimited,
    TimedOut,
)
from personas.routing import Failure, GiveUp, Park, Try, decide

CHAIN = ["first/model", "second/model"]


def failed(choice, error):
    return Failure(choice, error)


def test_the_first_model_is_tried_first():
    assert decide(CHAIN, []) == Try("first/model", 0)


def test_a_rate_limited_model_is_replaced_by_the_next():
    assert decide(CHAIN, [failed(0, RateLimited("slow down", retry_after=20))]) == Try("second/model", 1)


def test_each_kind_of_outage_moves_on_to_the_next_model():
    for error in (Overloaded("busy"), TimedOut("late"), ModelUnavailable("gone")):
        assert decide(CHAIN, [failed(0, error)]) == Try("second/model", 1)


def test_a_refused_key_ends_the_stage_since_every_model_is_on_it():
    for error in (KeyRefused("no"), OutOfBalance("empty"), InvalidRequest("bad")):
        assert decide(CHAIN, [failed(0, error)]) == GiveUp()


def test_an_empty_answer_is_asked_for_once_more_and_then_replaced():
    empty = EmptyAnswer("nothing")
    assert decide(CHAIN, [failed(0, empty)]) == Try("first/model", 0)
    assert decide(CHAIN, [failed(0, empty), failed(0, empty)]) == Try("second/model", 1)
    assert decide(CHAIN, [failed(0, empty), failed(0, empty), failed(1, empty)]) == Try("second/model", 1)


def test_when_every_model_is_rate_limited_the_run_waits_for_the_earliest():
    failures = [failed(0, RateLimited("a", retry_after=40)), failed(1, RateLimited("b", retry_after=20))]
    assert decide(CHAIN, failures) == Park(20)


def test_a_wait_is_never_a_busy_loop():
    assert decide(["only/model"], [failed(0, RateLimited("a", retry_after=0))]) == Park(5)


def test_a_limit_that_lasts_until_midnight_is_not_waited_for():
    assert decide(["only/model"], [failed(0, RateLimited("daily", retry_after=6 * 3600))]) == GiveUp()


def test_without_a_word_on_when_to_return_the_stage_fails():
    assert decide(["only/model"], [failed(0, Overloaded("busy"))]) == GiveUp()


def test_one_failure_that_cannot_heal_is_not_waited_for():
    failures = [failed(0, ModelUnavailable("gone")), failed(1, RateLimited("b", retry_after=20))]
    assert decide(CHAIN, failures) == GiveUp()
