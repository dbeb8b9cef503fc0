"""Parts belong to the generation of their document's chunks; generations know their sizes."""

from django.conf import settings
from django.db import migrations
from django.db.models import OuterRef, Subquery


def fill(apps, schema_editor):
    Chunk = apps.get_model("ingestion", "Chunk")
    DocumentPart = apps.get_model("ingestion", "DocumentPart")
    IndexGeneration = apps.get_model("ingestion", "IndexGeneration")
    IndexGeneration.objects.update(
        chunk_max_tokens=settings.CHUNK_MAX_TOKENS,
        chunk_overlap_tokens=settings.CHUNK_OVERLAP_TOKENS,
    )
    chunks = Chunk.objects.filter(document=OuterRef("document")).order_by()
    DocumentPart.objects.update(generation=Subquery(chunks.values("generation")[:1]))
    # Without chunks a document has to be read again in any case, which makes its parts anew.
    DocumentPart.objects.filter(generation=None).delete()


class Migration(migrations.Migration):
    dependencies = [("ingestion", "0004_options_and_rebuilds")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
