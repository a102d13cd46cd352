import unicodedata

import pytest
from django.db import IntegrityError
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import User, canonical_email
from accounts.permissions import Permission, Role, allows, may_grant


def spellings(address: str) -> list[str]:
    """Fifty ways to write one address: case, full-width letters, spaces, decomposed marks."""
    wide = "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in address)
    forms = [address, address.upper(), address.title(), address.swapcase(), wide, wide.upper()]
    forms += [unicodedata.normalize("NFKD", form.capitalize()) for form in forms]
    padded = [
        f"{before}{form}{after}" for form in forms for before in ("", " ", "\u3000") for after in ("", "\t\n", "\u00a0")
    ]
    return list(dict.fromkeys(padded))[:50]


@pytest.mark.requirement("AUTH-4")
def test_fifty_spellings_are_one_address():
    written = spellings("person@example.test")

    assert len(written) == 50
    assert {canonical_email(text) for text in written} == {"person@example.test"}


@given(st.text(max_size=60))
def test_canonical_email_of_a_canonical_email_is_itself(text: str):
    assert canonical_email(canonical_email(text)) == canonical_email(text)


@pytest.mark.django_db
def test_two_spellings_cannot_be_two_accounts():
    User.objects.create_user(email="Person@Example.test")

    with pytest.raises(IntegrityError):
        User.objects.create_user(email="ＰＥＲＳＯＮ@example.test ")


@pytest.mark.requirement("AUTHZ-5")
@pytest.mark.parametrize("role", ["Owner", "OWNER", " owner", "owner ", "ｏｗｎｅｒ", "", "superuser"])
def test_only_the_exact_word_is_a_role(role: str):
    assert not any(allows(role, permission) for permission in Permission)
    assert not any(may_grant(role, other) for other in Role)
    assert not any(may_grant(other, role) for other in Role)


@pytest.mark.requirement("AUTHZ-5")
def test_only_owners_make_owners_and_only_managers_make_members():
    grants = {role.value: sorted(other.value for other in Role if may_grant(role, other)) for role in Role}

    assert grants == {
        "owner": ["admin", "auditor", "builder", "member", "owner"],
        "admin": ["admin", "auditor", "builder", "member"],
        "builder": [],
        "member": [],
        "auditor": [],
    }


def test_an_auditor_sees_everything_and_changes_nothing():
    may = {permission for permission in Permission if allows(Role.AUDITOR, permission)}

    assert {permission for permission in Permission if permission.name.endswith("_VIEW")} <= may
    assert {permission.name for permission in may if not permission.name.endswith("_VIEW")} == {
        "AUDIT_READ_CONTENT",
        "AUDIT_EXPORT",
    }
