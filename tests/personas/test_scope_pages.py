"""The pages on which scopes are read and changed."""

import html
import re
from datetime import timedelta

import pytest
from django.core import signing
from django.urls import reverse

from accounts.permissions import Role
from audit.clock import app_now
from audit.ids import uuid7
from integrations import actions
from integrations.models import Call
from integrations.scopes import Rule, read_scopes
from personas.matrix import MOST_COLUMNS
from personas.models import Flow, Persona
from tests.factories import make_member, make_team, owner_of
from tests.personas.builders import make_flow, make_persona
from tests.route_samples import a_connection
from vault.models import Grant

CHAT, CREDITS = "create_chat_completion", "get_credits"
SEALED = re.compile(r'name="preview" value="([^"]+)"')

pytestmark = pytest.mark.django_db


@pytest.fixture
def team():
    return make_team()


@pytest.fixture
def connection(team):
    return team.connections.get(pk=a_connection(team))


@pytest.fixture(params=["persona", "flow"])
def holder(request, team):
    return make_persona(team) if request.param == "persona" else make_flow(team)


@pytest.fixture
def desk(client, team, holder):
    client.force_login(owner_of(team))
    return Desk(client, team, holder)


class Desk:
    """Somebody at the pages of one holder."""

    def __init__(self, client, team, holder):
        self.client, self.team, self.holder = client, team, holder
        self.kind = "persona" if isinstance(holder, Persona) else "flow"

    def url(self, page, *more):
        return reverse(f"{self.kind}_{page}", args=[self.team.slug, self.holder.slug, *more])

    def text(self, page, *more, status=200):
        return self._said(self.client.get(self.url(page, *more)), status)

    def post(self, page, *more, status=200, **fields):
        return self._said(self.client.post(self.url(page, *more), fields), status)

    def apply(self, previewed, *, status=302):
        found = SEALED.search(previewed)
        assert found, previewed
        return self._said(self.client.post(self.url("scopes_apply"), {"preview": html.unescape(found[1])}), status)

    @staticmethod
    def _said(response, status):
        assert response.status_code == status, response.content.decode()[-3000:]
        return html.unescape(response.content.decode())

    def lend(self, connection, data):
        return actions.set_scopes(
            connection=connection,
            holder=self.holder.pk,
            name=self.holder.name,
            scopes=read_scopes(data),
            by=owner_of(self.team),
        )

    def kept(self):
        return read_scopes(Grant.objects.live().get(team=self.team, holder=self.holder.pk).scopes)


def make_use(holder, connection, *, days_ago, tool=CHAT):
    whose = {"persona_id" if isinstance(holder, Persona) else "flow_id": holder.pk}
    at = app_now() - timedelta(days=days_ago)
    Call.objects.create(
        team=connection.team, connection=connection, tool=tool, actor_kind="user", actor_id="x", actor_name="x",
        request_sha256="", state="done", started_at=at, finished_at=at, **whose,
    )  # fmt: skip


# --- reading ----------------------------------------------------------------------------


def test_without_a_connection_the_page_leads_to_one(desk):
    assert "Nothing to lend yet" in desk.text("matrix")


def test_the_matrix_shows_rules_and_use_of_the_last_month(desk, connection):
    desk.lend(connection, {"tools": {CHAT: {"rule": "ask", "max_tokens": 5, "unattended": False}}})
    for days in (0, 1, 40):
        make_use(desk.holder, connection, days_ago=days)
    make_use(make_persona(desk.team, name="Somebody else"), connection, days_ago=0)

    text = desk.text("matrix")

    cell = text[text.index(f'name="{connection.pk}-{CHAT}"') :]
    assert cell.index('<option value="ask" selected>') < cell.index("</select>")
    assert re.search(r"2 calls, last", cell[: cell.index("</td>")])
    assert "2 limits" in cell[: cell.index("</td>")]
    assert text.count("calls, last") == 1


