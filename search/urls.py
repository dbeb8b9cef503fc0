"""Addresses of the search pages."""

from django.urls import path

from search import evaluation_views, inspector_views, views

app_name = "search"
urlpatterns = [
    path("corpora/<int:corpus_id>/index/compare/", views.compare, name="compare"),
    path("corpora/<int:corpus_id>/search/", views.settings, name="settings"),
    path("corpora/<int:corpus_id>/judgements.zip", views.judgements, name="judgements"),
    path("inspector/", inspector_views.ask, name="inspector"),
    path("inspector/<int:inspection_id>/", inspector_views.inspection, name="inspection"),
    path(
        "inspector/<int:inspection_id>/export.json",
        inspector_views.export,
        {"kind": "json"},
        name="export_json",
    ),
    path(
        "inspector/<int:inspection_id>/export.csv",
        inspector_views.export,
        {"kind": "csv"},
        name="export_csv",
    ),
    path(
        "inspector/<int:inspection_id>/passages/<str:chunk_id>/",
        inspector_views.passage,
        name="passage",
    ),
    path(
        "inspector/<int:inspection_id>/passages/<str:chunk_id>/judgement/",
        inspector_views.judge,
        name="judge",
    ),
    path(
        "inspector/<int:inspection_id>/settings/<int:corpus_id>/",
        inspector_views.copy,
        name="copy",
    ),
    path("evaluation/", evaluation_views.index, name="evaluation"),
    path("evaluation/start/", evaluation_views.start, name="start_evaluation"),
    path("evaluation/compare/", evaluation_views.compare, name="compare_runs"),
    path("evaluation/<int:run_id>/", evaluation_views.run, name="evaluation_run"),
    path("evaluation/<int:run_id>/state/", evaluation_views.state, name="evaluation_state"),
    path("evaluation/<int:run_id>/stop/", evaluation_views.stop, name="stop_evaluation"),
    path("evaluation/<int:run_id>/delete/", evaluation_views.delete, name="delete_evaluation"),
    path("evaluation/<int:run_id>/pool/", evaluation_views.use_pool, name="use_pool"),
    path("evaluation/<int:run_id>/report.json", evaluation_views.export, name="export_evaluation"),
]
