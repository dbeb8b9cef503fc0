"""Addresses of sign-in, account, health and status."""

from allauth.account import views as account_views
from allauth.socialaccount import views as social_views
from django.contrib.auth.decorators import login_not_required
from django.urls import include, path, re_path

from ragsite import measures, operator_views, views

urlpatterns = [
    path("sign-in/", views.sign_in_by_link, name="sign-in"),
    path("join/<str:key>/", views.join, name="join"),
    path("people/", views.people, name="people"),
    path("people/<int:invitation_id>/revoke/", views.revoke_invitation, name="revoke-invitation"),
    path("overview/", operator_views.overview, name="overview"),
    path("queue/", operator_views.queue, name="queue"),
    path("queue/now/", operator_views.queue_now, name="queue-now"),
    path("rerankers/", operator_views.reranker_list, name="rerankers"),
    path("clinic/", operator_views.query_clinic, name="clinic"),
    path("account/", views.account, name="account"),
    path("status/", views.status, name="status"),
    path("status/checks/", views.status_checks, name="status-checks"),
    path("healthz", views.healthz, name="healthz"),
    path("metrics", measures.metrics, name="metrics"),
    path("readyz", views.readyz, name="readyz"),
    # What django-allauth does, as far as the site uses it.
    path("login/", views.SignIn.as_view(), name="account_login"),
    path("logout/", views.SignOut.as_view(), name="account_logout"),
    path("inactive/", account_views.account_inactive, name="account_inactive"),
    path("signup/", account_views.signup, name="account_signup"),
    path("reauthenticate/", account_views.reauthenticate, name="account_reauthenticate"),
    path("account/email/", account_views.email, name="account_email"),
    path("password/reset/", account_views.password_reset, name="account_reset_password"),
    path(
        "password/reset/done/",
        account_views.password_reset_done,
        name="account_reset_password_done",
    ),
    re_path(
        r"^password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        account_views.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path(
        "password/reset/key/done/",
        account_views.password_reset_from_key_done,
        name="account_reset_password_from_key_done",
    ),
    path("account/sessions/", include("allauth.usersessions.urls")),
    path("account/two-factor/", include("allauth.mfa.urls")),
    path("sso/cancelled/", social_views.login_cancelled, name="socialaccount_login_cancelled"),
    path(
        "sso/error/", login_not_required(social_views.login_error), name="socialaccount_login_error"
    ),
    path("sso/signup/", social_views.signup, name="socialaccount_signup"),
    path("account/sso/", social_views.connections, name="socialaccount_connections"),
    path("sso/", include("allauth.socialaccount.providers.openid_connect.urls")),
]
