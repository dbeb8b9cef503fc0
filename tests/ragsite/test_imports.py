"""The site and its workers start fast: no model library or vendor loads with them."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "sentence_transformers", "transformers", "chromadb", "tantivy", "ollama", "docx")


@pytest.mark.parametrize("module", ["ragsite.asgi", "ragsite.urls", "ingestion.tasks"])
def test_importing_the_site_loads_no_model_library(module: str) -> None:
    code = f"""
import django, importlib, os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "ragsite.settings"
django.setup()
importlib.import_module({module!r})
print(",".join(name for name in {HEAVY!r} if name in sys.modules))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == ""
