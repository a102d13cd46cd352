"""The stand-in's guardrails: which key holds which, and that their limits hold for the keys that do."""

from collections.abc import Iterator
from typing import Any

import pytest
from openrouter import errors

from tests.integrations.management import A_DAY, MODEL, Manager, hash_of, message_of
from tests.sandbox_fixture import Sandbox, start_sandbox

NOT_THERE = (404, "Resource not found")
CLAUDE = "anthropic/claude-sonnet-4.6"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    running = start_sandbox()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def calm(box) -> None:
    box.rules()
    box.real_time()


@pytest.fixture
def manager(box) -> Manager:
    return Manager(box)


def make(manager: Manager, **fields: Any) -> str:
    """A guardrail; returns its id."""
    answer = manager.send("POST", "/guardrails", json={"name": "Careful"} | fields)
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]["id"]


def assign(manager: Manager, guardrail: str, *keys: str) -> int:
    body = {"key_hashes": [hash_of(key) for key in keys]}
    return manager.send("POST", f"/guardrails/{guardrail}/assignments/keys", json=body).json()["assigned_count"]


def holders(manager: Manager, guardrail: str) -> list[str]:
    """The hashes of the keys that hold it."""
    rows = manager.send("GET", f"/guardrails/{guardrail}/assignments/keys").json()
    assert rows["total_count"] == len(rows["data"])
    return [row["key_hash"] for row in rows["data"]]


def guarded(manager: Manager, **fields: Any) -> str:
    """A key that holds a guardrail."""
    key, _ = manager.create()
    assert assign(manager, make(manager, **fields), key) == 1
    return key


# Who may, and what there is

EVERY = [
    ("GET", "/guardrails"),
    ("POST", "/guardrails"),
    ("GET", "/guardrails/x"),
    ("DELETE", "/guardrails/x"),
    ("GET", "/guardrails/assignments/keys"),
    ("GET", "/guardrails/x/assignments/keys"),
    ("POST", "/guardrails/x/assignments/keys"),
    ("POST", "/guardrails/x/assignments/keys/remove"),
]


@pytest.mark.parametrize(("method", "path"), EVERY)
def test_only_management_keys_see_guardrails_and_only_their_own(box, manager, method, path):
    theirs = Manager(box)
    path = path.replace("x", make(theirs))
    ordinary, _ = manager.create()

    assert manager.send(method, path, key=ordinary, json={"name": "x"}).status_code == 403
    answer = manager.send(method, path, json={"key_hashes": ["x"]})
    if "-" in path:
        assert message_of(answer) == NOT_THERE
    assert theirs.send("GET", "/guardrails").json()["total_count"] == 1


def test_guardrails_are_listed_page_by_page(manager):
    ids = [make(manager, name=str(number)) for number in range(3)]

    def page(**query: Any) -> list[str]:
        answer = manager.send("GET", "/guardrails", params=query).json()
        assert answer["total_count"] == 3
        return [row["id"] for row in answer["data"]]

    assert page() == ids
    assert (page(limit=2), page(offset=2, limit=2), page(offset=3)) == (ids[:2], ids[2:], [])


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"offset": -1}, {"limit": "x"}])
def test_a_page_that_cannot_be_is_refused(manager, query):
    assert manager.send("GET", "/guardrails", params=query).status_code == 400
    assert manager.send("GET", "/guardrails/assignments/keys", params=query).status_code == 400


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "x" * 201},
        {"description": "x" * 1001},
        {"limit_usd": 5},
        {"reset_interval": "daily"},
        {"limit_usd": -5, "reset_interval": "daily"},
        {"allowed_providers": []},
        {"allowed_models": "openai/gpt-4o-mini"},
        {"ignored_models": [7]},
        {"enforce_zdr_openai": "yes"},
    ],
    ids=str,
)
def test_a_guardrail_that_cannot_be_is_refused(manager, fields):
    assert manager.send("POST", "/guardrails", json={"name": "Careful"} | fields).status_code == 400
    assert manager.send("GET", "/guardrails").json() == {"data": [], "total_count": 0}


# Which key holds which


