"""`manage.py demo`: the main job in the terminal."""

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand

from ragsite import samples, sign_in
from ragsite.local_services import NeedsServices

QUESTIONS = (
    "What is reciprocal rank fusion and why is k 60?",
    "How do I read the scores beside an answer?",
    "What happens when Ollama is not running?",
)


class Command(NeedsServices, BaseCommand):
    """Ingest the samples, ask three questions, show answers, sources, scores and times."""

    help = "The main job without a browser: ingest samples/, ask three questions, show the sources."
    services = frozenset({"chroma", "inference", "redis"})

    def handle(self, *args: object, **options: Any) -> None:
        """Fails with the exit status of the step that failed."""
        person = sign_in.first_administrator()
        paths = [str(path) for path in samples.sample_files()]
        self.note(f"Ingesting {len(paths)} sample documents …")
        scope = (f"--corpus={samples.SAMPLE_CORPUS}", f"--as={person.username}")
        call_command("ingest", *paths, "--wait", *scope)
        for question in QUESTIONS:
            self.stdout.write(f"\n{'─' * 78}\n{question}\n")
            call_command("ask", question, *scope)
