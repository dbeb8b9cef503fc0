"""Addresses of the search pages."""

from django.urls import path

from search import views

app_name = "search"
urlpatterns = [
    path("corpora/<int:corpus_id>/index/compare/", views.compare, name="compare"),
]