def test_a_key_holds_one_guardrail_at_most(manager):
    key, _ = manager.create()
    first, second = make(manager), make(manager)

    assert (assign(manager, first, key), assign(manager, second, key)) == (1, 1)

    assert (holders(manager, first), holders(manager, second)) == ([], [hash_of(key)])
    (row,) = manager.send("GET", "/guardrails/assignments/keys").json()["data"]
    assert (row["guardrail_id"], row["key_name"], row["assigned_by"][:5]) == (second, "Worker", "user_")


def test_hashes_that_are_nobodys_are_not_counted(box, manager):
    key, _ = manager.create()
    theirs, _ = Manager(box).create()
    guardrail = make(manager)

    assert assign(manager, guardrail, key, key, theirs, manager.key, "sk-or-v1-none") == 1
    assert holders(manager, guardrail) == [hash_of(key)]


@pytest.mark.parametrize("body", [{}, {"key_hashes": []}, {"key_hashes": "x"}, {"key_hashes": [1]}])
@pytest.mark.parametrize("path", ["keys", "keys/remove"])
def test_an_assignment_without_hashes_is_refused(manager, path, body):
    assert manager.send("POST", f"/guardrails/{make(manager)}/assignments/{path}", json=body).status_code == 400


def test_a_guardrail_is_taken_only_from_keys_that_hold_it(manager):
    holder, other = manager.create()[0], manager.create()[0]
    first, second = make(manager), make(manager)
    assign(manager, first, holder)
    assign(manager, second, other)

    body = {"key_hashes": [hash_of(holder), hash_of(other)]}
    taken = [manager.send("POST", f"/guardrails/{first}/assignments/keys/remove", json=body).json() for _ in range(2)]

    assert taken == [{"unassigned_count": 1}, {"unassigned_count": 0}]
    assert (holders(manager, first), holders(manager, second)) == ([], [hash_of(other)])


def test_a_new_key_holds_none_and_an_assignment_ends_with_its_key_or_guardrail(manager):
    first, second = manager.create()[0], manager.create()[0]
    guardrail = make(manager)
    assign(manager, guardrail, first, second)

    manager.send("DELETE", f"/keys/{hash_of(first)}")
    assert holders(manager, guardrail) == [hash_of(second)]
    assert manager.send("DELETE", f"/guardrails/{guardrail}").json() == {"deleted": True}

    assert message_of(manager.send("GET", f"/guardrails/{guardrail}")) == NOT_THERE
    assert manager.send("GET", "/guardrails/assignments/keys").json() == {"data": [], "total_count": 0}
    assert manager.ask(second).status_code == 200


def test_guardrails_and_their_keys_survive_a_restart(tmp_path):
    first = start_sandbox(keys=tmp_path / "keys.json")
    manager = Manager(first)
    limits = {"limit_usd": 0, "reset_interval": "daily", "allowed_providers": ["openai"], "enforce_zdr": True}
    key = guarded(manager, **limits)
    before = manager.send("GET", "/guardrails").json()
    first.process.kill()
    first.stop()

    manager.box = second = start_sandbox(keys=tmp_path / "keys.json")
    after, refused = manager.send("GET", "/guardrails").json(), manager.ask(key).status_code
    second.stop()

    assert (after, refused) == (before, 403)


# What holds for the keys that hold one


def test_a_budget_is_each_keys_own_and_starts_again_with_its_interval(box, manager):
    first, second = manager.create()[0], manager.create()[0]
    guardrail = make(manager, limit_usd=0.0000001, reset_interval="daily")
    assign(manager, guardrail, first, second)

    assert [manager.ask(key).status_code for key in (first, first, second)] == [200, 403, 200]
    assert message_of(manager.ask(first))[1] == "Guardrail budget exceeded (daily limit of $0.0000001)"
    box.advance(A_DAY)
    assert manager.ask(first).status_code == 200


def test_a_key_shows_the_budget_of_its_guardrail_beside_its_own(manager):
    key, _ = manager.create(limit=1)
    guardrail = make(manager, limit_usd=0.5, reset_interval="monthly")
    assign(manager, guardrail, key)

    data = manager.send("GET", "/key", key=key).json()["data"]

    shown = [(budget["scope"], budget["limit_usd"], budget["guardrail_id"]) for budget in data["budgets"]]
    assert shown == [("api_key", 0.5, guardrail), ("key_limit", 1, None)]
    assert data["effective_budget"] == data["budgets"][0]


