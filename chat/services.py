"""Taking a question: checked, stored as a turn, ready to be answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from chat import answering, branches
from chat.answering import Draft, Tell
from chat.conf import chat_services
from chat.errors import PassageGone, QuestionRefused
from chat.forms import MAX_QUESTION_CHARACTERS
from chat.models import Conversation, Turn
from chat.types import ChatServices, TurnOptions
from ingestion.models import Corpus
from ingestion.passages import readable
from ingestion.types import EVERYTHING, DocumentFilter
from search import judging
from search.models import Judgement
from search.types import Trace

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

TITLE_CHARACTERS = 80


def ask(
    *,
    person: User | AnonymousUser,
    question: str,
    corpora: Sequence[Corpus],
    conversation: Conversation | None = None,
    despite_doubt: bool = False,
    only: DocumentFilter | None = None,
    follows: int | None = None,
    model: str | None = None,
    rewrites: bool | None = None,
) -> Turn:
    """Store a question as a PENDING turn; `chat.turns.start` then answers it.

    Without a conversation one is begun, with the question as its title. The conversation's
    scope becomes these corpora.

    Args:
        person: who asks.
        question: 1 to 10,000 characters, white space around it aside.
        corpora: what to search; all must be readable by the person.
        conversation: one of the person's own to go on with.
        despite_doubt: as for `chat.answering.write`.
        only: which documents are searched from now on in this conversation; None for what it has.
        follows: id of the turn of this conversation that the question goes on from; None for
            the last one of the branch that is shown.
        model: the language model from now on in this conversation, "" for the site's; None
            for what it has. `rewrites`, whether follow-up questions are rewritten, likewise.

    Raises:
        QuestionRefused: something of this does not hold; nothing was stored.
    """
    question = checked_question(question)
    readable = _readable(person, corpora)
    if conversation is not None and conversation.owner_id != person.pk:
        raise QuestionRefused("This conversation no longer exists. Start a new one.")
    assert person.pk is not None  # nobody but a person of the site reads any corpus
    with transaction.atomic():
        if conversation is None:
            conversation = Conversation.objects.create(owner_id=person.pk, title=title(question))
        else:
            changed: dict[str, Any] = {"updated_at": timezone.now()}
            if not conversation.title:
                changed["title"] = title(question)
            Conversation.objects.filter(pk=conversation.pk).update(**changed)
        conversation.corpora.set(readable)
        chosen: dict[str, Any] = {"model": model, "rewrites": rewrites}
        if only is not None:
            chosen["labels"] = [*map(list, only.labels)]
            chosen["documents"] = list(only.documents)
        if chosen := {name: value for name, value in chosen.items() if value is not None}:
            Conversation.objects.filter(pk=conversation.pk).update(**chosen)
        return _grow(
            conversation,
            parent_id=_last_turn(conversation) if follows is None else follows,
            question=question,
            despite_doubt=despite_doubt,
        )


def ask_again(turn: Turn, *, question: str, options: TurnOptions) -> Turn:
    """Store a question beside an earlier turn, as another version of it, as a PENDING turn.

    The earlier one, and what followed it, stay as another branch.

    Args:
        turn: of a conversation of the person who asks; the caller has checked it.
        question: in the same words or others.
        options: what it is to be done with this time.

    Raises:
        QuestionRefused: it cannot be asked; nothing was stored.
    """
    question = checked_question(question)
    conversation = turn.conversation
    with transaction.atomic():
        Conversation.objects.filter(pk=conversation.pk).update(updated_at=timezone.now())
        return _grow(
            conversation,
            parent_id=turn.parent_id,
            question=question,
            despite_doubt=turn.despite_doubt,
            options=options.to_json(),
        )


def show_branch(turn: Turn) -> None:
    """Show the branch through this turn from now on, as far as it was gone last."""
    leaf = branches.newest_leaf(turn.conversation.parents(), turn.pk)
    Conversation.objects.filter(pk=turn.conversation_id).update(leaf=leaf)


def _readable(person: User | AnonymousUser, corpora: Sequence[Corpus]) -> list[Corpus]:
    """These corpora, read anew. Raises QuestionRefused if the person may not read one."""
    wanted = {corpus.pk for corpus in corpora}
    if not wanted:
        raise QuestionRefused("Choose at least one corpus to ask.")
    readable = list(Corpus.objects.readable_by(person).filter(pk__in=wanted))
    if len(readable) < len(wanted):
        raise QuestionRefused(
            "One of the chosen corpora no longer exists. Reload the page and choose again."
        )
    return readable


def _last_turn(conversation: Conversation) -> int | None:
    shown = conversation.way()
    return shown[-1].turn_id if shown else None


def _grow(conversation: Conversation, *, parent_id: int | None, **fields: Any) -> Turn:
    """A new turn, which ends the branch that is shown from now on."""
    if parent_id is not None and not conversation.turns.filter(pk=parent_id).exists():
        raise QuestionRefused("This conversation has changed meanwhile. Reload the page.")
    turn = Turn.objects.create(conversation=conversation, parent_id=parent_id, **fields)
    Conversation.objects.filter(pk=conversation.pk).update(leaf=turn)
    conversation.leaf = turn
    return turn


def judge(*, person: User, turn: Turn, chunk_id: str, is_relevant: bool) -> int | None:
    """Keep whether a passage that was found for a turn answers it.

    Args:
        person: who judges, and may see the turn; the caller has checked it.
        chunk_id: of one of the candidates of the turn's trace.

    Returns:
        The grade that stands now; None where the same word was taken back.

    Raises:
        PassageGone: it is no candidate of this turn, or the person may not read it any more.
    """
    trace = Trace.from_json(turn.trace) if turn.trace else None
    found = [c for c in trace.candidates if c.chunk_id == chunk_id] if trace else []
    passage = readable([chunk_id], reader=person).get(chunk_id)
    if trace is None or not found or passage is None:
        raise PassageGone(f"turn {turn.pk} has no passage {chunk_id} to judge")
    return judging.judge(
        person=person,
        question=trace.question,
        passage=passage,
        grade=Judgement.Grade.RELEVANT if is_relevant else Judgement.Grade.NOT_RELEVANT,
        journey=judging.journey(trace, found[0], turn_id=turn.pk),
    )


def answer_once(
    question: str,
    *,
    corpora: Sequence[Corpus],
    services: ChatServices | None = None,
    tell: Tell = lambda name, data: None,
    only: DocumentFilter = EVERYTHING,
) -> Draft:
    """Answer a question outside any conversation; nothing is stored. Blocking.

    Args:
        question: as for `ask`.
        corpora: what the asking person may read; the caller has checked it.
        services: what to answer with; by default what the settings name.
        tell: called with each thing that happens, see `chat.answering`.
        only: which documents are searched.

    Returns:
        The answer with its sources and trace; its state is DONE or INTERRUPTED.

    Raises:
        QuestionRefused: the question is empty or too long.
    """
    draft = Draft(question=checked_question(question))

    async def answer() -> None:
        given = services or chat_services(only)
        await answering.write(draft, corpora=corpora, services=given, tell=tell)
        await given.line.settled()

    asyncio.run(answer())
    draft.text = draft.text.rstrip()
    cited = set(draft.cited)
    draft.sources = [{**source, "cited": source["rank"] in cited} for source in draft.sources]
    return draft


def checked_question(question: str) -> str:
    """The question without white space around it. Raises QuestionRefused if it cannot be asked."""
    question = question.replace("\x00", "").strip()
    if not question:
        raise QuestionRefused("The question is empty. Type a question first.")
    if len(question) > MAX_QUESTION_CHARACTERS:
        raise QuestionRefused(
            f"The question has {len(question):,} characters; at most {MAX_QUESTION_CHARACTERS:,} "
            "are possible. Shorten it, or upload the text as a document and ask about it."
        )
    return question


def title(question: str) -> str:
    """The beginning of a question, cut between words, on one line."""
    flat = " ".join(question.split())
    if len(flat) <= TITLE_CHARACTERS:
        return flat
    cut = flat[: TITLE_CHARACTERS - 1]
    if flat[len(cut)] != " ":
        cut = cut.rpartition(" ")[0] or cut
    return f"{cut.rstrip(' ,;:.–-')}…"
