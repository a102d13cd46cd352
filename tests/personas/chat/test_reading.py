"""What a page is told of a chat: the branch, what each answer took, and what became of it."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.ids import uuid7
from audit.models import Content
from integrations.facts import Catalog, EndpointFacts, ModelFacts, Prices, ProviderFacts
from integrations.models import Call
from personas.chat.reading import SHOWN, answer_view, chat_page, path_of, retention, step_view
from personas.chat.tree import Node, Tree
from tests.factories import make_member, make_team, owner_of
from tests.personas.chat.builders import make_answer, make_chat, make_message, make_turn, seal, sealed_partial
from vault.content import open_content

MOST_QUERIES = 8
RESULT = {"successful": True, "data": {"text": "Four."}, "error": None, "meta": {}}


@pytest.fixture
def chat(db):
    return make_chat(make_team())


def texts(path) -> list[str]:
    return [shown.text for shown in path.messages]


# --- branches ---------------------------------------------------------------------------


def test_a_chat_without_messages_has_an_empty_branch(chat):
    assert path_of(chat).messages == []
    assert path_of(chat).earlier is None


def test_the_newest_branch_is_shown_unless_another_is_named(chat):
    first = make_turn(chat, "One", answer="Une")
    other = make_answer(first.parent, "Uno")
    assert texts(path_of(chat)) == ["One", "Uno"]
    assert texts(path_of(chat, first.pk)) == ["One", "Une"]
    assert path_of(chat, other.pk).messages[1].siblings.index == 2


def test_a_message_in_the_middle_of_a_branch_shows_what_came_after_it(chat):
    first = make_turn(chat, "One", answer="Une")
    make_turn(chat, "Two", parent=first)
    make_answer(first.parent, "Uno")
    assert texts(path_of(chat, first.pk)) == ["One", "Une", "Two", "Hello."]


def test_siblings_are_counted_among_what_answers_the_same_message(chat):
    answers = [make_turn(chat, "One")]
    answers += [make_answer(answers[0].parent) for _ in range(2)]
    row = path_of(chat, answers[1].pk).messages[1].siblings
    assert (row.index, row.of, row.previous, row.next) == (2, 3, answers[0].pk, answers[2].pk)


def test_a_message_of_another_chat_shows_the_newest_branch(chat):
    make_turn(chat, "One")
    foreign = make_turn(make_chat(chat.team), "Not yours")
    assert texts(path_of(chat, foreign.pk)) == ["One", "Hello."]


def test_earlier_messages_are_read_on_demand_and_never_twice(chat):
    answer = None
    for number in range(4):
        answer = make_turn(chat, f"Question {number}", parent=answer, answer=f"Answer {number}")
    last = path_of(chat, None, None, 3)
    before = path_of(chat, None, last.earlier, 3)
    assert texts(last) == ["Answer 2", "Question 3", "Answer 3"]
    assert texts(before) == ["Question 1", "Answer 1", "Question 2"]
    assert texts(path_of(chat, None, before.earlier, 3)) == ["Question 0", "Answer 0"]


def test_compared_answers_stand_side_by_side_until_one_is_gone_on_with(chat):
    together = uuid7()
    question = make_message(chat, "Which?")
    left, _ = (make_answer(question, text, compared_with=together) for text in ("Left", "Right"))
    assert [shown.text for shown in path_of(chat).last.compared] == ["Left", "Right"]

    make_turn(chat, "Go on", parent=left)
    path = path_of(chat)
    assert texts(path) == ["Which?", "Left", "Go on", "Hello."]
    assert path.messages[1].compared == ()


def test_a_tree_without_messages_has_no_path():
    assert Tree([]).path(None) == []


def test_a_comparison_knows_only_answers_of_its_own_question():
    root, left, right, other, together = (uuid7() for _ in range(5))
    tree = Tree([Node(root, None), Node(left, root, together), Node(right, root, together), Node(other, root)])
    assert tree.compared(right) == [left, right]
    assert tree.compared(other) == []


# --- what an answer took ----------------------------------------------------------------


def test_the_figures_count_failed_calls_and_name_the_model_that_answered(chat):
    answer = make_turn(chat)
    stage = answer.run.stages.get()
    done = Call.objects.get(run_id=answer.run_id)
    Call.objects.filter(pk=done.pk).update(attempt=2, model_served="openai/gpt-5-mini-2025-08-07")
    Call.objects.create(
        **{field.attname: getattr(done, field.attname) for field in Call._meta.concrete_fields}
        | {"id": uuid7(), "state": "failed", "model": "openai/gpt-5", "cost_usd": None, "credits": 0}
        | {"tokens_in": None, "tokens_out": None, "stage_id": stage.pk}
    )
    figures = answer_view(team=chat.team, message_id=answer.pk).figures
    assert (figures.model, figures.provider) == ("openai/gpt-5-mini-2025-08-07", "OpenAI")
    assert (figures.attempts, figures.tokens_in, figures.tokens_out) == (2, 412, 96)
    assert (figures.usd, figures.credits) == (Decimal("0.000295"), 2)


def test_a_bill_that_is_not_known_is_not_zero(chat):
    answer = make_turn(
        chat, call={"state": "unknown", "cost_usd": None, "credits": None, "tokens_in": None, "tokens_out": None}
    )
    figures = answer_view(team=chat.team, message_id=answer.pk).figures
    assert (figures.unknown, figures.held, figures.usd, figures.tokens_in) == (1, 4, None, None)


def test_an_interrupted_answer_keeps_the_text_that_was_saved(chat):
    answer = make_turn(chat, state="failed", partial="Half of", failure="Its worker ended.")
    shown = answer_view(team=chat.team, message_id=answer.pk)
    assert (shown.text, shown.cut_short, shown.is_running) == ("Half of", True, False)


def test_an_answer_under_way_shows_what_was_saved_of_it(chat):
    answer = make_turn(chat, state="running", partial="Half of")
    shown = answer_view(team=chat.team, message_id=answer.pk)
    assert (shown.text, shown.is_running, shown.steps[0].is_running, shown.cut_short) == ("Half of", True, True, False)


def test_the_version_of_an_answer_changes_with_its_text(chat):
    answer = make_turn(chat, state="running", partial="Half of")
    before = answer_view(team=chat.team, message_id=answer.pk).version
    stage = answer.run.stages.get()
    for name, value in sealed_partial(chat, "Half of it").items():
        setattr(stage, name, value)
    stage.save()
    assert answer_view(team=chat.team, message_id=answer.pk).version != before


def test_a_text_that_was_erased_is_none_and_an_empty_one_is_empty(chat):
    erased, empty = make_message(chat, "Gone"), make_message(chat, "")
    Content.objects.filter(pk=erased.content_id).update(ciphertext=None)
    assert answer_view(team=chat.team, message_id=erased.pk).text is None
    assert answer_view(team=chat.team, message_id=empty.pk).text == ""


# --- tools ------------------------------------------------------------------------------


def test_tool_calls_stand_between_the_answers_with_what_they_asked_and_were_given(chat):
    tool = {"name": "create_message", "arguments": '{"model": "x/y"}', "result": RESULT}
    answer = make_turn(chat, tools=[tool])
    shown = answer_view(team=chat.team, message_id=answer.pk)
    assert [part.kind for part in shown.parts] == ["answer", "tool", "answer"]
    step = step_view(chat=chat, stage_id=answer.run.stages.get(kind="tool").pk)
    assert (step.arguments, step.result, step.said, step.outcome) == ({"model": "x/y"}, RESULT, "Four.", "done")
    assert step.figures.credits == 1


def test_arguments_that_are_no_json_stay_as_they_were_written(chat):
    tool = {"name": "no_such_tool", "tool": "", "arguments": '{"a": ', "outcome": "unknown_tool", "calls": ()}
    stage = make_turn(chat, tools=[tool]).run.stages.get(kind="tool")
    step = step_view(chat=chat, stage_id=stage.pk)
    assert (step.tool, step.title, step.arguments) == ("no_such_tool", "", '{"a": ')


@pytest.mark.parametrize("before", [False, True])
def test_what_tools_were_given_stays_closed_until_one_of_them_is_looked_at(chat, monkeypatch, before):
    answer = make_turn(chat, tools=[{"outcome": "refused"}] * 4)
    tools = list(answer.run.stages.filter(kind="tool"))
    if before:  # rows whose outcome stands in what is sealed alone
        for stage in tools:
            stage.spec.pop("outcome")
            stage.save()
    opened = []
    monkeypatch.setattr(
        "personas.chat.reading.open_content",
        lambda *, content: opened.append(content.pk) or open_content(content=content),
    )

    steps = answer_view(team=chat.team, message_id=answer.pk).parts[1].steps
    assert [step.outcome for step in steps] == ["refused"] * 4
    results = {stage.output_content_id for stage in tools}
    assert results & set(opened) == (results if before else set())

    opened.clear()
    assert step_view(chat=chat, stage_id=tools[1].pk).arguments == {}
    assert before or results & set(opened) == {tools[1].output_content_id}


def test_three_tool_calls_in_a_row_fold(chat):
    for count, folds in ((2, False), (3, True)):
        answer = make_turn(chat, tools=[{}] * count)
        assert answer_view(team=chat.team, message_id=answer.pk).parts[1].folds is folds


# --- cost -------------------------------------------------------------------------------


def test_a_page_of_messages_takes_eight_queries_whatever_they_hold(chat):
    answer = None
    for _ in range(15):
        answer = make_turn(chat, parent=answer, tools=[{}, {"name": "create_message", "result": RESULT}])
    path_of(chat)  # keys and catalog are remembered from here on
    with CaptureQueriesContext(connection) as captured:
        path = path_of(chat)
    assert len(path.messages) == SHOWN
    assert len(captured) <= MOST_QUERIES, "\n".join(query["sql"] for query in captured.captured_queries)


# --- what providers keep ----------------------------------------------------------------


def offer(tag: str, *, zdr: bool) -> EndpointFacts:
    return EndpointFacts(tag, tag.partition("/")[0], Prices(None, None, None), zdr)


@pytest.mark.parametrize(
    ("offers", "listed", "tier"),
    [
        (None, [], "terms"),
        (None, [offer("quiet", zdr=True)], ""),  # it may have another offer that keeps something
        ([offer("quiet", zdr=True)], [offer("quiet", zdr=True)], "zdr"),
        ([offer("quiet", zdr=True), offer("quiet/fp8", zdr=False)], [offer("quiet", zdr=True)], ""),
        ([offer("loud", zdr=True)], [offer("loud", zdr=True)], "terms"),
    ],
)
def test_what_a_provider_keeps_is_said_only_where_the_catalog_knows(offers, listed, tier):
    text = frozenset({"text"})
    facts = ModelFacts("a/m", "M", Prices(None, None, None), 1, 1, text, text, frozenset())
    facts = replace(facts, endpoints=offers and tuple(offers), zdr_endpoints=tuple(listed))
    providers = {"quiet": ProviderFacts("quiet", "Quiet"), "loud": ProviderFacts("loud", "Loud")}
    known = Catalog(1, None, {"a/m": facts}, {}, providers)
    assert retention(Call(model="a/m", model_served="a/m-2026", provider="Quiet"), known) == tier
    assert retention(Call(model="a/other", provider="Quiet"), known) == ""


# --- lists ------------------------------------------------------------------------------


def test_a_list_holds_ones_own_chats_and_what_others_share(chat):
    other = make_member(chat.team)
    theirs = make_chat(chat.team, user=other, persona=chat.persona, title="Theirs")
    shared = make_chat(chat.team, user=other, persona=chat.persona, shared_at=chat.created_at)
    away = make_chat(chat.team, persona=chat.persona, archived_at=chat.created_at)
    owner = owner_of(chat.team)

    def listed(which: str, **more) -> list:
        return [row.pk for row in chat_page(team=chat.team, user=owner, which=which, **more).rows]

    assert listed("mine") == [chat.pk]
    assert listed("shared") == [shared.pk]
    assert listed("archived") == [away.pk]
    assert listed("mine", search="nothing like it") == []
    assert theirs.pk not in {*listed("mine"), *listed("shared"), *listed("archived")}


def test_a_list_goes_on_where_its_last_page_ended(chat, monkeypatch):
    monkeypatch.setattr("personas.chat.reading.LISTED", 2)
    chats = [chat, *(make_chat(chat.team, persona=chat.persona) for _ in range(3))]
    first = chat_page(team=chat.team, user=chat.user)
    rest = chat_page(team=chat.team, user=chat.user, after=first.rows[-1].pk)
    assert [row.pk for row in (*first.rows, *rest.rows)] == [each.pk for each in reversed(chats)]
    assert rest.after == ""


def test_a_page_after_somebody_elses_chat_tells_nothing_of_when_it_was(chat):
    theirs = make_chat(chat.team, user=make_member(chat.team), active_at=chat.active_at - timedelta(days=1))

    assert [row.pk for row in chat_page(team=chat.team, user=chat.user, after=theirs.pk).rows] == [chat.pk]


def test_an_output_of_another_shape_shows_as_nothing(chat):
    answer = make_turn(chat)
    answer.run.stages.update(output_content_id=seal(chat, ["not", "an", "object"]))
    assert answer_view(team=chat.team, message_id=answer.pk).text == ""
