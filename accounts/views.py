"""Pages about people: the way in, one's own account, a team's members."""

from datetime import datetime
from uuid import UUID

from allauth.account.adapter import get_adapter
from allauth.account.models import EmailAddress
from allauth.account.views import SignupView
from allauth.core import ratelimit
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render, resolve_url
from django.urls import NoReverseMatch
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from accounts import actions, quotas
from accounts.context import remembered
from accounts.forms import AccountForm, FirstOwnerForm, InviteForm, RoleForm, SignUpForm, TeamForm
from accounts.mail import mail_invitation
from accounts.models import Invitation, Membership, OneTimeLink, Team
from accounts.permissions import Permission
from accounts.queries import (
    acceptable_invitation,
    has_owner,
    invitation_page,
    live_links,
    member_page,
    memberships_of,
)
from accounts.teams import team_view
from audit.clock import app_now
from definable.errors import too_many_requests
from definable.limits import asked_too_often

GONE = 410


def form_status(form) -> int:
    """Return the status of a page with this form on it: 422 once it was refused."""
    return 422 if form.errors else 200


# --- home and teams ---------------------------------------------------------------------


def home(request: HttpRequest) -> HttpResponse:
    """Lead to the team used last, or to making one."""
    membership = remembered(request, list(memberships_of(request.user)))
    return redirect(_first_page(membership.team)) if membership else redirect("team_create")


def _first_page(team: Team) -> str:
    try:
        return resolve_url("persona_list", team.slug)
    except NoReverseMatch:
        return resolve_url("member_list", team.slug)


def _enter(request: HttpRequest, team: Team) -> HttpResponse:
    """Go to a team and remember it. The session gets a new id: an old one is of no use there."""
    request.session["team_slug"] = team.slug
    request.session.cycle_key()
    return redirect(_first_page(team))


@require_POST
def team_switch(request: HttpRequest) -> HttpResponse:
    wanted = request.POST.get("team", "")
    teams = [membership.team for membership in memberships_of(request.user) if membership.team.slug == wanted]
    if not teams:
        raise Http404
    return _enter(request, teams[0])


def team_create(request: HttpRequest) -> HttpResponse:
    """Ask for a name and a zone. Who has to confirm their address first is asked for that instead."""
    form = TeamForm(request.POST or None, initial={"zone": request.user.zone})
    if request.method == "POST" and form.is_valid():
        if too_often := asked_too_often(request, "new_team"):
            return too_often
        network = quotas.network_of(get_adapter().get_client_ip(request))
        try:
            team = quotas.start_team(**form.cleaned_data, owner=request.user, network=network, at=app_now())
        except actions.Refused as refusal:
            form.add_error(None, str(refusal))
        else:
            return _enter(request, team)
    context = {"form": form, "unconfirmed": quotas.needs_confirmation(request.user)}
    return render(request, "accounts/team_create.html", context, status=form_status(form))


@require_POST
def address_confirm(request: HttpRequest) -> HttpResponse:
    """Mail the link that confirms one's address again."""
    user = request.user
    if not ratelimit.consume(request, action="confirm_email", key=user.email):
        return too_many_requests(request, wait=settings.CONFIRMATION_EVERY)
    address, _ = EmailAddress.objects.get_or_create(user=user, email=user.email, defaults={"primary": True})
    if not address.verified:
        address.send_confirmation(request)
        messages.success(request, "Link sent")
    return redirect("team_create")


@team_view(Permission.SETTINGS_EDIT)
def team_settings(request: HttpRequest) -> HttpResponse:
    form = TeamForm(request.POST or None, instance=Team.objects.get(pk=request.team.pk))
    if request.method == "POST" and form.is_valid():
        actions.change_team(team=request.team, **form.cleaned_data, by=request.user, at=app_now())
        messages.success(request, "Settings saved")
        return redirect("team_settings", request.team.slug)
    return render(request, "accounts/team_settings.html", {"form": form}, status=form_status(form))


# --- the person -------------------------------------------------------------------------


def account(request: HttpRequest) -> HttpResponse:
    """Name, zone and colours of the person signed in."""
    form = AccountForm(request.POST or None, instance=request.user)
    if request.method == "POST" and form.is_valid():
        form.instance.save(update_fields=form.Meta.fields)
        messages.success(request, "Account saved")
        response = redirect("account")
        response.set_cookie(
            "theme", form.instance.theme, max_age=31_536_000, samesite="Lax", secure=request.is_secure()
        )
        return response
    return render(request, "accounts/account.html", {"form": form}, status=form_status(form))


