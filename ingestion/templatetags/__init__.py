"""Template filters of the ingestion pages."""
