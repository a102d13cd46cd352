import csv
import io
import json
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command

from audit.actions import record
from audit.clock import app_now
from audit.export import csv_lines, json_lines
from audit.ids import uuid7
from audit.models import Event
from tests.audit.builders import OWNER, make_call, make_event
from tests.factories import make_team

pytestmark = pytest.mark.django_db


def exported(*arguments: str) -> list[dict]:
    out = io.StringIO()
    call_command("audit_export", *arguments, stdout=out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_exported_event_says_everything_but_the_content():
    team, ids = make_team(), {"persona_id": uuid7(), "run_id": uuid7(), "call_id": uuid7()}
    event = make_event(
        team,
        "call.finished",
        target="connection:1",
        outcome="done",
        persona_name="Reader",
        tool="get_credits",
        model="openai/gpt-5",
        generation_id="gen-1",
        request_sha256="a" * 64,
        cost_usd=Decimal("0.00000012"),
        credits=2,
        **ids,
    )
    assert exported("--team", team.slug) == [
        {
            "id": str(event.pk),
            "at": event.at.isoformat(timespec="microseconds"),
            "team": team.slug,
            "actor": f"user:{event.actor_id}",
            "actor_name": "owner@example.test",
            "action": "call.finished",
            "target": "connection:1",
            "outcome": "done",
            "persona": str(ids["persona_id"]),
            "persona_name": "Reader",
            "run": str(ids["run_id"]),
            "tool": "get_credits",
            "model": "openai/gpt-5",
            "call": str(ids["call_id"]),
            "generation_id": "gen-1",
            "request_sha256": "a" * 64,
            "cost_usd": "0.00000012",
            "credits": 2,
        }
    ]


def test_what_is_not_known_is_null_and_free_is_zero():
    team = make_team()
    make_event(team, ago=2)
    make_event(team, ago=1, cost_usd=Decimal(0))
    unknown, free = exported("--team", team.slug)
    assert (unknown["cost_usd"], unknown["call"], unknown["credits"], free["cost_usd"]) == (None, None, None, "0")


def test_export_without_a_team_holds_everybodys_events_and_the_installations():
    team, gone = make_team(), uuid7()
    make_event(team, ago=3)
    make_call(team, ago=2)
    record("system.started", actor=OWNER, team_id=None)
    record("test.happened", actor=OWNER, team_id=gone)
    rows = exported()
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    assert {row["team"] for row in rows} >= {team.slug, None, str(gone)}
    assert len(rows) == Event.objects.count()


@pytest.mark.parametrize("since", ["1h", "60m", "1d", "iso", "utc"])
def test_since_takes_a_time_or_how_long_ago(since):
    team = make_team()
    make_event(team, ago=60)
    make_event(team, ago=3 * 24 * 3600)
    moment = app_now() - timedelta(minutes=5)
    text = {"iso": moment.isoformat(), "utc": moment.replace(tzinfo=None).isoformat()}.get(since, since)
    assert len(exported("--team", team.slug, "--since", text)) == 1
    assert len(exported("--team", team.slug)) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--team", "nobody"], "There is no team nobody."),
        (["--since", "yesterday"], "yesterday is no time. Write 2026-01-31T12:00, or 30m, 1h, 7d."),
    ],
)
def test_command_says_what_is_wrong(arguments, says):
    with pytest.raises(CommandError, match=f"^{says}$"):
        exported(*arguments)


@pytest.mark.requirement("IN-7")
@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\0"])
def test_no_cell_of_a_table_can_be_a_formula(start):
    event = Event(actor_name=f"{start}cmd|' /C calc'!A0", actor_kind="user", at=app_now())
    header, row = list(csv.reader(csv_lines([event], lambda _: start + "team")))
    cells = dict(zip(header, row, strict=True))
    assert cells["actor_name"] == f"'{event.actor_name}"
    assert not [cell for cell in row if cell.startswith(start)]


def test_table_and_lines_hold_the_same_values():
    team = make_team()
    event = make_event(team, "call.finished", cost_usd=Decimal("1.5"), credits=3, model='a "quoted", model')
    (line,) = json_lines([event], lambda _: team.slug)
    header, row = list(csv.reader(csv_lines([event], lambda _: team.slug)))
    assert dict(zip(header, row, strict=True)) == {
        name: "" if value is None else str(value) for name, value in json.loads(line).items()
    }


def test_each_event_is_one_line_whatever_it_holds():
    event = make_event(make_team(), target_name="x", model="a\u2028b\u0085c\nd")
    (line,) = json_lines([event], lambda _: None)
    assert len(line.splitlines()) == 1