@pytest.mark.parametrize(
    ("fields", "model", "status"),
    [
        ({"allowed_models": [MODEL]}, MODEL, 200),
        ({"allowed_models": [MODEL]}, CLAUDE, 404),
        ({"ignored_models": [CLAUDE]}, CLAUDE, 404),
        ({"ignored_models": [CLAUDE]}, MODEL, 200),
        ({"allowed_providers": ["OpenAI"]}, MODEL, 200),
        ({"allowed_providers": ["openai"]}, CLAUDE, 404),
        ({"ignored_providers": ["openai", "azure"]}, MODEL, 404),
        ({"allowed_models": [MODEL]}, "openrouter/auto", 200),
    ],
    ids=str,
)
def test_names_of_models_and_providers_are_kept_to(manager, fields, model, status):
    key = guarded(manager, **fields)

    answer = manager.ask(key, model=model)

    assert answer.status_code == status
    if model == "openrouter/auto":
        assert answer.json()["model"] == MODEL


def test_zero_retention_holds_for_the_group_it_was_set_for(manager):
    openai, anthropic = guarded(manager, enforce_zdr_openai=True), guarded(manager, enforce_zdr_anthropic=True)
    kept = {row["provider_name"] for row in endpoints(manager, CLAUDE)} - {
        row["provider_name"] for row in zdr_endpoints(manager, CLAUDE)
    }

    only = {"provider": {"only": sorted(kept)}}
    assert kept
    assert manager.ask(openai, model=CLAUDE, **only).status_code == 200
    assert manager.ask(anthropic, model=CLAUDE, **only).status_code == 404
    assert manager.ask(anthropic, model=CLAUDE).status_code == 200


def endpoints(manager: Manager, model: str) -> list[dict[str, Any]]:
    return manager.send("GET", f"/models/{model}/endpoints").json()["data"]["endpoints"]


def zdr_endpoints(manager: Manager, model: str) -> list[dict[str, Any]]:
    return [row for row in manager.send("GET", "/endpoints/zdr").json()["data"] if row["model_id"] == model]


def test_a_guardrail_that_leaves_nobody_says_so_in_the_services_words(manager):
    key = guarded(manager, allowed_providers=["groq"])

    error = manager.ask(key).json()["error"]

    assert error["message"].startswith("No endpoints available matching your guardrail restrictions and data policy.")
    assert (error["availability"]["code"], error["availability"]["excluded_by"]) == (
        "privacy_restricted",
        ["allowed_providers"],
    )


def test_the_next_model_is_asked_where_a_guardrail_bars_the_first(manager):
    key = guarded(manager, allowed_models=[MODEL])

    assert manager.ask(key, models=[CLAUDE, MODEL], model=CLAUDE).json()["model"] == MODEL


# As the provider's SDK reads it


def test_the_sdk_makes_assigns_and_takes_a_guardrail(manager):
    key, shown = manager.create()
    with manager.sdk() as sdk:
        made = sdk.guardrails.create(name="By the SDK", allowed_providers=["openai"], enforce_zdr_openai=True).data
        assigned = sdk.guardrails.bulk_assign_keys(id=made.id, key_hashes=[shown["hash"]])
        (listed,) = sdk.guardrails.list().result.data
        (row,) = sdk.guardrails.list_guardrail_key_assignments(id=made.id).result.data
        (same,) = sdk.guardrails.list_key_assignments().result.data
        taken = sdk.guardrails.bulk_unassign_keys(id=made.id, key_hashes=[shown["hash"]])
        sdk.guardrails.delete(id=made.id)
        with pytest.raises(errors.NotFoundResponseError):
            sdk.guardrails.get(id=made.id)

    assert (listed.id, listed.allowed_providers, listed.enforce_zdr_openai) == (made.id, ["openai"], True)
    assert (assigned.assigned_count, taken.unassigned_count) == (1, 1)
    assert row == same
    assert (row.key_hash, row.guardrail_id) == (hash_of(key), made.id)
