"""Every address. Pages of a team live under /t/<team>/; each names the permission it needs."""

from django.urls import include, path

urlpatterns = []
