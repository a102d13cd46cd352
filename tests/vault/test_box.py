import ast
import json
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from hypothesis import given
from hypothesis import strategies as st

from vault.box import AES_256_GCM_SIV, FORMAT, Key, bind, check_value, checked_key, key_id, new_key
from vault.content import _facts
from vault.errors import Unreadable
from vault.versions import Place, SealedVersion, open_version

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
ID = UUID(int=7)
FACTS = bind(b"team", b"field", b"row")
SAID = b"what was said"


def make_key() -> Key:
    return Key(ID, new_key())


def flips(blob: bytes) -> list[bytes]:
    """Return every version of these bytes with one bit changed."""
    return [
        blob[:place] + bytes([blob[place] ^ 1 << bit]) + blob[place + 1 :]
        for place in range(len(blob))
        for bit in range(8)
    ]


def test_seal_writes_the_header_and_open_returns_the_data():
    key = make_key()

    blob = key.seal(SAID, FACTS)

    assert blob[:20] == b"DV\x01\x01" + ID.bytes
    assert len(blob) == 32 + len(SAID) + 16
    assert SAID not in blob
    assert key_id(blob) == ID
    assert key.open(blob, FACTS) == SAID


@pytest.mark.requirement("VAULT-4")
def test_seal_never_repeats_a_nonce():
    key = make_key()

    nonces = {key.seal(b"", FACTS)[20:32] for _ in range(10_000)}

    assert len(nonces) == 10_000


@pytest.mark.requirement("VAULT-6")
def test_every_flipped_bit_of_a_blob_fails_with_the_one_error():
    key = make_key()
    blob = key.seal(SAID, FACTS)

    for changed in flips(blob):
        with pytest.raises(Unreadable) as refusal:
            key.open(changed, FACTS)
        assert str(refusal.value) == "This cannot be opened with the keys we have."


@pytest.mark.requirement("VAULT-6")
def test_every_flipped_bit_of_a_wrapped_key_or_its_check_value_fails():
    parent, raw = make_key(), new_key()
    wrapped, check = parent.seal(raw, FACTS), check_value(raw)

    assert checked_key(ID, parent.open(wrapped, FACTS), check).open(Key(ID, raw).seal(SAID, FACTS), FACTS) == SAID
    for changed in flips(wrapped):
        with pytest.raises(Unreadable):
            parent.open(changed, FACTS)
    for changed in flips(check):
        with pytest.raises(Unreadable):
            checked_key(ID, raw, changed)


@pytest.mark.requirement("VAULT-6")
@pytest.mark.parametrize("length", [0, 1, 3, 4, 19, 20, 31, 32, 47, 48, 60])
def test_cut_blobs_fail_with_the_one_error(length):
    key = make_key()

    with pytest.raises(Unreadable):
        key.open(key.seal(SAID, FACTS)[:length], FACTS)


@pytest.mark.parametrize("blob", [b"", b"DV", b"DV\x01\x01", b"DX" + bytes(60), b"DV\x02" + bytes(60)])
def test_key_id_of_foreign_bytes_is_unreadable(blob):
    with pytest.raises(Unreadable):
        key_id(blob)


@pytest.mark.requirement("VAULT-6")
@given(st.binary(max_size=200))
def test_garbage_never_opens(blob):
    with pytest.raises(Unreadable):
        Key(ID, bytes(range(32))).open(blob, FACTS)


def test_key_of_another_length_is_refused():
    with pytest.raises(Unreadable):
        Key(ID, bytes(16))


def test_key_shows_its_id_only():
    raw = new_key()

    shown = repr(Key(ID, raw))

    assert shown == f"Key({ID})"


parts = st.lists(st.binary(max_size=6), max_size=6)


@given(parts, parts)
def test_bind_gives_two_lists_two_results(one, other):
    assert (bind(*one) == bind(*other)) == (one == other)


@pytest.mark.requirement("VAULT-8")
def test_both_algorithms_are_read_and_neither_passes_for_the_other():
    raw = new_key()
    key, nonce = Key(ID, raw), bytes(12)
    header = FORMAT + AES_256_GCM_SIV + ID.bytes
    bound = FACTS + bind(AES_256_GCM_SIV, ID.bytes)
    blob = header + nonce + AESGCMSIV(raw).encrypt(nonce, SAID, bound)

    assert key.open(blob, FACTS) == SAID
    for changed in [*flips(blob), blob[:3] + b"\x01" + blob[4:]]:
        with pytest.raises(Unreadable):
            key.open(changed, FACTS)


@pytest.mark.requirement("VAULT-8")
def test_cryptography_is_imported_by_the_vault_alone():
    importers = {
        path.relative_to(ROOT).parts[0]
        for folder in ("accounts", "audit", "definable", "integrations", "personas", "vault", "api")
        for path in (ROOT / folder).rglob("*.py")
        if "cryptography" in imported_packages(path)
    }

    assert importers == {"vault"}


def imported_packages(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    from_ = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in plain | from_}


# --- known answers: what was written once must be read for ever --------------------------------


@pytest.mark.requirement("VAULT-7")
@pytest.mark.parametrize("vector", VECTORS["sealed"], ids=lambda vector: vector["name"])
def test_known_blobs_open(vector):
    key = Key(UUID(vector["key_id"]), bytes.fromhex(vector["key"]))
    facts = bind(*(bytes.fromhex(part) for part in vector["facts"]))

    assert key.open(bytes.fromhex(vector["blob"]), facts).hex() == vector["data"]


@pytest.mark.requirement("VAULT-7")
def test_known_content_opens():
    vector = VECTORS["content"]
    key = Key(UUID(vector["key_id"]), bytes.fromhex(vector["key"]))

    facts = _facts(UUID(vector["team_id"]), UUID(vector["content_id"]), vector["kind"])

    assert key.open(bytes.fromhex(vector["blob"]), facts).decode() == vector["data"]


@pytest.mark.requirement("VAULT-7")
def test_known_credential_version_opens():
    vector = VECTORS["credential_version"]
    place = Place(UUID(vector["team_id"]), UUID(vector["credential_id"]), UUID(vector["version_id"]), vector["number"])
    sealed = SealedVersion(
        UUID(vector["data_key_id"]),
        *(bytes.fromhex(vector[name]) for name in ("data_key_wrapped", "data_key_check", "ciphertext")),
    )
    team_key = Key(UUID(vector["team_key_id"]), bytes.fromhex(vector["team_key"]))

    assert open_version(sealed, place=place, team_key=team_key) == vector["data"]
