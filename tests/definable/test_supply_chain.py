"""What we install, how the containers run, and what may start by itself."""

import re
import site
import sysconfig
from datetime import date
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml
from django.conf import settings

from definable import checks

ROOT = settings.BASE_DIR
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
SITE = Path(sysconfig.get_paths()["purelib"])

# What Python runs at every start in an environment made by `make`: nothing but the environment's own hook.
KNOWN_STARTERS = {"_virtualenv.pth", "_virtualenv.py"}


def entries(lock: Path) -> list[str]:
    """Return one string for each package of a lock, with its hashes."""
    return re.split(r"\n(?=\S)", lock.read_text().strip())


# --- locks --------------------------------------------------------------------------------


def test_all_four_locks_are_looked_at():
    assert [lock.name for lock in LOCKS] == ["boot.txt", "dev.txt", "local.txt", "run.txt"]


@pytest.mark.requirement("SUP-1")
@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_is_pinned_and_has_hashes(lock):
    loose = [entry for entry in entries(lock) if not re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+( ;.*)? \\\n", entry)]
    bare = [entry for entry in entries(lock) if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)]

    assert (loose, bare) == ([], [])


@pytest.mark.requirement("SUP-1")
@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_no_lock_names_an_index(lock):
    text = lock.read_text()

    assert "://" not in text
    assert not re.search(r"^--(index|extra-index|find-links)", text, re.MULTILINE)


@pytest.mark.requirement("SUP-1")
def test_a_package_has_one_version_in_all_locks():
    versions: dict[str, set[str]] = {}
    for lock in LOCKS:
        for entry in entries(lock):
            name, _, rest = entry.partition("==")
            versions.setdefault(name, set()).add(rest.split()[0])

    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


@pytest.mark.requirement("SUP-1")
def test_everything_is_installed_by_hash():
    scripts = [ROOT / "requirements" / "install", ROOT / "Dockerfile"]
    commands = [
        line.replace("\\\n", " ")
        for script in scripts
        for line in re.findall(r"(?:[^\n]*\\\n)*[^\n]*pip (?:install|sync)(?:[^\n]*\\\n)*[^\n]*", script.read_text())
    ]

    assert len(commands) == 3
    assert [command for command in commands if "--require-hashes" not in command] == []


@pytest.mark.requirement("SUP-2")
def test_a_lock_is_made_from_releases_older_than_a_week():
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    compiling = [line for line in makefile.splitlines() if "pip compile" in line]

    assert len(compiling) == 1
    assert '--exclude-newer "1 week"' in compiling[0]


@pytest.mark.requirement("SUP-2")
def test_the_poisoned_package_stays_out():
    assert not [entry for lock in LOCKS for entry in entries(lock) if entry.startswith("litellm")]


# --- what starts by itself ----------------------------------------------------------------


def starters(folder: Path) -> set[str]:
    """Return what Python runs or imports at every start, from this folder."""
    found = {path.name for path in folder.glob("*.pth")}
    return found | {path.name for name in ("sitecustomize", "usercustomize") for path in folder.glob(f"{name}*")}


@pytest.mark.requirement("SUP-3")
def test_nothing_unknown_runs_when_python_starts():
    assert starters(SITE) - KNOWN_STARTERS == set()
    assert not site.ENABLE_USER_SITE


@pytest.mark.requirement("SUP-3")
def test_a_planted_starter_is_found(tmp_path):
    (tmp_path / "helper.pth").write_text("import os")
    (tmp_path / "sitecustomize.py").write_text("")

    assert starters(tmp_path) == {"helper.pth", "sitecustomize.py"}


@pytest.mark.requirement("SUP-3")
def test_only_locked_packages_are_installed():
    locked = {entry.split("==")[0].split("[")[0] for entry in entries(ROOT / "requirements" / "dev.txt")}
    installed = {re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower() for found in distributions(path=[str(SITE)])}

    assert installed - locked - {"pip", "setuptools"} == set()


# --- containers ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


OURS = {"migrate", "web", "worker", "control", "beat"}


def test_the_compose_file_starts_every_process(compose):
    assert set(compose["services"]) == OURS | {"postgres", "valkey"}


@pytest.mark.requirement("SUP-6")
def test_every_container_is_an_ordinary_user_without_rights(compose):
    for name, service in compose["services"].items():
        assert service["user"].split(":")[0].isdigit(), name
        assert service["user"].split(":")[0] != "0", name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert any(mount.startswith("/tmp:") for mount in service["tmpfs"]), name
        assert "privileged" not in service, name


@pytest.mark.requirement("SUP-6")
def test_secrets_are_files(compose):
    variables = [
        f"{name}={value}"
        for service in compose["services"].values()
        for name, value in service.get("environment", {}).items()
        if re.search(r"SECRET|PASSWORD|KEY|_URL", name) and name != "BASE_URL"
    ]

    assert len(variables) > 10
    assert [text for text in variables if not re.match(r"\w+_FILE=/run/secrets/", text)] == []
    assert all(secret["file"].startswith("./secrets/") for secret in compose["secrets"].values())
    assert "secrets" in (ROOT / ".dockerignore").read_text().split()
    assert "secrets/" in (ROOT / ".gitignore").read_text().split()


@pytest.mark.requirement("SUP-6")
def test_every_lasting_container_has_a_health_check(compose):
    assert {name for name, service in compose["services"].items() if "healthcheck" not in service} == {"migrate"}


def test_only_the_worker_has_the_root_key(compose):
    holders = {name for name, service in compose["services"].items() if "root.json" in service.get("secrets", [])}

    assert holders == {"worker"}


@pytest.mark.requirement("SSRF-9")
def test_only_the_worker_has_a_way_out(compose):
    networks = compose["networks"]
    closed = {
        name
        for name, network in networks.items()
        if network.get("internal")
        or network.get("driver_opts", {}).get("com.docker.network.bridge.enable_ip_masquerade") == "false"
    }

    assert networks["inside"]["internal"] is True
    open_to = {name: set(service["networks"]) - closed for name, service in compose["services"].items()}
    assert {name for name, ways in open_to.items() if ways} == {"worker"}


def test_only_web_is_published_and_only_to_this_machine(compose):
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}

    assert set(published) == {"web"}
    assert all(port.startswith("127.0.0.1:") for port in published["web"])


def test_the_image_runs_as_an_ordinary_user():
    users = re.findall(r"^USER (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    assert users == ["10001:10001"]


# --- Django -------------------------------------------------------------------------------


@pytest.mark.requirement("SUP-7")
def test_the_running_django_has_every_fix_we_know_of():
    assert checks.check_django() == []


@pytest.mark.requirement("SUP-7")
def test_a_django_behind_the_lock_is_warned_about():
    (warning,) = checks._behind((5, 2, 3), (5, 2, 19))

    assert warning.msg == "Django 5.2.3 runs, and 5.2.19 is the one with the fixes."


@pytest.mark.requirement("SUP-7")
@pytest.mark.parametrize(
    ("series", "today"), [((5, 2), date(2028, 5, 1)), ((5, 1), date(2026, 1, 1)), ((6, 0), date(2026, 1, 1))]
)
def test_a_django_without_fixes_is_warned_about(series, today):
    assert [warning.id for warning in checks._abandoned(series, today)] == ["definable.W002"]


@pytest.mark.requirement("SUP-7")
def test_the_operator_is_told_which_django_runs():
    assert re.fullmatch(r"Django 5\.2\.\d+, security fixes until April 2028", checks.django_state())
