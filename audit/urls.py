"""Addresses of the log's pages, below a team's."""

from django.urls import path

from audit import views

team_urlpatterns = [
    path("audit/", views.event_list, name="event_list"),
    path("audit/export/", views.event_export, name="event_export"),
    path("audit/<uuid:event_id>/", views.event_detail, name="event_detail"),
]
