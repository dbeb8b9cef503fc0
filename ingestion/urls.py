"""Addresses of the ingestion pages."""

from django.urls import path

from ingestion import (
    archive_views,
    index_views,
    label_views,
    sharing_views,
    viewer_views,
    views,
)

app_name = "ingestion"
urlpatterns = [
    path("corpora/", views.corpora, name="corpora"),
    path("corpora/new/", views.create_corpus, name="create_corpus"),
    path("corpora/import/", archive_views.import_corpus, name="import_corpus"),
    path("corpora/imports/", archive_views.imports, name="imports"),
    path("corpora/imports/<int:import_id>/hide/", archive_views.hide_import, name="hide_import"),
    path("corpora/<int:corpus_id>/export/", archive_views.export_corpus, name="export_corpus"),
    path("corpora/<int:corpus_id>/", views.corpus, name="corpus"),
    path("corpora/<int:corpus_id>/settings/", views.edit_corpus, name="edit_corpus"),
    path("corpora/<int:corpus_id>/delete/", views.delete_corpus, name="delete_corpus"),
    path("corpora/<int:corpus_id>/documents/", views.upload, name="upload"),
    path("corpora/<int:corpus_id>/documents/table/", views.documents, name="documents"),
    path("corpora/<int:corpus_id>/documents/retry/", views.retry, name="retry"),
    path("corpora/<int:corpus_id>/documents/again/", views.read_again, name="read_again"),
    path("corpora/<int:corpus_id>/documents/delete/", views.delete, name="delete"),
    path("corpora/<int:corpus_id>/documents/enabled/", views.set_enabled, name="set_enabled"),
    path("corpora/<int:corpus_id>/documents/labels/", label_views.edit_labels, name="labels"),
    path("corpora/<int:corpus_id>/pause/", label_views.pause, name="pause"),
    path("corpora/<int:corpus_id>/queue/", views.queue, name="queue"),
    path("corpora/<int:corpus_id>/sharing/", sharing_views.share, name="share"),
    path(
        "corpora/<int:corpus_id>/sharing/<int:share_id>/",
        sharing_views.change_share,
        name="change_share",
    ),
    path("corpora/<int:corpus_id>/transfer/", sharing_views.transfer, name="transfer"),
    path("corpora/<int:corpus_id>/leave/", sharing_views.leave, name="leave"),
    path("corpora/<int:corpus_id>/index/", index_views.index, name="index"),
    path("corpora/<int:corpus_id>/index/state/", index_views.index_state, name="index_state"),
    path("corpora/<int:corpus_id>/index/preview/", index_views.preview, name="preview"),
    path("corpora/<int:corpus_id>/index/rebuild/", index_views.rebuild, name="rebuild"),
    path("deletions/", views.deletions, name="deletions"),
    path("documents/<int:document_id>/", views.document, name="document"),
    path("documents/<int:document_id>/alone/", label_views.stand_alone, name="stand_alone"),
    path("documents/<int:document_id>/viewer/", viewer_views.viewer, name="viewer"),
    path("documents/<int:document_id>/pages/<int:number>/", viewer_views.page, name="page"),
    path("documents/<int:document_id>/file/", views.original, name="original"),
]
