import json

import pytest

from personas.stages import BadInput, BadStage, fill, given_inputs, read_inputs, read_stage, read_stages

PERSONA = "0190d3c4-0000-7000-8000-000000000001"


def prompt(name="draft", template="Say something", **more):
    return {"kind": "prompt", "name": name, "persona": PERSONA, "template": template} | more


def each(do=None, **more):
    return {"kind": "each", "name": "all", "over": "a\nb", "do": do or TRANSLATE} | more


def when(test, value="", stage="draft"):
    return {"when": {"stage": stage, "is": test, "value": value}}


TRANSLATE = {"kind": "prompt", "persona": PERSONA, "template": "Say {{ item }} at {{ input.time }}"}


def combine(name, template):
    return {"kind": "combine", "name": name, "template": template}


def test_a_stage_may_refer_to_an_earlier_one():
    stages = read_stages([prompt(), combine("all", "{{ stage.draft.output }} at {{ input.time }}")])
    assert [stage.name for stage in stages] == ["draft", "all"]


def test_a_stage_may_not_refer_to_a_later_one():
    with pytest.raises(BadStage, match=r"Stage 1: template: \{\{ stage.draft.output \}\} is not known here"):
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
        ([prompt(retries=6)], "Stage 1: retries: "),
        ([prompt(timeout=9)], "Stage 1: timeout: "),
        ([prompt(most_usd="-1")], "Stage 1: most_usd: "),
        ([prompt(most_usd="0.00")], "Stage 1: most_usd: write more than nothing"),
        ([prompt(most_usd="NaN")], "Stage 1: most_usd: "),
        ([prompt(output_schema={"type": "array"})], "Stage 1: output_schema: .*must describe an object"),
        ([combine("all", "x") | {"output_schema": {}}], "Stage 1: output_schema: "),
        ([prompt(**when("done"))], "Stage 1: when: no earlier stage is named “draft”"),
        ([prompt(), combine("b", "x") | when("done", stage="b")], "Stage 2: when: no earlier stage"),
        ([prompt(), combine("b", "x") | when("above", "many")], "Stage 2: when: write a number, such as"),
        ([prompt(), combine("b", "x") | when("above", "inf")], "Stage 2: when: write a number"),
        ([prompt(), combine("b", "x") | when("contains", " ")], "Stage 2: when: say what"),
        ([prompt(), combine("b", "x") | when("matches", "x")], "Stage 2: when.is: "),
        ([prompt(template="{{ item }}")], r"Stage 1: template: \{\{ item \}\} is not known here"),
        ([{"kind": "approve", "name": "ok"}], "Stage 1: text: field required"),
        ([{"kind": "approve", "name": "ok", "text": "{{ input.x }}"}], "Stage 1: text: .*not known here"),
        ([each(over="{{ item }}")], "Stage 1: over: .*not known here"),
        ([each(most=101)], "Stage 1: most: "),
        ([each(at_once=9)], "Stage 1: at_once: "),
        ([each({"kind": "combine", "template": "x"})], "Stage 1: do: "),
        ([each(TRANSLATE | {"name": "x"})], "Stage 1: do.name: "),
        ([each(TRANSLATE | {"template": ""})], "Stage 1: do.template: "),
        ([each(TRANSLATE | {"template": "{{ stage.all.output }}"})], "Stage 1: do.template: .*not known here"),
        ([{"kind": "tool", "name": "x", "persona": PERSONA}], "Stage 1: tool: field required"),
    ],
)
def test_a_bad_stage_is_named_with_what_is_wrong(stages, words):
    with pytest.raises(BadStage, match=words):
        read_stages(stages)


def test_fill_reaches_every_text_and_leaves_the_rest():
    values = {"input.time": "noon"}
    given = {"a": "{{ input.time }}", "b": [1, {"c": "at {{ input.time }}"}], "d": None}
    assert fill(given, values) == {"a": "noon", "b": [1, {"c": "at noon"}], "d": None}


def test_a_stage_of_before_reads_as_one_without_conditions_bounds_or_retries():
    stage = read_stage(prompt())
    assert (stage.when, stage.retries, stage.timeout, stage.most_usd, stage.output_schema) == (
        None,
        0,
        None,
        None,
        None,
    )


def test_what_was_read_is_stored_as_json_that_reads_the_same():
    stages = [
        prompt(retries=2, timeout=60, most_usd="0.05", output_schema={"type": "object", "properties": {}}),
        combine("sorry", "It failed") | when("failed"),
        {"kind": "approve", "name": "ok", "text": "{{ stage.draft.output }}", **when("above", " 0.8 ")},
        each(over="{{ stage.draft.output }}"),
    ]
    stored = [stage.model_dump() for stage in read_stages(stages)]
    assert stored[1]["when"] == {"stage": "draft", "is": "failed", "value": ""}
    assert read_stages(json.loads(json.dumps(stored))) == read_stages(stages)


def test_a_bad_stage_says_which_field_to_change():
    with pytest.raises(BadStage) as caught:
        read_stages([each(TRANSLATE | {"template": "{{ stage.x.output }}"})])
    assert (caught.value.number, caught.value.field) == (1, "do.template")


# --- inputs -----------------------------------------------------------------------------


def test_templates_may_refer_to_declared_inputs_only():
    stages = [combine("all", "About {{ input.topic }}")]
    assert read_stages(stages, [{"name": "topic"}])
    with pytest.raises(BadStage, match=r"input\.topic"):
        read_stages(stages)


@pytest.mark.requirement("IN-1")
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([{"name": "Topic"}], "Input 1: name: "),
        ([{"name": "time"}], "Input 1: the name “time” is taken"),
        ([{"name": "a"}, {"name": "a"}], "Input 2: the name “a” is taken"),
        ([{"name": "a", "default": "x" * 100_001}], "Input 1: default: "),
        ([{"name": "a", "secret": True}], "Input 1: secret: "),
        ([{"name": f"a{n}"} for n in range(21)], "at most 20 inputs"),
    ],
)
def test_a_bad_input_is_named_with_what_is_wrong(inputs, words):
    with pytest.raises(BadInput, match=words):
        read_inputs(inputs)


def test_inputs_that_are_not_given_have_their_defaults_and_strangers_are_refused():
    declared = [{"name": "topic", "default": "the sea"}, {"name": "tone"}]
    assert given_inputs(declared, {"tone": "dry"}) == {"topic": "the sea", "tone": "dry"}
    with pytest.raises(BadInput, match=r"no input “colour”\. It has: tone, topic"):
        given_inputs(declared, {"colour": "red"})
    with pytest.raises(BadInput, match="“tone” is longer than 100,000"):
        given_inputs(declared, {"tone": "x" * 100_001})
