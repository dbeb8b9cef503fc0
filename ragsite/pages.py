"""Addresses of sign-in, account, health and status."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from ragsite import views

urlpatterns = [
    path("login/", views.SignIn.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("sign-in/", views.sign_in_by_link, name="sign-in"),
    path("account/", views.account, name="account"),
    path("status/", views.status, name="status"),
    path("status/checks/", views.status_checks, name="status-checks"),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
]
