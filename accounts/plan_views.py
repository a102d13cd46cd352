"""Pages about a team's plan: the month and its ledger, another plan, a pack."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from accounts import actions, credits
from accounts.models import CreditAccount, CreditEntry, Pack, Plan
from accounts.permissions import Permission
from accounts.queries import account_of_month, ledger_page
from accounts.teams import team_view
from audit.actions import Actor
from audit.clock import app_now
from audit.ids import uuid7
from audit.schema import next_month
from integrations import metering
from integrations.models import Call

NAMED_CALLS = 20
EXAMPLE_TOKENS = (2_900, 500)  # in and out
LEDGER_WORDS = {
    CreditEntry.Kind.GRANT: "Granted by the plan",
    CreditEntry.Kind.PACK: "Added",
    CreditEntry.Kind.RESERVE: "Held for a call",
    CreditEntry.Kind.SETTLE: "Charged, nothing held any more",
    CreditEntry.Kind.RELEASE: "Not charged, all given back",
}


# --- the month --------------------------------------------------------------------------


@require_safe
@team_view(Permission.PLAN_VIEW)
def plan(request: HttpRequest) -> HttpResponse:
    """What the team may use this month, what it used, and what a call takes."""
    account = request.credit_account = _this_month(request, app_now())
    after = request.GET.get("after", "")[:60]
    page = ledger_page(account=account, after=after)
    context = {
        "account": account,
        "used": account.reserved + account.spent,
        "resets_at": datetime.combine(next_month(account.period), time(), UTC),
        "notice": _plan_notice(account),
        "price": _price_rule(request.team.plan),
        "plans": Plan.objects.all(),
        "packs": Pack.objects.all() if _may_change(request) else [],
        "may_change": _may_change(request),
        "by_teams": settings.PLANS_BY_TEAMS,
        "rows": _ledger_rows(account, page.entries),
        "after": after,
        "older": page.older,
        "may_audit": request.membership.allows(Permission.AUDIT_VIEW),
    }
    return render(request, "accounts/plan.html", context | _unknown(account))


def _this_month(request: HttpRequest, now: datetime) -> CreditAccount:
    return account_of_month(team=request.team, month=now.date().replace(day=1))


def _may_change(request: HttpRequest) -> bool:
    return settings.PLANS_BY_TEAMS and request.membership.allows(Permission.PLAN_EDIT)


def _plan_notice(account: CreditAccount) -> dict[str, str] | None:
    """Say when most is used, in the steps of the meter: 80% and 95%."""
    used = account.reserved + account.spent
    if account.left == 0:
        return {"tone": "bad", "title": "All platform credits of this month are used or held."}
    if used * 100 >= account.granted * 95:
        return {"tone": "bad", "title": f"{account.left:,} platform credits are left: nearly all are used or held."}
    if used * 100 >= account.granted * 80:
        share = used * 100 // account.granted
        return {"tone": "warn", "title": f"{share}% of this month's platform credits are used or held."}
    return None


def _price_rule(plan: Plan) -> dict[str, int]:
    """What a call takes under a plan, and an example, as `integrations.metering` counts it."""
    tokens_in, tokens_out = EXAMPLE_TOKENS
    total = metering.price(plan, tokens_in + tokens_out)
    return {
        "read": metering.price(plan, None),
        "model_call": plan.model_credits,
        "step": plan.tokens_per_credit,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "tokens": tokens_in + tokens_out,
        "steps": total - plan.model_credits,
        "total": total,
    }


def _ledger_rows(account: CreditAccount, entries: Sequence[CreditEntry]) -> list[dict]:
    calls = account.team.calls.filter(pk__in=[entry.call_id for entry in entries if entry.call_id])
    # No call is older than the month that it was reserved in, so older partitions are not searched.
    known = calls.filter(started_at__gte=_starts_at(account)).only("team", "tool", "persona_name").in_bulk()
    return [{"entry": entry, "words": _ledger_words(entry), "call": known.get(entry.call_id)} for entry in entries]


def _ledger_words(entry: CreditEntry) -> str:
    return LEDGER_WORDS[entry.kind] + (f": {entry.note}" if entry.note else "")


def _unknown(account: CreditAccount) -> dict:
    """The calls of which nobody can say yet whether they were billed, and what they hold."""
    calls = account.team.calls.filter(
        state=Call.State.UNKNOWN, credits=None, credit_account=account.pk, started_at__gte=_starts_at(account)
    )
    held = calls.aggregate(calls=Count("id"), credits=Sum("credits_reserved", default=0))
    fields = ("team", "tool", "persona_name", "started_at", "credits_reserved", "message")
    return {"unknown": held, "unknown_calls": calls.only(*fields).order_by("-started_at", "-id")[:NAMED_CALLS]}


def _starts_at(account: CreditAccount) -> datetime:
    return datetime.combine(account.period, time(), UTC)


# --- another plan, a pack ---------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
@team_view(Permission.PLAN_EDIT)
def plan_change(request: HttpRequest, plan_key: str) -> HttpResponse:
    """Say what another plan would mean, then change to it."""
    wanted, now = get_object_or_404(_for_teams(Plan), key=plan_key), app_now()
    error = ""
    if request.method == "POST":
        try:
            actions.change_plan(team=request.team, plan=wanted, by=Actor.user(request.user), at=now)
        except actions.SamePlan as refusal:
            error = str(refusal)
        else:
            messages.success(request, f"The plan is {wanted.name} now")
            return redirect("plan", request.team.slug)
    context = {"wanted": wanted, "effects": _effects(request, wanted, now), "error": error}
    return render(request, "accounts/plan_change.html", context, status=422 if error else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@team_view(Permission.PLAN_EDIT)
def pack_add(request: HttpRequest, pack_key: str) -> HttpResponse:
    """Say what a pack adds, then add it once, however often its form is sent."""
    pack, now = get_object_or_404(_for_teams(Pack), key=pack_key), app_now()
    error = ""
    if request.method == "POST":
        try:
            actions.add_pack(team=request.team, pack=pack, by=Actor.user(request.user), at=now, key=_key(request))
        except (NoKey, actions.PackAdded, credits.Full) as refusal:
            error = str(refusal)
        else:
            messages.success(request, f"{pack.name} added")
            return redirect("plan", request.team.slug)
    account = _this_month(request, now)
    context = {"pack": pack, "account": account, "after": account.granted + pack.credits, "once": uuid7()}
    context |= {"resets_on": next_month(account.period), "error": error}
    return render(request, "accounts/pack_add.html", context, status=422 if error else 200)


def _for_teams(model):
    """The rows that a team may choose from: none where whoever runs the installation decides."""
    return model.objects.all() if settings.PLANS_BY_TEAMS else model.objects.none()


class NoKey(Exception):
    """The form came without what tells a second sending from a second pack."""

    def __init__(self) -> None:
        super().__init__("Nothing was added. Look at the pack once more and press the button again.")


def _key(request: HttpRequest) -> UUID:
    try:
        return UUID(request.POST.get("once", ""))
    except ValueError:
        raise NoKey from None


def _effects(request: HttpRequest, wanted: Plan, now: datetime) -> list[str]:
    """What changing to a plan does, in sentences."""
    account, seats = _this_month(request, now), request.team.memberships.count()
    grant = wanted.grant_for(seats)
    seats_words = f", {wanted.monthly_credits:,} for each of {seats:,} members" if wanted.per_seat else ""
    monthly = f"The team gets {grant:,} platform credits a month{seats_words}."
    return [monthly, _this_months_effect(account, grant), _price_effect(request.team.plan, wanted)]


def _this_months_effect(account: CreditAccount, grant: int) -> str:
    more = grant + account.packs - account.granted
    resets_on: date = next_month(account.period)
    if more > 0:
        return f"It counts at once: {more:,} more are there in {account.period:%B}."
    return (
        f"{account.period:%B} keeps its {account.granted:,}, so nothing that is used or held is taken away; "
        f"from {resets_on:%-d %B} on it counts."
    )


def _price_effect(plan: Plan, wanted: Plan) -> str:
    prices = [(row.read_credits, row.model_credits, row.tokens_per_credit) for row in (plan, wanted)]
    if prices[0] == prices[1]:
        return "A call takes what it takes now."
    read, model, tokens = prices[1]
    return (
        f"From the next call on, a tool that only reads takes {read:,}, and a call to a model {model:,} and 1 more "
        f"for every started {tokens:,} tokens."
    )