# --- ways in ----------------------------------------------------------------------------


class SignUp(SignupView):
    """Allauth's page, on which a team that cannot be made is an error of the form."""

    def form_valid(self, form: SignUpForm) -> HttpResponse:
        try:
            return super().form_valid(form)
        except actions.Refused as refusal:
            form.add_error(None, str(refusal))
            return self.form_invalid(form)


@never_cache
@login_not_required
def sign_in_link(request: HttpRequest, token: str) -> HttpResponse:
    """Show a button; pressing it signs in and uses the link up. Opening alone changes nothing."""
    if request.method != "POST":
        live = live_links(purpose=OneTimeLink.Purpose.SIGN_IN, token=token, at=app_now()).exists()
        return render(request, "accounts/sign_in_link.html", {"live": live}, status=200 if live else GONE)
    try:
        user = actions.use_sign_in_link(token=token, at=app_now())
    except actions.LinkGone:
        return render(request, "accounts/sign_in_link.html", {"live": False}, status=GONE)
    get_adapter(request).login(request, user)
    return redirect("home")


@never_cache
@login_not_required
def first_owner(request: HttpRequest, token: str) -> HttpResponse:
    """Make the installation's first account. The token stands in the server's log."""
    live = live_links(purpose=OneTimeLink.Purpose.FIRST_OWNER, token=token, at=app_now()).exists()
    if not live or has_owner():
        return render(request, "accounts/first_owner_gone.html", status=GONE)
    form = FirstOwnerForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        return _set_up(request, token, form.cleaned_data)
    return render(request, "accounts/first_owner.html", {"form": form}, status=form_status(form))


def _set_up(request: HttpRequest, token: str, data: dict) -> HttpResponse:
    try:
        user = actions.set_up_first_owner(token=token, **data, at=app_now())
    except (actions.LinkGone, actions.OwnerExists):
        return render(request, "accounts/first_owner_gone.html", status=GONE)
    get_adapter(request).login(request, user)
    return redirect("home")


@never_cache
@login_not_required
def invitation_accept(request: HttpRequest, token: str) -> HttpResponse:
    """Show who invites to what; one button joins. Signed out, the way leads through sign-in or sign-up."""
    invitation = acceptable_invitation(token=token, at=app_now())
    if invitation is None:
        return render(request, "accounts/invitation_gone.html", status=GONE)
    error = ""
    if request.method == "POST" and request.user.is_authenticated:
        try:
            membership = actions.accept_invitation(token=token, user=request.user, at=app_now())
            return _enter(request, membership.team)
        except actions.Refused as refusal:
            error = str(refusal)
    context = {"invitation": invitation, "error": error, "query": _way_back(request, invitation)}
    return render(request, "accounts/invitation_accept.html", context, status=422 if error else 200)


def _way_back(request: HttpRequest, invitation: Invitation) -> str:
    known = {"email": invitation.email} if invitation.email else {}
    return urlencode({"next": request.path} | known)


# --- members ----------------------------------------------------------------------------


@team_view(Permission.MEMBER_VIEW)
def member_list(request: HttpRequest) -> HttpResponse:
    return render(request, "accounts/member_list.html", _people(request, app_now()))


def _people(request: HttpRequest, now: datetime) -> dict:
    manages = request.membership.allows(Permission.MEMBER_MANAGE)
    members = member_page(team=request.team, after=_place(request.GET.get("after", "")))
    invitations = invitation_page(team=request.team, after=_place(request.GET.get("before", ""))) if manages else None
    return {
        "members": [_row(request, member) for member in members.rows],
        "more_members": members.after,
        "invitations": invitations,
        "manages": manages,
        "now": now,
    }


def _place(text: str) -> UUID | None:
    """Return the place in a list that an address names, or None for its beginning."""
    try:
        return UUID(text)
    except ValueError:
        return None


def _members(request: HttpRequest):
    return request.team.memberships.select_related("user")