def test_another_team_s_use_and_grants_are_not_shown(desk, connection):
    other = make_team()
    theirs = other.connections.get(pk=a_connection(other))
    actions.set_scopes(
        connection=theirs, holder=desk.holder.pk, name="x", scopes=read_scopes({"tools": {CHAT: "allowed"}}),
        by=owner_of(other),
    )  # fmt: skip
    make_use(desk.holder, theirs, days_ago=0)

    text = desk.text("matrix")

    assert "Not lent yet" in text
    assert "1 call" not in text
    assert theirs.label not in text


def test_who_may_only_look_sees_words_instead_of_choices(client, desk, connection):
    desk.lend(connection, {"tools": {CHAT: "ask"}})
    client.force_login(make_member(desk.team, Role.AUDITOR))

    text = desk.text("matrix")

    assert "Ask first" in text
    assert "<select" not in text[text.index("<main") :]
    assert "Preview the change" not in text


def test_a_grant_that_nobody_can_read_is_named(desk, connection):
    grant = desk.lend(connection, {"tools": {CHAT: "allowed"}})
    Grant.objects.filter(pk=grant.pk).update(scopes={"tools": {CHAT: "allowed"}, "only_on_mondays": True})

    assert "cannot be read, so it allows nothing" in desk.text("matrix")
    assert "cannot be read, so it allows nothing" in desk.text("scopes", connection.pk)


def test_more_connections_than_fit_are_listed_below(desk, team):
    labels = {team.connections.get(pk=a_connection(team)).label for _ in range(MOST_COLUMNS + 2)}
    text = desk.text("matrix")

    assert text.count('name="seen-') == MOST_COLUMNS
    assert all(label in text for label in labels)


# --- the matrix -------------------------------------------------------------------------


def seen(text, connection):
    return re.search(rf'name="seen-{connection.pk}" value="([^"]+)"', text)[1]


def preview(desk, connection, *, status=200, **rules):
    page = desk.text("matrix")
    fields = {f"{connection.pk}-{tool}": rule for tool, rule in rules.items()}
    fields |= {f"seen-{connection.pk}": seen(page, connection)}
    return desk.post("matrix_preview", status=status, **fields)


def test_a_change_is_previewed_in_sentences_and_applied_as_it_was_previewed(desk, connection):
    text = preview(desk, connection, **{CHAT: "allowed", CREDITS: "ask"})

    assert f"{desk.holder.name} may now use Create chat completion without asking." in text
    assert f"{desk.holder.name} may now use Get credits, after asking a person." in text
    assert not Grant.objects.exists()

    desk.apply(text)

    assert desk.kept().rule_of(CHAT) is Rule.ALLOWED
    assert desk.kept().rule_of(CREDITS) is Rule.ASK


def test_what_the_matrix_does_not_show_stays_as_it_is(desk, connection):
    limits = {"rule": "allowed", "pinned": {"temperature": 0.5}, "max_tokens": 100, "unattended": False}
    desk.lend(connection, {"tools": {CHAT: limits}, "models": {"deny": ["*:free"]}})

    desk.apply(preview(desk, connection, **{CHAT: "ask"}))

    assert desk.kept() == read_scopes({"tools": {CHAT: limits | {"rule": "ask"}}, "models": {"deny": ["*:free"]}})


def test_no_change_is_no_preview(desk, connection):
    text = preview(desk, connection, **{CHAT: "off"})

    assert "Nothing would change" in text
    assert not SEALED.search(text)


@pytest.mark.parametrize("rule", ["everything", "", "ALLOWED"])
def test_a_rule_that_there_is_not_changes_nothing(desk, connection, rule):
    assert "Nothing would change" in preview(desk, connection, **{CHAT: rule})


def test_several_connections_change_together_or_not_at_all(desk, team, connection):
    second = team.connections.get(pk=a_connection(team))
    fields = {f"{row.pk}-{CHAT}": "allowed" for row in (connection, second)}
    text = desk.post("matrix_preview", **fields)
    desk.lend(second, {"tools": {CHAT: "ask"}})

    assert "Somebody changed these scopes meanwhile" in desk.apply(text, status=409)
    assert Grant.objects.live().filter(holder=desk.holder.pk).count() == 1


# --- two tabs ---------------------------------------------------------------------------


