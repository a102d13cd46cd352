import pytest
from django.contrib.auth.hashers import get_hasher, identify_hasher, make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import User
from tests.factories import make_team, make_user, owner_of

GOOD = "three blue lamps hum"


def codes(password: str, user: User | None = None) -> set[str]:
    try:
        validate_password(password, user)
    except ValidationError as refusal:
        return {error.code for error in refusal.error_list}
    return set()


@pytest.mark.requirement("AUTH-1")
@pytest.mark.parametrize(
    ("length", "refused"), [(11, {"password_too_short"}), (12, set()), (128, set()), (129, {"password_too_long"})]
)
def test_length_bounds(length: int, refused: set):
    assert codes(("kü7 ✓zQ)w~" * 13)[:length]) == refused


@pytest.mark.requirement("AUTH-1")
@pytest.mark.django_db
@pytest.mark.parametrize(
    "password",
    [
        " leading and trailing ",
        "\ttab and\nnewline here",
        "пароль из слов и ещё",
        "🦊🐻🐼🐨🐯🦁🐮🐷🐸🐵🐔🐧",
        "x" * 100 + "q" * 28,
        "<b>'\";--${{7*7}}",
    ],
)
def test_a_password_is_taken_as_typed(client, password: str):
    make_team()
    fields = {"name": "Demo", "email": "new@example.test", "password1": password, "team_name": "Blue", "zone": ""}

    response = client.post(reverse("account_signup"), fields)

    assert response.status_code == 302
    user = User.objects.get(email="new@example.test")
    assert user.check_password(password)
    assert not user.check_password(password.strip() if password != password.strip() else password[:-1])


@pytest.mark.requirement("AUTH-1")
@pytest.mark.django_db
def test_the_form_lets_a_manager_paste_and_says_what_is_better(client):
    make_team()

    page = client.get(reverse("account_signup")).content.decode()

    assert 'autocomplete="new-password"' in page
    assert "15 or more are better" in page
    assert "onpaste" not in page
    assert "maxlength" not in page.partition('type="password"')[2].partition(">")[0]


@pytest.mark.requirement("AUTH-2")
def test_the_hash_is_scrypt_of_the_agreed_cost():
    algorithm, cost, _, block, parallel, _ = make_password(GOOD).split("$")

    assert (algorithm, block) == ("scrypt", "8")
    assert int(cost) >= 2**14
    assert int(parallel) >= 5


@pytest.mark.requirement("AUTH-2")
@pytest.mark.django_db
def test_an_old_hash_is_upgraded_at_the_next_sign_in(client):
    user = make_user(email="old@example.test")
    User.objects.filter(pk=user.pk).update(password=make_password(GOOD, hasher="pbkdf2_sha256"))

    client.post(reverse("account_login"), {"login": "old@example.test", "password": GOOD})

    user.refresh_from_db()
    assert identify_hasher(user.password).algorithm == get_hasher().algorithm == "scrypt"
    assert user.check_password(GOOD)


@pytest.mark.requirement("AUTH-3")
@pytest.mark.parametrize("password", ["q1w2e3r4t5y6", "QWERTY123456", "qazwsxedcrfv"])
def test_common_passwords_are_refused(password: str):
    assert "password_too_common" in codes(password)


@pytest.mark.requirement("AUTH-3")
@pytest.mark.parametrize(
    "password", ["Definable2026!", "DEF-INABLE 1234", "openrouter!!", "ｄｅｆｉｎａｂｌｅ９９９９"]
)
def test_the_products_name_is_no_password(password: str):
    assert "password_is_a_name" in codes(password)


@pytest.mark.requirement("AUTH-3")
@pytest.mark.django_db
@pytest.mark.parametrize("password", ["Nightshift-99", "ellsworth-2026", "ellsworth@example.test"])
def test_a_name_of_the_person_or_a_team_is_no_password(password: str):
    team = make_team(name="Night Shift", owner=make_user(email="ellsworth@example.test", name="Demo owner"))

    assert codes(password, owner_of(team)) & {"password_is_a_name", "password_too_similar"}


@pytest.mark.requirement("AUTH-3")
@pytest.mark.django_db
def test_the_team_named_in_the_same_form_counts(client):
    make_team()
    fields = {"name": "Demo", "email": "new@example.test", "password1": "Nightshift-99", "team_name": "Night Shift"}

    response = client.post(reverse("account_signup"), fields)

    assert "This password is mostly a name" in response.content.decode()
    assert not User.objects.filter(email="new@example.test").exists()


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=12, max_size=128))
def test_checking_never_breaks_on_what_people_type(password: str):
    user = User(email="someone@example.test", name="Demo owner")

    assert codes(password, user) <= {
        "password_is_a_name",
        "password_too_common",
        "password_too_similar",
        "password_too_short",
    }
