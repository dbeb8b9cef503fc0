"""Rules that hold for all of the source: what is never called, written or trusted."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.test import Client

from ragsite.processes import ROOT
from ragsite.shared_cache import SharedCache

APPS = ("ragsite", "chat", "search", "ingestion", "inference", "telemetry")
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "yaml", "jinja2"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "os.system", "os.popen", "Template.from_string"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# The one place where text becomes HTML.
SAFE = {"chat/render.py"}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for app in APPS:
        for path in (ROOT / app).rglob("*.py"):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def test_nothing_stored_or_sent_is_ever_unpickled_or_executed() -> None:
    found = []
    for name, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported = {(node.module or "").split(".")[0]} if not node.level else set()
            else:
                imported = set()
            found += [f"{name}: import {one}" for one in imported & FORBIDDEN_IMPORTS]
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                shell = any(k.arg == "shell" for k in node.keywords)
                pickles = any(k.arg == "allow_pickle" for k in node.keywords)
                pickles = pickles and "allow_pickle=True" in ast.unparse(node)
                if called in FORBIDDEN_CALLS or shell or pickles:
                    found.append(f"{name}: {called}")

    assert found == []


def test_views_find_things_through_what_a_person_may_see_and_ask_for_a_token() -> None:
    """A child goes by its parent's key or its owner; what administrators alone reach is named."""
    for_administrators = {"Invitation", "ModelPull"}
    after_a_check = {("ingestion/views.py", "delete"), ("ingestion/label_views.py", "_form")}
    found = []
    for name, tree in sources():
        assert "csrf_exempt" not in ast.unparse(tree), name
        if not name.endswith(("views.py", "keeping.py")):
            continue
        for function in (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)):
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                called = ast.unparse(call.func)
                if called.endswith(".objects.get"):
                    found.append((name, function.name, called))
                if not called.endswith("get_object_or_404"):
                    continue
                whole = isinstance(call.args[0], ast.Name) and call.args[0].id[0].isupper()
                by_owner = any("owner" in (keyword.arg or "") for keyword in call.keywords)
                if whole and not by_owner and ast.unparse(call.args[0]) not in for_administrators:
                    found.append((name, function.name, ast.unparse(call)))

    assert {(name, function) for name, function, _ in found} == after_a_check, found


def test_html_has_one_producer() -> None:
    marked = {name for name, tree in sources() if "mark_safe(" in ast.unparse(tree)}
    assert marked <= SAFE
    for template in (path for path in templates() if path.suffix != ".txt"):  # mails
        text = template.read_text()
        assert not re.search(r"\|\s*safe\b|autoescape off", text), template
    for script in (ROOT / "static" / "js").glob("*.js"):
        assert not re.search(r"(inner|outer)HTML\s*=|insertAdjacentHTML|eval\(", script.read_text())


def templates() -> Iterator[Path]:
    yield from (path for path in (ROOT / "templates").rglob("*") if path.is_file())


def test_no_page_has_inline_script_or_style() -> None:
    inline = re.compile(
        r"<script(?![^>]*\bsrc=)(?![^>]*type=\"application/json\")|<style|\son[a-z]+=\"|\sstyle=\"|javascript:"
    )
    found = {str(p): inline.findall(p.read_text()) for p in templates() if p.suffix != ".svg"}
    assert {name: hits for name, hits in found.items() if hits} == {}


def test_messages_sessions_and_tasks_are_json() -> None:
    from ragsite.celery import app

    assert settings.SESSION_SERIALIZER == "django.contrib.sessions.serializers.JSONSerializer"
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == app.conf.result_serializer == "json"
    # What other processes read is JSON; what this one alone reads may be pickled.
    assert {alias: type(caches[alias]) for alias in settings.CACHES} == {
        "default": SharedCache,
        "here": LocMemCache,
    }


@pytest.mark.django_db
def test_every_answer_has_the_strict_policy(client: Client, alice: User) -> None:
    client.force_login(alice)
    for address in ("/chat/", "/corpora/", "/inspector/", "/status/", "/account/", "/nowhere/"):
        headers = client.get(address).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy, address
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


def started(tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    code = "from django.conf import settings; print(settings.SECRET_KEY)"
    given = {k: v for k, v in os.environ.items() if not k.startswith("SECRET_KEY")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={
            **given,
            "DATA_DIR": str(tmp_path),
            "DJANGO_SETTINGS_MODULE": "ragsite.settings",
            **env,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "key", ["changeme", "change-me-please-change-me-please-change-me", "a" * 60, "short8Zq"]
)
def test_the_site_does_not_start_with_a_key_that_can_be_guessed(tmp_path: Path, key: str) -> None:
    refused = started(tmp_path, SECRET_KEY=key)

    assert refused.returncode != 0
    assert "SECRET_KEY can be guessed" in refused.stderr
    assert key not in refused.stderr


def test_a_key_comes_from_a_file_or_is_made_once_for_the_operator_alone(tmp_path: Path) -> None:
    key = "kq3T-8Rz_vB1mN5xW7yP2sD4fG6hJ9aL0cEuIoQw"
    (tmp_path / "key").write_text(key)
    named = started(tmp_path, SECRET_KEY_FILE=str(tmp_path / "key"))
    assert named.stdout.strip() == key

    first, second = started(tmp_path), started(tmp_path)

    assert first.stdout == second.stdout != ""
    assert len(first.stdout.strip()) >= 50
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600
