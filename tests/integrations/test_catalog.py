"""The catalog in the tables: read whole, kept when the provider is down, and never believed blindly."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from audit.models import Event
from integrations import catalog, catalog_reading, tasks
from integrations.facts import EndpointFacts, Prices
from integrations.models import Catalog, CatalogEndpoint, CatalogModel, CatalogProvider
from integrations.openrouter.catalog import endpoint_columns, model_columns, prices_of, provider_columns, tiers_of
from integrations.pricing import most_usd
from tests.integrations.desk import MODEL, Desk
from tests.integrations.scripted import ScriptedServer, answer
from tests.personas.builders import make_flow, make_persona

pytestmark = pytest.mark.django_db
NOBODY_LISTENS = "http://127.0.0.1:9/api/v1"
AT_ONCE = timedelta(0)
IN_A_FLOW = "google/gemini-3-flash-preview"


@pytest.fixture(autouse=True)
def upstream(sandbox, settings):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}


def refresh(**how) -> bool:
    done = catalog_reading.refresh(integration="openrouter", again_after=AT_ONCE, **how)
    catalog.forget()
    return done


def test_an_unread_catalog_is_unknown_and_no_error():
    known = catalog.current()
    assert not known.is_known
    assert known.find("openai/gpt-5.4-mini") is None


def test_other_tests_may_start_with_a_known_catalog(known_catalog):
    assert known_catalog.is_known
    assert known_catalog == catalog.current()


def test_it_is_read_whole():
    assert refresh(wanted=["anthropic/claude-sonnet-4.6"])
    known = catalog.current()
    assert known.is_known
    model = known.find("anthropic/claude-sonnet-4.6")
    assert model.prices.tokens_in > 0
    assert model.endpoints
    assert {endpoint.tag for endpoint in model.zdr_endpoints} < {endpoint.tag for endpoint in model.endpoints}
    assert Event.objects.filter(team_id=None, action="catalog.read").count() == 1


def test_reading_the_same_again_changes_nothing():
    refresh(wanted=["anthropic/claude-sonnet-4.6"])
    version = catalog.current().version
    refresh(wanted=["anthropic/claude-sonnet-4.6"])
    assert catalog.current().version == version


def test_the_last_good_copy_stays_when_the_provider_is_down(settings):
    refresh()
    before = catalog.current()
    settings.INTEGRATION_URLS = {"openrouter": NOBODY_LISTENS}
    refresh()
    assert catalog.current().models.keys() == before.models.keys()
    assert Catalog.objects.get().failure
    assert Event.objects.filter(action="catalog.not_read").count() == 1


def test_a_reading_that_changes_nothing_still_makes_the_copy_younger(clock):
    refresh()
    before = catalog.current()
    clock(minutes=61)
    refresh()
    after = catalog.current()
    assert after.version == before.version
    assert after.read_at > before.read_at


def test_what_is_remembered_is_looked_at_again_within_a_second(monkeypatch):
    now = 100.0
    monkeypatch.setattr(catalog.time, "monotonic", lambda: now)
    assert not catalog.current().is_known
    catalog_reading.refresh(integration="openrouter")
    now = 100.9
    assert not catalog.current().is_known
    now = 101.1
    known = catalog.current()
    assert known.is_known
    now = 102.2
    assert catalog.current() is known


@pytest.mark.django_db(transaction=True)
def test_while_one_thread_builds_the_catalog_others_go_on_with_the_old_one(monkeypatch):
    refresh()
    before, build = catalog.current(), catalog._build
    building, go_on = threading.Event(), threading.Event()

    def slowly(*args):
        building.set()
        assert go_on.wait(10)
        return build(*args)

    monkeypatch.setattr(catalog, "_build", slowly)
    monkeypatch.setattr(catalog, "LOOK_AGAIN", 0)
    Catalog.objects.update(version=before.version + 1)
    with ThreadPoolExecutor(1) as other:
        newer = other.submit(in_a_thread, catalog.current)
        assert building.wait(10)
        assert catalog.current() is before
        go_on.set()
        assert newer.result().version == before.version + 1


def in_a_thread(work):
    """Do it with a connection of its own, which is closed again."""
    try:
        return work()
    finally:
        connection.close()


def test_endpoints_that_were_all_read_long_ago_are_a_part_of_them_only(clock):
    refresh(wanted=[MODEL])
    clock(hours=25)
    refresh()
    CatalogModel.objects.filter(model_id=MODEL).update(name="Changed")
    refresh()
    assert catalog.current().find(MODEL).endpoints is None
    assert catalog.current().find(MODEL).zdr_endpoints


def test_only_one_worker_reads_and_not_every_second():
    assert refresh()
    assert not catalog_reading.refresh(integration="openrouter")


def test_a_model_that_is_listed_no_more_is_gone_and_may_come_back():
    refresh()
    row = Catalog.objects.get()
    CatalogModel.objects.create(catalog=row, model_id="old/model", name="Old", seen_at=row.read_at)
    refresh()
    assert catalog.current().find("old/model").is_gone


# --- what is believed -------------------------------------------------------------------


@contextmanager
def serve(settings, *models: object, retaining_none: object = (), endpoints: object = None) -> Iterator[None]:
    """Let the next reading find these records, and of one wanted model these endpoints."""
    lists = [answer({"data": list(models)}), answer({"data": list(retaining_none)}), answer({"data": []})]
    lists += [answer({"data": {"endpoints": endpoints}})] if endpoints is not None else []
    with ScriptedServer(lists) as server:
        settings.INTEGRATION_URLS = {"openrouter": server.url}
        yield


def priced(price_in: object, price_out: object = "0.00001", **more) -> dict:
    return {"id": "a/b", "name": "B", "pricing": {"prompt": price_in, "completion": price_out}} | more


NO_PRICES = ["-1", "-0.000001", "NaN", "Infinity", "1e999", None, "", "free", True, [], {}, "1001"]


@pytest.mark.requirement("LLM-11")
@pytest.mark.parametrize("price", NO_PRICES, ids=json.dumps)
def test_what_is_no_price_is_unknown_and_never_zero(price):
    assert prices_of({"prompt": price, "completion": "0.1"}).tokens_in is None


def test_a_missing_price_is_unknown_but_a_missing_price_per_request_is_none_to_pay():
    assert prices_of({"completion": "0.1"}) == Prices(None, Decimal("0.1"), Decimal(0))


def test_a_discount_counts_for_the_usual_price_and_not_for_the_most():
    record = priced("0.00001", discount=0)
    record["pricing"]["discount"] = 0.5
    listed = prices_of(json.loads(json.dumps(record), parse_float=Decimal)["pricing"])
    assert listed.tokens_in == Decimal("0.000005")
    assert Prices(Decimal("0.00001"), Decimal("0.00001"), Decimal(0)) in tiers_of(
        json.loads(json.dumps(record), parse_float=Decimal), listed
    )


def test_a_dearer_tier_for_long_prompts_is_known():
    record = priced("0.00001")
    record["pricing"]["overrides"] = [{"min_prompt_tokens": 200_000, "prompt": "0.00002"}]
    assert Prices(Decimal("0.00002"), Decimal("0.00001"), Decimal(0)) in tiers_of(record, prices_of(record["pricing"]))


@pytest.mark.requirement("BUD-4")
def test_tokens_written_to_a_cache_or_thought_count_at_their_price_for_the_most():
    record = priced("0.00001", "0.00002")
    record["pricing"] |= {"input_cache_write": "0.0000125", "internal_reasoning": "0.00003", "discount": Decimal("0.5")}
    record["pricing"]["overrides"] = [{"min_prompt_tokens": 200_000, "input_cache_write_1h": "0.00004"}]
    tiers = tiers_of(record, prices_of(record["pricing"]))
    assert Prices(Decimal("0.0000125"), Decimal("0.00003"), Decimal(0)) in tiers
    assert max(tier.tokens_in for tier in tiers) == Decimal("0.00004")


def test_a_varying_price_stays_unknown_whatever_a_cache_costs():
    record = priced("-1", "-1")
    record["pricing"] |= {"input_cache_write": "0.1", "internal_reasoning": "0.1"}
    assert {tier.tokens_in for tier in tiers_of(record, Prices(Decimal(1), Decimal(1)))} == {None}


@pytest.mark.parametrize("record", [{}, {"id": None}, {"id": 7}, {"id": ""}, {"id": "x" * 300}])
def test_a_record_without_a_usable_name_is_left_out(record):
    assert model_columns(record) is None


def test_a_broken_record_is_counted_and_does_not_spoil_the_others(settings):
    with serve(settings, {"id": 5}, priced("0.000001"), {"pricing": "?"}, "no record"):
        refresh()
    assert list(CatalogModel.objects.values_list("model_id", flat=True)) == ["a/b"]
    assert Event.objects.get(action="catalog.read").details["skipped"] == 2


TEXTS = st.text("a1-/ é🎈", max_size=20) | st.just("x" * 500)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
OF_MODELS = ["canonical_slug", "name", "alias_target", "context_length", "top_provider", "architecture", "created"]
OF_OTHERS = ["provider_name", "max_completion_tokens", "status", "latency_last_30m", "headquarters", "datacenters"]
FIELDS = st.sampled_from([*OF_MODELS, *OF_OTHERS, "pricing", "supported_parameters", "expiration_date"])


@given(st.dictionaries(FIELDS, JSON))
def test_whatever_a_record_holds_what_is_read_fits_the_tables(record):
    for read, table, name in [
        (model_columns, CatalogModel, "id"),
        (endpoint_columns, CatalogEndpoint, "tag"),
        (provider_columns, CatalogProvider, "slug"),
    ]:
        for column, value in read(record | {name: "a/b"}).items():
            if value is not None:
                table._meta.get_field(column).run_validators(value)


@pytest.mark.parametrize(
    "answers", [[{"data": []}], [{"data": "?"}], [{}], [{"data": [{"id": "c/d"}]}, {"data": None}]], ids=json.dumps
)
def test_a_list_that_is_empty_or_none_is_not_believed(settings, answers):
    with serve(settings, priced("0.00001")):
        refresh()
    with ScriptedServer([*map(answer, answers), *[answer({"data": []})] * 2]) as server:
        settings.INTEGRATION_URLS = {"openrouter": server.url}
        refresh()
    assert not catalog.current().find("a/b").is_gone
    assert Catalog.objects.get().failure


def test_a_price_too_small_for_the_table_does_not_become_free():
    assert prices_of({"prompt": "0.0000000000001", "completion": "0"}).tokens_in == Decimal("0.000000000001")


@pytest.mark.requirement("LLM-11")
@pytest.mark.parametrize("leap", ["0.0000009", "0.00011", "0"], ids=["a tenth", "eleven times", "free at once"])
def test_a_price_that_leaps_is_used_only_when_it_is_read_again_an_hour_later(settings, clock, leap):
    def read(price: str) -> Decimal:
        with serve(settings, priced(price)):
            refresh()
        return CatalogModel.objects.get().price_in

    old = Decimal("0.00001")
    assert read("0.00001") == old
    assert read(leap) == old
    assert CatalogModel.objects.get().held_back
    clock(minutes=30)
    assert read(leap) == old
    clock(minutes=61)
    assert read(leap) == Decimal(leap)
    assert not CatalogModel.objects.get().held_back


@pytest.mark.requirement("LLM-11")
def test_a_price_held_back_counts_for_the_most_that_a_call_can_cost(settings):
    with serve(settings, priced("0.00001")):
        refresh()
    with serve(settings, priced("0.001")):
        refresh()
    model = catalog.current().find("a/b")
    assert model.prices.tokens_in == Decimal("0.00001")
    assert Decimal("0.001") in {tier.tokens_in for tier in model.tiers}
    assert CatalogModel.objects.get().held_back.partition(" ")[2].startswith("Now $0.001")


@pytest.mark.requirement("LLM-11")
def test_a_price_that_goes_away_makes_the_most_unknown_and_does_not_come_back_lower_at_once(settings):
    for price, known in [("0.00001", True), (None, False), ("0.0000001", True)]:
        with serve(settings, priced(price)):
            refresh()
        model = catalog.current().find("a/b")
        assert model.prices.tokens_in == Decimal("0.00001")
        assert (most_usd([model], tokens_in=1, tokens_out=1) is not None) is known


@pytest.mark.requirement("LLM-11")
def test_a_price_that_was_unknown_is_used_an_hour_after_it_is_first_read(settings, clock):
    for minutes, price, used in [(0, "-1", None), (0, "0.00001", None), (61, "0.00001", Decimal("0.00001"))]:
        clock(minutes=minutes)
        with serve(settings, priced(price)):
            refresh()
        assert CatalogModel.objects.get().price_in == used


@pytest.mark.requirement("LLM-11")
def test_another_leap_begins_to_wait_anew(settings, clock):
    for minutes, price in [(0, "0.00001"), (0, "0.001"), (59, "0.002"), (61, "0.002")]:
        clock(minutes=minutes)
        with serve(settings, priced(price)):
            refresh()
        assert CatalogModel.objects.get().price_in == Decimal("0.00001")


@pytest.mark.requirement("LLM-11")
def test_a_price_of_an_endpoint_is_held_back_as_well(settings, clock):
    def read(price: str) -> EndpointFacts:
        offer = {"tag": "one", "pricing": {"prompt": price, "completion": "0"}}
        with serve(settings, priced("0.00001"), endpoints=[offer]):
            refresh(wanted=["a/b"])
        return catalog.current().find("a/b").endpoints[0]

    old, low = Prices(Decimal("0.001"), Decimal(0)), Prices(Decimal("0.00002"), Decimal(0))
    assert read("0.001").prices == old
    assert read("0.00002").prices == old
    clock(minutes=59)
    held = read("0.00002")
    assert (held.prices, held.tiers) == (old, (low,))
    clock(minutes=60)
    assert read("0.00002").prices == low


def test_an_endpoint_that_retains_from_now_on_loses_its_mark(settings):
    refresh(wanted=["anthropic/claude-sonnet-4.6"])
    before = CatalogEndpoint.objects.filter(is_zdr=True).count()
    with serve(settings, priced("0.00001")):
        refresh()
    assert before
    assert not CatalogEndpoint.objects.filter(is_zdr=True).exists()


# --- when it is read --------------------------------------------------------------------


@pytest.fixture
def hints(monkeypatch) -> list[str]:
    sent: list[str] = []
    monkeypatch.setattr(tasks, "read_catalog_later", lambda: sent.append("hint"))
    return sent


def test_a_catalog_is_asked_for_at_once_when_it_was_never_read_and_then_hourly(hints, clock):
    tasks.watch_catalog()
    assert len(hints) == 1
    tasks.refresh_catalog()
    clock(minutes=59)
    tasks.watch_catalog()
    assert len(hints) == 1
    clock(minutes=61)
    tasks.watch_catalog()
    assert len(hints) == 2


def test_after_a_failure_it_is_asked_for_again_in_five_minutes(hints, clock, settings):
    settings.INTEGRATION_URLS = {"openrouter": NOBODY_LISTENS}
    tasks.refresh_catalog()
    clock(minutes=4)
    tasks.watch_catalog()
    assert hints == []
    clock(minutes=5)
    tasks.watch_catalog()
    assert hints == ["hint"]


def test_a_failure_that_goes_on_is_logged_once(settings):
    refresh()
    settings.INTEGRATION_URLS = {"openrouter": NOBODY_LISTENS}
    refresh()
    refresh()
    assert Event.objects.filter(action="catalog.not_read").count() == 1


def test_all_endpoints_are_read_of_models_that_teams_name_and_of_recent_calls(sandbox):
    desk = Desk(sandbox)
    persona = make_persona(
        desk.team, chain=["openai/gpt-5.4-mini:nitro", "google/*", "no/such-model"], routing="cheapest"
    )
    stage = {"kind": "prompt", "name": "ask", "persona": str(persona.pk), "template": "Hi", "chain": [IN_A_FLOW]}
    make_flow(desk.team, [stage])
    desk.call()
    tasks.refresh_catalog()
    catalog.forget()
    known = catalog.current()
    read = {model.id for model in known.models.values() if model.endpoints is not None}
    assert read == {known.find(name).id for name in ("openai/gpt-5.4-mini:nitro", IN_A_FLOW, MODEL)}


def test_of_many_wanted_models_those_read_longest_ago_are_read(monkeypatch, clock):
    monkeypatch.setattr(catalog_reading, "MOST_ENDPOINT_LISTS", 1)
    both = [MODEL, "openai/gpt-5.4-mini"]
    read = []
    for minutes in (0, 1, 2):
        clock(minutes=minutes)
        refresh(wanted=both)
        read.append(CatalogModel.objects.filter(endpoints_at__isnull=False).latest("endpoints_at").model_id)
    assert read == [*both, MODEL]


@pytest.mark.requirement("AUD-6")
def test_each_public_request_has_its_two_events_without_a_team(sandbox):
    before = len(sandbox.journal())
    refresh(wanted=["anthropic/claude-sonnet-4.6"])
    asked = {line["request_id"] for line in sandbox.journal()[before:]}
    events = Event.objects.filter(team_id=None, call_id__isnull=False)
    assert {str(event.call_id) for event in events.filter(action="call.started")} == asked
    assert {str(event.call_id) for event in events.filter(action="call.finished")} == asked
    assert len(asked) == 4