def test_a_preview_made_before_somebody_else_s_change_is_not_applied(desk, connection):
    text = preview(desk, connection, **{CHAT: "allowed"})
    desk.lend(connection, {"tools": {CREDITS: "allowed"}})

    answer = desk.apply(text, status=409)

    assert "Somebody changed these scopes meanwhile. Nothing was applied" in answer
    assert desk.kept() == read_scopes({"tools": {CREDITS: "allowed"}})


def test_a_preview_is_applied_once(desk, connection):
    text = preview(desk, connection, **{CHAT: "allowed"})
    desk.apply(text)

    desk.apply(text, status=409)


def test_choices_made_on_an_old_page_are_not_even_previewed(desk, connection):
    old = desk.text("matrix")
    desk.lend(connection, {"tools": {CHAT: "ask"}})

    answer = desk.post(
        "matrix_preview",
        status=409,
        **{f"seen-{connection.pk}": seen(old, connection), f"{connection.pk}-{CHAT}": "off"},
    )

    assert "Somebody changed these scopes meanwhile" in answer
    assert not SEALED.search(answer)


def test_a_connection_that_was_revoked_meanwhile_is_not_lent(desk, connection):
    text = preview(desk, connection, **{CHAT: "allowed"})
    actions.revoke(connection=connection, by=owner_of(desk.team))

    desk.apply(text, status=409)

    assert not Grant.objects.live().exists()


def test_a_preview_made_by_hand_is_refused(desk, connection):
    forged = signing.dumps({"place": [], "changes": {}}, salt="scopes")
    for text in ("", "nonsense", forged):
        assert "too old, or was made elsewhere" in desk.post("scopes_apply", status=409, preview=text)


def test_a_preview_for_one_holder_cannot_be_applied_to_another(client, desk, connection):
    text = preview(desk, connection, **{CHAT: "allowed"})
    other = Desk(client, desk.team, make_persona(desk.team, name="Another one"))

    other.apply(text, status=409)

    assert not Grant.objects.exists()


def test_a_preview_cannot_be_applied_by_somebody_else(client, desk, connection):
    text = preview(desk, connection, **{CHAT: "allowed"})
    client.force_login(make_member(desk.team, Role.ADMIN))

    desk.apply(text, status=409)


# --- one tool ---------------------------------------------------------------------------


def tool_form(desk, connection, tool=CHAT, **fields):
    return desk.post("scope_tool", connection.pk, tool, **{"rule": "ask", "unattended": "on"} | fields)


def test_the_limits_of_a_tool_are_previewed_and_applied(desk, connection):
    text = tool_form(desk, connection, max_tokens="500", max_messages="3", pinned='{"temperature": 0.5}')

    assert "Answers of Create chat completion may have at most 500 tokens." in text
    assert "In Create chat completion, temperature is now fixed." in text
    desk.apply(text)
    assert desk.kept().tools[CHAT].model_dump(mode="json") == {
        "rule": "ask",
        "pinned": {"temperature": 0.5},
        "max_tokens": 500,
        "max_messages": 3,
        "unattended": True,
        "after_untrusted": False,
    }


@pytest.mark.requirement("LLM-7")
def test_somebody_may_let_a_tool_spend_after_text_of_strangers(desk, connection):
    text = tool_form(desk, connection, after_untrusted="on")

    assert "Text of strangers no longer makes Create chat completion ask first." in text
    desk.apply(text)
    assert desk.kept().tools[CHAT].after_untrusted


@pytest.mark.parametrize(
    ("pinned", "words"),
    [
        ("[1]", "must be one JSON object"),
        ("{", "This is not JSON"),
        ('{"temperature": 9}', "temperature: This must be at most 2."),
        ('{"max_tokens": 9}', "max_tokens: There is no argument of this name."),
        ('{"temperature": 1, "temperature": 2}', "names one field twice"),
        ('{"user": "\\u0000"}', "NUL"),
    ],
)
def test_arguments_that_the_tool_does_not_take_cannot_be_fixed(desk, connection, pinned, words):
    assert words in desk.post("scope_tool", connection.pk, CHAT, status=422, rule="ask", pinned=pinned)


