"""References are held against what is there while somebody writes, by the code that saving asks."""

import pytest
from django.urls import reverse

from personas.referring import refers, usable_in
from personas.stages import BadStage, read_stages
from personas.template import LONGEST
from tests.factories import make_member, make_team, owner_of
from tests.personas.test_pages import builder

pytestmark = pytest.mark.django_db

DRAFT = {"kind": "combine", "name": "draft", "template": "x"}
LIST = {"kind": "each_prompt", "name": "list", "over": "{{ item }}", "template": "{{ item }}"}
END = {"kind": "combine", "name": "end", "template": "{{ stage.darft.output }} {{ input.topik }} {{ nonsense }} {{ st"}
INPUTS = "topic = whales\nNo input\ntone"


def test_a_text_may_refer_to_earlier_stages_inputs_and_in_a_list_to_its_item():
    posted = [DRAFT, LIST, END, {"name": "Later"}]
    own = ["input.topic", "input.tone", "input.time", "input.flow"]
    assert usable_in(posted, 0, "template", INPUTS) == own
    assert usable_in(posted, 1, "over", INPUTS) == ["stage.draft.output", *own]
    assert usable_in(posted, 1, "template", INPUTS) == ["item", "stage.draft.output", *own]
    assert usable_in(posted, 2, "template", INPUTS) == ["stage.list.output", "stage.draft.output", *own]


def test_each_wrong_reference_is_named_with_the_nearest_right_one_as_saving_does():
    usable = usable_in([DRAFT, LIST, END], 2, "template", INPUTS)
    found = refers(END["template"], usable).problems
    assert found == [
        "{{ stage.darft.output }} is not known here. Did you mean {{ stage.draft.output }}?",
        "{{ input.topik }} is not known here. Did you mean {{ input.topic }}?",
        "{{ nonsense }} is not known here.",
        "{{ is not known here. It is not closed with }}.",
    ]
    with pytest.raises(BadStage) as saved:
        read_stages([DRAFT, END], [{"name": "topic"}])
    assert found[0] in str(saved.value)
    assert refers("{{ drafts }}", usable).problems[0].endswith("Did you mean {{ stage.draft.output }}?")


def test_a_text_of_nothing_but_braces_is_looked_at_in_part():
    assert refers("{{" * (LONGEST // 20), ["input.time"]).problems == [
        "{{ is not known here. It is not closed with }}."
    ]


def test_the_page_says_it_when_it_is_opened_and_the_fragment_while_somebody_writes(client):
    team = make_team()
    client.force_login(owner_of(team))
    url = reverse("flow_references", args=[team.slug])
    posted = builder(DRAFT, END) | {"inputs": INPUTS}

    shown = client.post(f"{url}?field=stage-1-template", posted).content.decode()
    assert "{{ stage.darft.output }} is not known here. Did you mean {{ stage.draft.output }}?" in shown
    assert shown.count("{{ input.tone }}") == 1
    fine = client.post(f"{url}?field=stage-0-template", posted).content.decode()
    assert "is not known here" not in fine
    for wrong in ("stage-2-template", "stage-0-persona", "", "stage-0-template-x", "stage-99999-template"):
        assert client.post(f"{url}?field={wrong}", posted).status_code == 400

    refused = client.post(reverse("flow_create", args=[team.slug]), posted | {"do": "draft"})
    assert refused.status_code == 422
    assert refused.content.decode().count("{{ input.topik }} is not known here") == 1
    assert f'hx-post="{url}?field=stage-1-template"' in refused.content.decode()

    client.force_login(make_member(team, "member"))
    assert client.post(f"{url}?field=stage-0-template", posted).status_code == 403
