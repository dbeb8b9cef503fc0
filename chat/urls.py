"""Addresses of the chat pages."""

from django.urls import path

from chat import keeping, model_views, views

app_name = "chat"
urlpatterns = [
    path("", views.new, name="new"),
    path("conversations/", views.conversations, name="conversations"),
    path("documents/", views.documents, name="documents"),
    path("<int:conversation_id>/", views.conversation, name="conversation"),
    path("<int:conversation_id>/earlier/", views.earlier, name="earlier"),
    path("<int:conversation_id>/rename/", views.rename, name="rename"),
    path("<int:conversation_id>/delete/", views.delete, name="delete"),
    path("<int:conversation_id>/pin/", keeping.pin, name="pin"),
    path("<int:conversation_id>/share/", keeping.share, name="share"),
    path("<int:conversation_id>/export.<str:kind>", keeping.export, name="export"),
    path("shared/<str:key>/", keeping.shared, name="shared"),
    path("turns/<int:turn_id>/text/", keeping.turn_text, name="turn_text"),
    path("turns/<int:turn_id>/rating/", keeping.rate, name="rate"),
    path("models/", model_views.models, name="models"),
    path("models/pulls/", model_views.pull, name="pull"),
    path("models/pulls/<int:pull_id>/stream/", model_views.pull_stream, name="pull_stream"),
    path("models/pulls/<int:pull_id>/cancel/", model_views.cancel_pull, name="cancel_pull"),
    path("turns/", views.ask, name="ask"),
    path("turns/<int:turn_id>/stream/", views.stream, name="stream"),
    path("turns/<int:turn_id>/stop/", views.stop, name="stop"),
    path("turns/<int:turn_id>/sources/", views.sources, name="sources"),
    path("turns/<int:turn_id>/inspect/", views.inspect, name="inspect"),
    path("turns/<int:turn_id>/again/", views.ask_again, name="again"),
    path("turns/<int:turn_id>/show/", views.show_branch, name="show"),
    path("turns/<int:turn_id>/anyway/", views.answer_anyway, name="answer_anyway"),
    path("turns/<int:turn_id>/sources/<str:chunk_id>/judgement/", views.judge, name="judge"),
]
