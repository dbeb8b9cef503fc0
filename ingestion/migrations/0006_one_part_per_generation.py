import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("ingestion", "0005_parts_of_generations")]
    operations = [
        migrations.AlterField(
            model_name="documentpart",
            name="generation",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="parts",
                to="ingestion.indexgeneration",
            ),
        ),
        migrations.AddConstraint(
            model_name="documentpart",
            constraint=models.UniqueConstraint(
                fields=("document", "generation", "ordinal"), name="one_part_per_ordinal"
            ),
        ),
    ]
