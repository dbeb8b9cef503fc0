"""Addresses of sign-in, account, health and status."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
