"""What was asked one after the other becomes the only branch of its conversation."""

from django.db import migrations


def chain(apps, schema_editor):
    """Each turn follows the one before it; the last one ends the branch that is shown."""
    Conversation = apps.get_model("chat", "Conversation")
    Turn = apps.get_model("chat", "Turn")
    for conversation_id in Conversation.objects.values_list("pk", flat=True):
        before = None
        turns = Turn.objects.filter(conversation_id=conversation_id).order_by("pk")
        for pk in list(turns.values_list("pk", flat=True)):
            Turn.objects.filter(pk=pk).update(parent_id=before)
            before = pk
        Conversation.objects.filter(pk=conversation_id).update(leaf_id=before)


class Migration(migrations.Migration):

    dependencies = [
        ("chat", "0005_branches"),
    ]

    operations = [
        migrations.RunPython(chain, migrations.RunPython.noop),
    ]
