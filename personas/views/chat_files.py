"""Files that members gave in chats, shown to those who may read the chat."""

from uuid import UUID

from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_safe

from accounts.permissions import Permission
from accounts.teams import team_view
from personas.chat import uploads
from vault.errors import Unreadable


@require_safe
@team_view(Permission.CHAT_VIEW)
def chat_file(request: HttpRequest, file_id: UUID) -> HttpResponse:
    """
    One file as it was given. A picture is shown; a document is saved, so that it opens outside the site.

    Whoever gave it reads it, sent or not; others read it with the chat that is shared with them.
    """
    mine, shared = Q(owner=request.user), Q(message__chat__shared_at__isnull=False)
    attachment = get_object_or_404(request.team.attachments.filter(mine | shared), pk=file_id)
    try:
        data = uploads.read(attachment=attachment)
    except Unreadable:
        raise Http404 from None
    response = HttpResponse(data, content_type=attachment.media_type)
    is_picture = attachment.media_type in uploads.PICTURES
    response["Content-Disposition"] = content_disposition_header(not is_picture, attachment.name)
    response.is_foreign = True
    return response
