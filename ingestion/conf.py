"""The edge where Django's settings become `IngestionSettings`."""

import hashlib
from pathlib import Path

from django.conf import settings

from ingestion.types import ChunkOptions, IngestionSettings, QuotaSettings


def ingestion_settings() -> IngestionSettings:
    """Read the settings as they are now (tests point them at their own processes)."""
    return IngestionSettings(
        site=hashlib.sha256(f"site:{settings.SECRET_KEY}".encode()).hexdigest()[:16],
        data_dir=settings.DATA_DIR,
        chroma_url=settings.CHROMA_URL,
        chroma_token=settings.CHROMA_TOKEN,
        chroma_dir=settings.CHROMA_DIR,
        embed_url=settings.EMBED_URL,
        embedding_model=settings.EMBEDDING_MODEL,
        upload_max_bytes=settings.UPLOAD_MAX_MB * 1024 * 1024,
        disk_floor_bytes=settings.DISK_FLOOR_MB * 1024 * 1024,
        chunk=ChunkOptions(
            max_tokens=settings.CHUNK_MAX_TOKENS, overlap_tokens=settings.CHUNK_OVERLAP_TOKENS
        ),
        parse_timeout_seconds=settings.PARSE_TIMEOUT_SECONDS,
        parse_memory_bytes=settings.PARSE_MEMORY_MB * 1024 * 1024,
        ocr_languages=settings.OCR_LANGUAGES,
        ocr_timeout_seconds=settings.OCR_TIMEOUT_SECONDS,
        lease_seconds=settings.INGEST_LEASE_SECONDS,
        watch_folder=Path(settings.WATCH_FOLDER) if settings.WATCH_FOLDER else None,
    )


def quota_settings() -> QuotaSettings:
    """The site's limits, as they are now."""
    return QuotaSettings(
        corpus_mb=settings.QUOTA_CORPUS_MB,
        corpus_documents=settings.QUOTA_CORPUS_DOCUMENTS,
        person_mb=settings.QUOTA_PERSON_MB,
        person_documents=settings.QUOTA_PERSON_DOCUMENTS,
    )
