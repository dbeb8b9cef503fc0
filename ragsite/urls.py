"""Addresses of the site."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="chat:new"), name="home"),
    path("chat/", include("chat.urls")),
    path("", include("ingestion.urls")),
    path("", include("search.urls")),
    path("", include("ragsite.pages")),
    path("admin/", admin.site.urls),
]
