"""How far a reranker reads a passage that is too long for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.engines import Reranker


def read_characters(engine: Reranker, question: str, passage: str) -> int | None:
    """How many characters of a passage the model reads beside this question.

    A pair loses the end of its passage, so what is read are the first tokens of it: as many
    as stand at the end of the encoded pair.

    Returns:
        None where the tokenizer does not tell where its tokens stand, or cuts otherwise.
    """
    tokenizer = engine.model.tokenizer
    if not tokenizer.is_fast or not engine.tells_what_it_read:
        return None
    (pair,) = engine.encode(question, [passage])
    ids = list(pair.ids["input_ids"])
    special = set(tokenizer.all_special_ids)
    while ids and ids[-1] in special:
        ids.pop()
    with engine._tokenizing:
        whole = tokenizer(
            passage,
            add_special_tokens=False,
            truncation=False,
            return_offsets_mapping=True,
            verbose=False,
        )
    own: list[int] = whole["input_ids"]
    most = min(len(own), len(ids))
    tokens = next((n for n in range(most, 0, -1) if ids[len(ids) - n :] == own[:n]), 0)
    room: int | None = getattr(engine.model[0], "passage_tokens", None)
    if room is not None:
        tokens = min(tokens, room - 2)  # its start and its end take two
    return int(whole["offset_mapping"][tokens - 1][1]) if tokens else None