def _row(request: HttpRequest, member: Membership, error: str = "") -> dict:
    form = RoleForm(mine=request.membership.role, initial={"role": member.role}, auto_id=f"id_{member.pk}_%s")
    may_change = any(member.role == value for value, _ in form.fields["role"].choices)
    return {"member": member, "form": form if may_change else None, "error": error}


@require_POST
@team_view(Permission.MEMBER_MANAGE)
def member_role(request: HttpRequest, membership_id: UUID) -> HttpResponse:
    member = get_object_or_404(_members(request), pk=membership_id)
    form = RoleForm(request.POST, mine=request.membership.role)
    error = "" if form.is_valid() else "Choose a role that your own role may give."
    try:
        if not error:
            actions.change_role(membership=member, role=form.cleaned_data["role"], by=request.user, at=app_now())
    except actions.Refused as refusal:
        error = str(refusal)
    return _after_role(request, member, error)


def _after_role(request: HttpRequest, member: Membership, error: str) -> HttpResponse:
    status = 422 if error else 200
    if request.htmx:
        # One's own role decides the rest of the page, so that it is loaded anew.
        if member.user_id == request.user.pk and not error:
            return HttpResponse(headers={"HX-Redirect": resolve_url("member_list", request.team.slug)})
        context = {"row": _row(request, member, error), "manages": True}
        return render(request, "accounts/_member_row.html", context, status=status)
    if error:
        context = _people(request, app_now()) | {"error": error}
        return render(request, "accounts/member_list.html", context, status=status)
    messages.success(request, "Role changed")
    return redirect("member_list", request.team.slug)


@team_view(Permission.MEMBER_MANAGE)
def member_remove(request: HttpRequest, membership_id: UUID) -> HttpResponse:
    """Say what removing means, then do it."""
    member = get_object_or_404(_members(request), pk=membership_id)
    error = ""
    if request.method == "POST":
        try:
            actions.remove_member(membership=member, by=request.user, at=app_now())
        except actions.Refused as refusal:
            error = str(refusal)
        else:
            messages.success(request, "Member removed")
            return redirect("member_list", request.team.slug) if member.user != request.user else redirect("home")
    context = {"member": member, "error": error}
    return render(request, "accounts/member_remove.html", context, status=422 if error else 200)


@never_cache
@team_view(Permission.MEMBER_MANAGE)
def member_invite(request: HttpRequest) -> HttpResponse:
    """Ask whom to invite as what, then show the link: once."""
    form = InviteForm(request.POST or None, mine=request.membership.role, team=request.team)
    if request.method == "POST" and form.is_valid():
        if too_often := asked_too_often(request, "invite"):
            return too_often
        try:
            invitation, token = actions.invite_member(
                team=request.team, **form.cleaned_data, by=request.user, at=app_now()
            )
        except actions.Refused as refusal:
            form.add_error(None, str(refusal))
        else:
            return _show_link(request, invitation, token)
    return render(request, "accounts/member_invite.html", {"form": form}, status=form_status(form))


@never_cache
@require_POST
@team_view(Permission.MEMBER_MANAGE)
def invitation_renew(request: HttpRequest, invitation_id: UUID) -> HttpResponse:
    invitation = get_object_or_404(request.team.invitations, pk=invitation_id)
    if too_often := asked_too_often(request, "invite"):
        return too_often
    try:
        token = actions.renew_invitation(invitation=invitation, by=request.user, at=app_now())
    except actions.Refused as refusal:
        messages.error(request, str(refusal))
        return redirect("member_list", request.team.slug)
    return _show_link(request, invitation, token)


@require_POST
@team_view(Permission.MEMBER_MANAGE)
def invitation_revoke(request: HttpRequest, invitation_id: UUID) -> HttpResponse:
    invitation = get_object_or_404(request.team.invitations, pk=invitation_id)
    try:
        actions.revoke_invitation(invitation=invitation, by=request.user, at=app_now())
        messages.success(request, "Invitation revoked")
    except actions.InvitationGone as gone:
        messages.error(request, str(gone))
    return redirect("member_list", request.team.slug)


def _show_link(request: HttpRequest, invitation: Invitation, token: str) -> HttpResponse:
    url = settings.BASE_URL + resolve_url("invitation_accept", token)
    mailed = bool(invitation.email) and mail_invitation(invitation=invitation, url=url)
    context = {"invitation": invitation, "link": url, "mailed": mailed}
    return render(request, "accounts/invitation_link.html", context)
