"""The history of a persona, as pages."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from personas.actions import save_persona
from tests.factories import make_team, owner_of
from tests.personas.builders import make_persona

pytestmark = pytest.mark.django_db

HOSTILE = '</div><script>alert("1")</script><img src=x onerror=alert(1)> {{ 7 }} \u202egnp.exe'


@pytest.fixture
def team():
    return make_team()


@pytest.fixture
def persona(team):
    return make_persona(team, instructions="Be brief and kind.")


@pytest.fixture
def page(client, team):
    """Open a team's page as its owner and return its text."""
    client.force_login(owner_of(team))

    def get(name, *args, status=200, **query):
        response = client.get(reverse(name, args=[team.slug, *args]), query)
        assert response.status_code == status
        return response.content.decode()

    return get


def save(persona, **what):
    given = {"instructions": "Be brief and kind.", "chain": ["openai/gpt-5-mini"], "max_tokens": 256}
    return save_persona(persona=persona, name=persona.name, purpose="", by=owner_of(persona.team), **given | what)


def test_the_persona_leads_to_its_versions(page, team, persona):
    assert reverse("persona_versions", args=[team.slug, persona.slug]) in page("persona_detail", persona.slug)


def test_the_history_says_who_changed_what(page, persona):
    save(persona, instructions="Be exact.", temperature="0.7")
    text = page("persona_versions", persona.slug)
    assert "Instructions changed, 9 characters, were 18; Temperature 0.70, was the model&#x27;s own." in text
    assert "The first version." in text
    assert str(owner_of(persona.team)) in text
    assert text.count("In use") == 1


def test_the_history_goes_on_past_one_page(page, persona):
    for length in range(1, 52):
        save(persona, max_tokens=length)
    first = page("persona_versions", persona.slug)
    assert "?before=3" in first
    # The last line of a page is told from the version on the next one.
    assert "Longest answer 2 tokens, was 1 tokens." in first
    assert "The first version." in page("persona_versions", persona.slug, before="3")
    assert "No older versions" in page("persona_versions", persona.slug, before="1")


def test_fifty_long_texts_stay_in_the_database(client, page, persona):
    save(persona, instructions="x" * 100_000)
    with CaptureQueriesContext(connection) as asked:
        text = page("persona_versions", persona.slug)
    assert len(asked) <= 12
    assert "xxxx" not in text
    read = [query["sql"] for query in asked if "MD5" in query["sql"]]
    assert len(read) == 1
    assert '"personas_personaversion"."instructions",' not in read[0]


def test_an_old_version_is_shown_as_it_was_beside_the_one_in_use(page, persona):
    save(persona, instructions="Be exact and kind.", temperature="0.7")
    text = page("persona_version", persona.slug, 1)
    assert "Be brief and kind.</div>" in text
    assert '<del><span class="sr">removed: </span> brief<span class="sr"> end of removed. </span></del>' in text
    assert '<ins><span class="sr">added: </span> exact<span class="sr"> end of added. </span></ins>' in text
    assert "From version 1 to 2" in text
    assert "0.70" in text


def test_two_old_versions_are_compared_in_the_order_they_were_written(page, persona):
    save(persona, instructions="two")
    save(persona, instructions="three")
    assert "From version 1 to 2" in page("persona_version", persona.slug, 2, **{"with": "1"})
    assert "From version 1 to 2" in page("persona_version", persona.slug, 1, **{"with": "2"})


def test_the_only_version_has_nothing_to_be_compared_with(page, persona):
    assert "There is no other version yet." in page("persona_version", persona.slug, 1)


@pytest.mark.parametrize("other", ["0", "99", "-1", "one", "", "9" * 5_000, "\u0663"])
def test_a_version_that_is_not_there_is_not_found(page, persona, other):
    page("persona_version", persona.slug, 1, status=404, **{"with": other})


@pytest.mark.parametrize("number", [0, 99, 10**30])
def test_a_number_that_is_not_there_is_not_found(page, persona, number):
    page("persona_version", persona.slug, number, status=404)


def test_another_personas_version_is_not_found(page, team, persona):
    save(make_persona(team, name="Other"))
    page("persona_version", persona.slug, 2, status=404)


def test_hostile_instructions_stay_text_in_every_part(page, persona):
    save(persona, instructions=HOSTILE)
    text = page("persona_version", persona.slug, 1) + page("persona_version", persona.slug, 2)
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "\u202e" not in text
    assert "\\u202egnp.exe" in text
    assert "{{ 7 }}" in text
