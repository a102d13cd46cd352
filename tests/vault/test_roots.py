import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from celery.signals import worker_init
from django.core.management import CommandError, call_command

from definable.celery import refuse_unfit_keys
from vault import roots
from vault.box import bind, new_key
from vault.checks import check_keys
from vault.errors import Unreadable, WrongProcess
from vault.roots import BadKeyFile, make_key_files

VECTOR_KEY = bytes.fromhex(json.loads((Path(__file__).parent / "vectors.json").read_text())["content"]["key"])
NAMES = ("ROOT", "CONTENT", "SEALING")


@pytest.fixture
def files(settings, tmp_path) -> dict[str, Path]:
    """A fresh installation's key files, made and in use."""
    paths = {name: tmp_path / "keys" / f"{name.lower()}.json" for name in NAMES}
    for name, path in paths.items():
        setattr(settings, f"VAULT_{name}_KEY_FILE", str(path))
    make_key_files(root=paths["ROOT"], content=paths["CONTENT"], sealing=paths["SEALING"])
    return paths


def put(path: Path, **changes: object) -> None:
    """Change a key file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def slot(raw: bytes) -> dict:
    return {"id": str(uuid4()), "key": base64.b64encode(raw).decode()}


def complaints() -> list[str]:
    return [message.msg for message in check_keys()]


def ids() -> list[str]:
    return [message.id for message in check_keys()]


# --- making ---------------------------------------------------------------------------------


def test_vault_init_makes_private_files_that_fit_together(files):
    assert [path.stat().st_mode & 0o777 for path in files.values()] == [0o600] * 3
    assert files["ROOT"].parent.stat().st_mode & 0o777 == 0o700
    assert sorted(files["ROOT"].parent.iterdir()) == sorted(files.values())
    assert check_keys() == []


def test_vault_init_prints_paths_and_no_key(files, capsys):
    files["CONTENT"].unlink()

    call_command("vault_init")

    said = capsys.readouterr().out
    assert f"Kept {files['ROOT']}" in said
    assert f"Made {files['CONTENT']}" in said
    for path in files.values():
        fields = json.loads(path.read_text())
        slots = [fields, fields.get("current"), (fields.get("sealing") or {}).get("current")]
        for key in [slot["key"] for slot in slots if slot and "key" in slot]:
            assert key not in said


def test_vault_init_never_overwrites(files):
    before = {name: path.read_bytes() for name, path in files.items()}

    call_command("vault_init", verbosity=0)

    assert {name: path.read_bytes() for name, path in files.items()} == before


def test_vault_init_makes_a_lost_sealing_file_again_from_the_root(files):
    before = files["SEALING"].read_bytes()
    files["SEALING"].unlink()

    call_command("vault_init")

    assert files["SEALING"].read_bytes() == before


def test_vault_init_does_not_replace_a_lost_root(files):
    files["ROOT"].unlink()

    with pytest.raises(CommandError, match="Restore the root key"):
        call_command("vault_init")

    assert not files["ROOT"].exists()


def test_vault_init_runs_where_a_worker_runs(files, web_process):
    with pytest.raises(CommandError, match="Set VAULT_ROOT_KEY_FILE"):
        call_command("vault_init")


# --- refusing to start --------------------------------------------------------------------------


@pytest.mark.requirement("VAULT-11")
@pytest.mark.parametrize("name", NAMES)
def test_check_refuses_a_missing_file(files, name):
    files[name].unlink()

    assert [f"VAULT_{name}_KEY_FILE" in said and "vault_init" in said for said in complaints()] == [True]


@pytest.mark.requirement("VAULT-11")
@pytest.mark.parametrize("name", ["ROOT", "CONTENT"])
@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (bytes(range(31)), "has 31 bytes and needs 32"),
        (b"", "has 0 bytes and needs 32"),
        (bytes(32), "is an example or was typed by hand"),
        (bytes(range(32)), "is an example or was typed by hand"),
        (b"change-me-change-me-change-me-32", "is an example or was typed by hand"),
        (VECTOR_KEY, "is an example or was typed by hand"),
    ],
)
@pytest.mark.parametrize("place", ["current", "previous"])
def test_check_refuses_short_and_example_keys(files, name, raw, why, place):
    put(files[name], **{place: slot(raw)})

    assert [why in said for said in complaints()] == [True]
    assert base64.b64encode(raw).decode() not in complaints()[0] or not raw


@pytest.mark.requirement("VAULT-11")
@pytest.mark.parametrize("name", ["ROOT", "CONTENT"])
@pytest.mark.parametrize("raw", [bytes(range(90, 122)), b"a-django-key-of-thirty-two-bytes"])
@pytest.mark.parametrize("write", [bytes.decode, lambda raw: base64.b64encode(raw).decode()])
def test_check_refuses_secret_key_as_a_key(files, settings, name, raw, write):
    settings.SECRET_KEY = write(raw)
    put(files[name], current=slot(raw))

    assert ["equals SECRET_KEY" in said for said in complaints()] == [True]


@pytest.mark.requirement("VAULT-11")
def test_check_refuses_a_key_in_the_environment_in_production_unless_accepted(files, settings):
    settings.VAULT_ROOT_KEY = files["ROOT"].read_text()
    settings.VAULT_ROOT_KEY_FILE = ""
    assert check_keys() == []

    settings.PRODUCTION = True
    assert ["VAULT_KEYS_IN_ENVIRONMENT=1" in said for said in complaints()] == [True]
    with pytest.raises(BadKeyFile):
        roots.credential_root()

    settings.VAULT_KEYS_IN_ENVIRONMENT = True
    assert check_keys() == []


@pytest.mark.parametrize(
    "text", ["", "not json", "[]", "{}", '{"current": {"id": "x", "key": "y"}}', '{"current": {"id": 1}}']
)
@pytest.mark.parametrize("name", NAMES)
def test_check_refuses_files_that_vault_init_did_not_make(files, name, text):
    files[name].write_text(text)

    assert set(ids()) == {"vault.E001"}


def test_check_refuses_a_root_file_without_its_sealing_key(files):
    put(files["ROOT"], sealing=None)

    assert ["no sealing key" in said for said in complaints()] == [True]


def test_check_refuses_one_key_for_both_levels_of_trust(files):
    put(files["CONTENT"], previous=json.loads(files["ROOT"].read_text())["current"] | {"id": str(uuid4())})

    assert ids() == ["vault.E002"]


def test_check_refuses_a_sealing_file_of_another_installation(files, tmp_path):
    other = tmp_path / "other"
    make_key_files(root=other / "root", content=other / "content", sealing=other / "sealing")
    files["SEALING"].write_bytes((other / "sealing").read_bytes())

    assert ids() == ["vault.E003"]


def test_check_warns_of_files_that_others_can_read(files):
    files["ROOT"].chmod(0o640)

    assert ids() == ["vault.W001"]


def test_check_passes_in_a_web_process_without_the_root(files, web_process):
    files["ROOT"].unlink()

    assert check_keys() == []


@pytest.mark.requirement("VAULT-11")
def test_worker_ends_before_its_first_message_when_a_key_is_unfit(files):
    refuse_unfit_keys()
    put(files["ROOT"], current=slot(bytes(32)))

    with pytest.raises(SystemExit, match="Not started: The root key is an example"):
        refuse_unfit_keys()
    assert refuse_unfit_keys in worker_init._live_receivers(None)


@pytest.mark.requirement("VAULT-11")
def test_web_process_ends_in_one_line_when_a_key_is_missing(files):
    keys = {f"VAULT_{name}_KEY_FILE": str(path) for name, path in files.items()}
    files["CONTENT"].unlink()

    web = subprocess.run(
        [sys.executable, "-c", "import definable.asgi"],
        env={**os.environ, **keys, "VAULT_ROOT_KEY_FILE": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert web.returncode == 1
    assert web.stderr.splitlines()[-1].startswith("Not started: No key can be read from VAULT_CONTENT_KEY_FILE")


# --- two slots ----------------------------------------------------------------------------------


def test_previous_root_still_opens_and_the_current_one_wraps(files):
    raw, context = new_key(), bind(b"context")
    before = roots.credential_root()
    wrapped = before.wrap(raw, context)
    put(files["ROOT"], current=slot(new_key()), previous=json.loads(files["ROOT"].read_text())["current"])

    now = roots.credential_root()

    assert now.current_id() != before.current_id()
    assert now.unwrap(before.current_id(), wrapped, context) == raw
    with pytest.raises(Unreadable):
        now.unwrap(now.current_id(), wrapped, context)
    with pytest.raises(Unreadable):
        now.unwrap(uuid4(), wrapped, context)
    with pytest.raises(Unreadable):
        now.unwrap(before.current_id(), wrapped, bind(b"another context"))


def test_web_process_has_no_root(files, web_process):
    for load in (roots.credential_root, roots.sealing_private_keys):
        with pytest.raises(WrongProcess):
            load()
