"""The way in, the person's own pages, and a team's members."""

from allauth.account import views as allauth
from django.urls import path, re_path

from accounts import plan_views, views

# Exactly the pages of allauth that we use.
ways_in = [
    path("account/login/", allauth.login, name="account_login"),
    path("account/logout/", allauth.logout, name="account_logout"),
    path("account/signup/", views.SignUp.as_view(), name="account_signup"),
    path("account/inactive/", allauth.account_inactive, name="account_inactive"),
    path("account/confirm-email/", allauth.email_verification_sent, name="account_email_verification_sent"),
    re_path(r"^account/confirm-email/(?P<key>[-:\w]+)/$", allauth.confirm_email, name="account_confirm_email"),
    path("account/password/change/", allauth.password_change, name="account_change_password"),
    path("account/password/set/", allauth.password_set, name="account_set_password"),
    path("account/password/reset/", allauth.password_reset, name="account_reset_password"),
    path("account/password/reset/done/", allauth.password_reset_done, name="account_reset_password_done"),
    re_path(
        r"^account/password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        allauth.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path(
        "account/password/reset/key/done/",
        allauth.password_reset_from_key_done,
        name="account_reset_password_from_key_done",
    ),
    path("invite/<str:token>/", views.invitation_accept, name="invitation_accept"),
    path("sign-in/<str:token>/", views.sign_in_link, name="sign_in_link"),
    path("setup/<str:token>/", views.first_owner, name="first_owner"),
]

urlpatterns = [
    *ways_in,
    path("", views.home, name="home"),
    path("account/", views.account, name="account"),
    path("account/confirm/send/", views.address_confirm, name="address_confirm"),
    path("teams/new/", views.team_create, name="team_create"),
    path("teams/switch/", views.team_switch, name="team_switch"),
]

team_urlpatterns = [
    path("members/", views.member_list, name="member_list"),
    path("members/invite/", views.member_invite, name="member_invite"),
    path("members/<uuid:membership_id>/role/", views.member_role, name="member_role"),
    path("members/<uuid:membership_id>/remove/", views.member_remove, name="member_remove"),
    path("members/invitations/<uuid:invitation_id>/renew/", views.invitation_renew, name="invitation_renew"),
    path("members/invitations/<uuid:invitation_id>/revoke/", views.invitation_revoke, name="invitation_revoke"),
    path("plan/", plan_views.plan, name="plan"),
    path("plan/change/<slug:plan_key>/", plan_views.plan_change, name="plan_change"),
    path("plan/add/<slug:pack_key>/", plan_views.pack_add, name="pack_add"),
    path("settings/", views.team_settings, name="team_settings"),
]
