"""Every address. Pages of a team live under /t/<team>/; each names the permission it needs."""

from django.urls import include, path

import accounts.urls
import audit.urls
import integrations.urls
import personas.urls
from definable import health
from personas.views.chat_stream import chat_stream
from personas.views.triggers import trigger_in

team_urlpatterns = [
    *accounts.urls.team_urlpatterns,
    *audit.urls.team_urlpatterns,
    *integrations.urls.team_urlpatterns,
    *personas.urls.team_urlpatterns,
]

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("", include("accounts.urls")),
    path("t/<slug:team_slug>/", include(team_urlpatterns)),
    path("hooks/<str:address>", trigger_in, name="trigger_in"),
    path("stream/t/<slug:team_slug>/chats/<uuid:chat_id>/", chat_stream, name="chat_stream"),
]

handler400 = "definable.errors.bad_request"
handler403 = "definable.errors.permission_denied"
handler404 = "definable.errors.page_not_found"
handler429 = "definable.errors.too_many_requests"  # asked for by allauth
handler500 = "definable.errors.server_error"
