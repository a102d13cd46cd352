import json
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.vault.test_box import flips
from vault import roots
from vault.errors import Unreadable, WrongProcess
from vault.posted import open_posted, seal_posted

VALUE = "sk-or-v1-posted-and-never-shown-again"
PLACE = {"team_id": UUID(int=1), "credential_id": UUID(int=2), "version": 1}
VECTOR = json.loads((Path(__file__).parent / "vectors.json").read_text())["posted"]


def test_posted_value_opens_in_a_worker():
    blob = seal_posted(VALUE, **PLACE)

    assert blob.startswith(b"DP\x01" + roots.sealing_key().id.bytes)
    assert VALUE.encode() not in blob
    assert open_posted(blob, **PLACE) == VALUE


def test_sealing_twice_gives_two_different_blobs():
    assert seal_posted(VALUE, **PLACE) != seal_posted(VALUE, **PLACE)


@pytest.mark.requirement("VAULT-10")
def test_web_process_can_seal_and_not_open(web_process):
    blob = seal_posted(VALUE, **PLACE)

    with pytest.raises(WrongProcess):
        open_posted(blob, **PLACE)


@pytest.mark.requirement("VAULT-5")
@pytest.mark.parametrize("moved", [{"team_id": uuid4()}, {"credential_id": uuid4()}, {"version": 2}])
def test_posted_value_opens_nowhere_else(moved):
    blob = seal_posted(VALUE, **PLACE)

    with pytest.raises(Unreadable):
        open_posted(blob, **PLACE | moved)


@pytest.mark.requirement("VAULT-6")
def test_every_flipped_bit_of_a_posted_value_fails():
    blob = seal_posted("sk-or-v1-short", **PLACE)

    for changed in [*flips(blob), *(blob[:length] for length in range(len(blob)))]:
        with pytest.raises(Unreadable):
            open_posted(changed, **PLACE)


@pytest.mark.requirement("VAULT-7")
def test_known_posted_value_opens(settings, tmp_path):
    (tmp_path / "root").write_text(json.dumps({"sealing": {"current": VECTOR["slot"], "previous": None}}))
    settings.VAULT_ROOT_KEY_FILE = str(tmp_path / "root")
    place = {"team_id": UUID(VECTOR["team_id"]), "credential_id": UUID(VECTOR["credential_id"])}

    assert open_posted(bytes.fromhex(VECTOR["blob"]), **place, version=VECTOR["version"]) == VECTOR["data"]