def test_a_tool_shows_only_the_limits_that_it_can_have(desk, connection):
    text = desk.text("scope_tool", connection.pk, CREDITS)

    assert 'name="unattended"' in text
    useless = {'name="max_tokens"', 'name="max_messages"', 'name="pinned"', 'name="after_untrusted"'}
    assert not useless & set(re.findall(r'name="\w+"', text))


def test_a_tool_that_there_is_not_is_not_found(desk, connection):
    desk.text("scope_tool", connection.pk, "buy_everything", status=404)


# --- a whole grant ----------------------------------------------------------------------


def grant_form(desk, connection, *, status=200, **fields):
    return desk.post("scopes", connection.pk, status=status, **{"end": "none"} | fields)


def test_the_limits_of_a_grant_are_previewed_and_applied(desk, connection):
    desk.lend(connection, {"tools": {CHAT: "allowed"}})
    text = grant_form(
        desk,
        connection,
        models_allow="openai/*\n*:free",
        models_deny="openai/gpt-5",
        providers_allow="azure, google-vertex",
        approvers=owner_of(desk.team).email.upper(),
    )

    assert "Only models like openai/* and *:free may be asked." in text
    desk.apply(text)
    kept = desk.kept()
    assert (kept.models.allow, kept.models.deny) == (("openai/*", "*:free"), ("openai/gpt-5",))
    assert kept.providers.allow == ("azure", "google-vertex")
    assert kept.approvers == (owner_of(desk.team).pk,)
    assert kept.rule_of(CHAT) is Rule.ALLOWED


def test_a_grant_can_end_in_an_hour_after_a_run_on_a_date_or_never(desk, connection):
    now = app_now()
    desk.apply(grant_form(desk, connection, end="hour"))
    assert now + timedelta(minutes=59) < desk.kept().ends_at < now + timedelta(minutes=61)
    desk.apply(grant_form(desk, connection, end="run"))
    assert (desk.kept().ends_at, desk.kept().one_run) == (None, True)
    desk.apply(grant_form(desk, connection, end="date", end_at="2099-01-01T06:00"))
    assert (desk.kept().ends_at.year, desk.kept().one_run) == (2099, False)
    assert "Nothing would change" in grant_form(desk, connection, end="keep")
    desk.apply(grant_form(desk, connection, end="none"))
    assert desk.kept().ends_at is None


def test_a_grant_whose_run_is_known_stays_with_it_unless_it_is_renewed(desk, connection):
    run = uuid7()
    desk.lend(connection, {"one_run": True, "only_run": str(run)})

    desk.apply(grant_form(desk, connection, end="keep", models_deny="*:free"))
    assert desk.kept().only_run == run
    desk.apply(grant_form(desk, connection, end="run"))
    assert desk.kept().only_run is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"models_allow": "openai/*\ngpt-5"}, "Entry 2: Write a model id"),
        ({"models_deny": "openai/[a-z]"}, "Entry 1: Write a model id"),
        ({"providers_allow": "-azure"}, "Entry 1: Write a provider's slug"),
        ({"approvers": "nobody@nowhere.test"}, "1 of these addresses belong to no member"),
        ({"approvers": "nobody"}, "Entry 1: Write the e-mail address"),
        ({"end": "date"}, "Say when it ends"),
        ({"end": "date", "end_at": "2001-01-01T00:00"}, "over already"),
        ({"end": "tomorrow"}, "not one of the available choices"),
        ({"models_deny": "\n".join(f"a/{n}" for n in range(1_001))}, "At most 1,000 lines"),
    ],
)
def test_limits_that_mean_nothing_are_refused(desk, connection, fields, words):
    assert words in grant_form(desk, connection, status=422, **fields)


def test_a_thousand_patterns_fit_through_the_form(desk, connection):
    lines = [f"author-{n}/*" for n in range(1_000)]

    desk.apply(grant_form(desk, connection, models_deny="\n".join(lines)))

    assert desk.kept().models.deny == tuple(lines)


