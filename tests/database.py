"""The test database, for processes that a test starts."""

from __future__ import annotations

from django.db import connection


def database_url() -> str:
    """DATABASE_URL of the database that this test writes to, on SQLite or PostgreSQL."""
    given = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{given['NAME']}"
    secret = f":{given['PASSWORD']}" if given["PASSWORD"] else ""
    return f"postgres://{given['USER']}{secret}@{given['HOST']}:{given['PORT']}/{given['NAME']}"
