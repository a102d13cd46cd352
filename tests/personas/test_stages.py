import pytest

from personas.stages import BadStage, fill, read_stages

PERSONA = "0190d3c4-0000-7000-8000-000000000001"


def prompt(name="draft", template="Say something", **more):
    return {"kind": "prompt", "name": name, "persona": PERSONA, "template": template} | more


def combine(name, template):
    return {"kind": "combine", "name": name, "template": template}


def test_a_stage_may_refer_to_an_earlier_one():
    stages = read_stages([prompt(), combine("all", "{{ stage.draft.output }} at {{ input.time }}")])
    assert [stage.name for stage in stages] == ["draft", "all"]


def test_a_stage_may_not_refer_to_a_later_one():
    with pytest.raises(BadStage, match=r"Stage 1: \{\{ stage.draft.output \}\} is not known here"):
        read_stages([combine("all", "{{ stage.draft.output }}"), prompt()])


def test_references_are_checked_deep_inside_arguments():
    arguments = {"messages": [{"role": "user", "content": "{{ stage.nobody.output }}"}]}
    with pytest.raises(BadStage, match="nobody"):
        read_stages([{"kind": "tool", "name": "ask", "persona": PERSONA, "tool": "x", "arguments": arguments}])


@pytest.mark.requirement("IN-1")
@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([], "at least one stage"),
        ([prompt(), prompt()], "Stage 2: the name “draft” is taken"),
        ([prompt(name="Draft")], "Stage 1: name"),
        ([prompt(surprise=1)], "Stage 1: surprise"),
        ([{"kind": "shell", "name": "x"}], "Stage 1: kind"),
        (["text"], "Stage 1"),
        ([prompt(name=f"s{n}") for n in range(21)], "at most 20"),
        ([prompt(model="no slash")], "Stage 1: chain.0"),
        ([prompt(chain=["a/b", "a/b"])], "Stage 1: .*named twice"),
        ([prompt(chain=["a/*"])], "Stage 1: .*stands for several"),
        ([prompt(chain=["a/b"] * 7)], "Stage 1: chain"),
        ([prompt(routing="dearest")], "Stage 1: routing"),
    ],
)
def test_a_bad_stage_is_named_with_what_is_wrong(stages, words):
    with pytest.raises(BadStage, match=words):
        read_stages(stages)


def test_fill_reaches_every_text_and_leaves_the_rest():
    values = {"input.time": "noon"}
    given = {"a": "{{ input.time }}", "b": [1, {"c": "at {{ input.time }}"}], "d": None}
    assert fill(given, values) == {"a": "noon", "b": [1, {"c": "at noon"}], "d": None}
