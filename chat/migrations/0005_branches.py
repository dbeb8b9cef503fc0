import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("chat", "0004_labels_of_a_conversation"),
    ]

    operations = [
        migrations.AddField(
            model_name="conversation",
            name="model",
            field=models.CharField(
                blank=True,
                help_text="Language model of its answers; empty: the site's.",
                max_length=200,
            ),
        ),
        migrations.AddField(
            model_name="conversation",
            name="rewrites",
            field=models.BooleanField(
                default=True,
                help_text="Whether follow-up questions are rewritten to stand alone.",
            ),
        ),
        migrations.AddField(
            model_name="conversation",
            name="leaf",
            field=models.ForeignKey(
                blank=True,
                help_text="The last turn of the branch that is shown.",
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="chat.turn",
            ),
        ),
        migrations.AddField(
            model_name="turn",
            name="parent",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="replies",
                to="chat.turn",
            ),
        ),
        migrations.AddField(
            model_name="turn",
            name="options",
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddField(
            model_name="turn",
            name="stage",
            field=models.CharField(blank=True, max_length=600),
        ),
    ]
