"""Addresses of the integrations' pages, below a team's."""

from django.urls import path

from integrations import consent_views, limit_views, model_views, provider_views, views

team_urlpatterns = [
    path("integrations/", views.integration_list, name="integration_list"),
    path("integrations/<slug:integration>/", views.integration_detail, name="integration_detail"),
    path("integrations/<slug:integration>/connect/", views.connection_create, name="connection_create"),
    path("integrations/<slug:integration>/catalog/read/", views.catalog_read, name="catalog_read"),
    path("integrations/<slug:integration>/consent/", consent_views.consent_create, name="consent_create"),
    path("integrations/<slug:integration>/callback/", consent_views.consent_callback, name="consent_callback"),
    path("consents/<uuid:consent_id>/", consent_views.consent_detail, name="consent_detail"),
    path("consents/<uuid:consent_id>/code/", consent_views.consent_code, name="consent_code"),
    path("connections/<uuid:connection_id>/", views.connection_detail, name="connection_detail"),
    path("connections/<uuid:connection_id>/at-once/", views.connection_at_once, name="connection_at_once"),
    path("connections/<uuid:connection_id>/test/", views.connection_test, name="connection_test"),
    path("connections/<uuid:connection_id>/revoke/", views.connection_revoke, name="connection_revoke"),
    path("models/", model_views.model_list, name="model_list"),
    path("models/providers/", provider_views.provider_list, name="provider_list"),
    path("limits/", limit_views.limit_list, name="limit_list"),
    path("limits/new/", limit_views.limit_create, name="limit_create"),
    path("limits/<uuid:cap_id>/", limit_views.limit_edit, name="limit_edit"),
    path("limits/<uuid:cap_id>/end/", limit_views.limit_end, name="limit_end"),
]
