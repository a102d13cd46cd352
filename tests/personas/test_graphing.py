"""The picture of a flow: a line for everything that a stage needs of another one, and none through another line."""

from itertools import pairwise

import pytest
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from personas.graphing import ROW, Link, draw, uses
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow, make_persona
from tests.personas.flowing import combine, when
from tests.personas.test_pages import builder

STAGES = [
    combine("brief", "x"),
    combine("text", "{{ stage.brief.output }} {{ stage.brief.output }} {{ input.topic }}"),
    {"kind": "each", "name": "all", "over": "{{ stage.text.output }}", "do": {"arguments": {"q": ["{{ item }}"]}}},
    {"kind": "tool", "name": "call", "arguments": {"q": [{"x": "{{ stage.brief.output }}"}]}} | when("all", "done"),
    combine("mend", "sorry") | when("call", "failed"),
]
LINKS = {
    Link(0, 1, "uses"),
    Link(1, 2, "uses"),
    Link(0, 3, "uses"),
    Link(2, 3, "when"),
    Link(3, 4, "failed"),
}


def test_references_conditions_and_branches_for_errors_are_links_each_once():
    graph = draw(STAGES)
    assert set(graph.links) == LINKS
    assert len(graph.links) == len(graph.lines) == len(LINKS)
    assert graph.names == ["brief", "text", "all", "call", "mend"]
    assert graph.height == 5 * ROW


def test_the_forms_of_the_builder_give_the_same_picture_half_written_ones_too():
    posted = [
        {"kind": "combine", "name": "brief", "template": "x"},
        {"kind": "combine", "name": "text", "template": "{{ stage.brief.output }}", "when_stage": "brief"},
        {"kind": "tool", "name": "call", "arguments": '{"q": "{{ stage.text.output', "when_test": "failed"},
        {"kind": "tool", "name": "", "arguments": '{"q": "{{ stage.text.output }}', "when_test": "failed"},
        {"kind": "combine", "when_test": "failed", "when_stage": "text", "template": "{{ stage.later.output }}"},
    ]
    assert set(draw(posted).links) == {Link(0, 1, "uses"), Link(1, 3, "uses"), Link(1, 4, "failed")}
    assert (draw([]).links, draw([{}]).names) == ([], [""])


def test_what_a_stage_uses_is_said_in_words():
    assert uses(STAGES[1]) == ["brief", "input topic"]
    assert uses(STAGES[2]) == ["text"]


@given(st.lists(st.sets(st.integers(0, 19)), max_size=20))
def test_lines_side_by_side_never_share_a_lane(needs):
    stages = [
        combine(f"s{place}", " ".join(f"{{{{ stage.s{one}.output }}}}" for one in sorted(of) if one < place))
        for place, of in enumerate(needs)
    ]
    graph = draw(stages)
    lanes: dict[str, list[Link]] = {}
    for link, line in zip(graph.links, graph.lines, strict=True):
        lanes.setdefault(line.path.partition("Q")[2].partition(" ")[0], []).append(link)
    for beside in lanes.values():
        beside.sort(key=lambda link: link.source)
        assert all(one.target <= other.source for one, other in pairwise(beside))
    assert graph.width < 160


@pytest.mark.django_db
def test_a_flow_shows_its_graph_and_its_list_says_the_same_and_the_builder_draws_what_is_posted(client):
    team = make_team()
    client.force_login(owner_of(team))
    tool = STAGES[3] | {"persona": str(make_persona(team).pk), "tool": "get_credits"}
    flow = make_flow(team, [STAGES[0], combine("all", "{{ stage.brief.output }} {{ input.flow }}"), tool])
    page = client.get(reverse("flow_detail", args=[team.slug, flow.slug])).content.decode()
    assert "3 stages with 3 links between them" in page
    assert "Uses brief, input flow." in page
    assert page.count('<g class="link-uses"><path') == 3  # two lines and one in the legend
    one_only = make_flow(team, [STAGES[0]], name="One")
    assert 'id="graph"' not in client.get(reverse("flow_detail", args=[team.slug, one_only.slug])).content.decode()

    posted = builder(STAGES[0], combine("next", "{{ stage.brief.output }}"))
    moved = client.post(reverse("flow_create", args=[team.slug]), posted | {"do": "add-combine"}).content.decode()
    assert "3 stages with 1 link between them" in moved
    typed = client.post(reverse("flow_graph", args=[team.slug]), posted)
    assert "2 stages with 1 link between them" in typed.content.decode()


@pytest.mark.django_db
def test_the_builder_says_while_typing_when_a_condition_looks_at_no_earlier_stage(client):
    team = make_team()
    client.force_login(owner_of(team))
    typed = builder(STAGES[0], combine("next", "x"), combine("last", "y"))
    typed |= {
        "stage-1-when_test": "done",
        "stage-1-when_stage": "last",
        "stage-2-when_test": "failed",
        "stage-2-when_stage": "brief",
    }
    said = client.post(reverse("flow_graph", args=[team.slug]), typed).content.decode()
    assert "The condition of stage 2 looks at “last”, and no stage before it has that name." in said
    assert "condition of stage 3" not in said
