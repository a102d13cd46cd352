"""The door to a team's pages: finds the team, turns strangers away, asks for the permission."""

from collections.abc import Callable
from functools import wraps

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse

from accounts.models import Membership
from accounts.permissions import Permission, Role

View = Callable[..., HttpResponse]


def team_view(permission: Permission) -> Callable[[View], View]:
    """
    Guard a page under /t/<team_slug>/.

    Sets request.team and request.membership and calls the view without `team_slug`. A team that
    is not yours looks like one that does not exist. Nothing of the request is read before that.
    Raises Http404 and PermissionDenied.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args, team_slug: str, **kwargs) -> HttpResponse:
            request.membership = _membership(request, team_slug)
            request.team = request.membership.team
            if not request.membership.allows(permission):
                raise PermissionDenied(_refusal(request.membership))
            return view(request, *args, **kwargs)

        guarded.permission = permission
        return guarded

    return decorate


def _membership(request: HttpRequest, team_slug: str) -> Membership:
    memberships = request.user.memberships.select_related("team__plan")
    membership = memberships.filter(team__slug=team_slug).first()
    if membership is None:
        raise Http404
    return membership


def _refusal(membership: Membership) -> str:
    return f"Your role in {membership.team.name} is {Role(membership.role).label}, and it does not include this."