# --- the quick way ------------------------------------------------------------------------


def test_ticked_tools_are_allowed_at_once(desk, connection):
    desk.post("scopes", connection.pk, status=302, do="tick", tools=[CHAT, CREDITS])

    assert {name for name, said in desk.kept().tools.items() if said.rule is Rule.ALLOWED} == {CHAT, CREDITS}


def test_nothing_ticked_takes_the_connection_away(desk, connection):
    desk.lend(connection, {"tools": {CHAT: "allowed"}})

    desk.post("scopes", connection.pk, status=302, do="tick")

    assert not Grant.objects.live().exists()


def test_a_tool_that_there_is_not_cannot_be_ticked(desk, connection):
    desk.post("scopes", connection.pk, status=422, do="tick", tools=["buy_everything"])

    assert not Grant.objects.exists()


def test_an_archived_flow_is_lent_nothing(client, team):
    client.force_login(owner_of(team))
    flow = make_flow(team)
    Flow.objects.filter(pk=flow.pk).update(archived_at=app_now())

    assert client.get(reverse("flow_matrix", args=[team.slug, flow.slug])).status_code == 404


ATTENDED = {"rule": "allowed", "unattended": False}
FREE_MODEL = {"tool": CHAT, "model": "a/b:free"}

# --- why? ---------------------------------------------------------------------------------


@pytest.fixture
def try_call(client, team, connection):
    """Ask about a call of a persona; what is not said is as the page suggests."""
    client.force_login(owner_of(team))
    persona = make_persona(team, name="Nachtbote")

    def ask(*, status=200, lend=None, **fields):
        if lend is not None:
            actions.set_scopes(
                connection=connection, holder=persona.pk, name="x", scopes=read_scopes(lend), by=owner_of(team)
            )
        given = {"connection": connection.pk, "tool": CREDITS, "member": owner_of(team).email, "how": "attended"}
        answer = client.get(reverse("persona_scopes_try", args=[team.slug, persona.slug]), given | fields)
        assert answer.status_code == status
        return html.unescape(answer.content.decode())

    return ask


def test_a_call_can_be_tried_without_making_it(try_call, team):
    text = try_call(lend={"tools": {CREDITS: "allowed"}})

    assert "Yes</h2>" in text
    assert "The role owner may run tools." in text
    assert "Get credits is allowed." in text
    assert not team.calls.exists()


@pytest.mark.parametrize(
    ("lend", "fields", "words"),
    [
        (None, {}, "Nachtbote has no grant for"),
        ({"tools": {CREDITS: "off"}}, {}, "Get credits is off for Nachtbote"),
        ({"tools": {CREDITS: ATTENDED}}, {"how": "schedule"}, "may not be used by a schedule"),
        ({"tools": {CREDITS: "allowed"}, "ends_at": "2090-01-01T00:00:00Z"}, {"at": "2095-01-01T02:00"}, "grant ended"),
        ({"tools": {CHAT: "allowed"}, "models": {"deny": ["*:free"]}}, FREE_MODEL, "a/b:free is forbidden"),
    ],
)
def test_a_call_that_would_be_refused_says_why(try_call, lend, fields, words):
    text = try_call(lend=lend, **fields)

    assert "No</h2>" in text
    assert words in text


def test_a_call_that_asks_first_says_so(try_call):
    assert "Yes, after asking</h2>" in try_call(lend={"tools": {CREDITS: "ask"}})


@pytest.mark.parametrize(
    "fields",
    [
        {"member": "nobody@nowhere.test"},
        {"tool": "buy_everything"},
        {"connection": "00000000-0000-0000-0000-000000000000"},
        {"flow": "no-such-flow"},
        {"model": "sk or"},
        {"at": "at night"},
        {"how": "by magic"},
    ],
)
def test_a_question_that_makes_no_sense_is_refused(try_call, fields):
    assert "Nothing tried yet" in try_call(status=422, **fields)


def test_a_member_of_another_team_is_like_nobody(try_call):
    stranger = owner_of(make_team())

    assert "Nobody in this team has this address." in try_call(status=422, member=stranger.email)
