"""The embedder's own tokenizer, to size passages by what the model will read.

Only the `tokenizers` library and the model's `tokenizer.json`; no torch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from inference.models_on_disk import embedder_folder
from ingestion.errors import TransientError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Long texts are tokenised in pieces, because an encoding takes about 120 bytes a token.
_PIECE_CHARACTERS = 50_000
# WordPiece gives up on longer words and makes them one unknown token.
_WORD_CHARACTERS = 100
_CHARACTERS_PER_TOKEN = 8


class PassageTokenizer:
    """Counts and locates tokens, without the truncation and padding that the file may set."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def count(self, text: str) -> int:
        """Tokens that the model reads for this text, special tokens included."""
        return len(self._tokenizer.encode(text).ids)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Character ranges of the text's tokens in order, special tokens left out.

        A word too long for the model's vocabulary, one unknown token to it, is reported as
        several, so that a text without blanks can be cut.
        """
        found: list[tuple[int, int]] = []
        for start, end in _pieces(text):
            encoding = self._tokenizer.encode(text[start:end], add_special_tokens=False)
            for a, b in encoding.offsets:
                if b - a > _WORD_CHARACTERS:
                    cuts = range(start + a, start + b, _CHARACTERS_PER_TOKEN)
                    found += [(c, min(c + _CHARACTERS_PER_TOKEN, start + b)) for c in cuts]
                elif b > a:
                    found.append((start + a, start + b))
        return found


@lru_cache(maxsize=4)
def load_tokenizer(embedding_model: str) -> PassageTokenizer:
    """The tokenizer of the embedding model, loaded once per process.

    Args:
        embedding_model: as in the setting EMBEDDING_MODEL: the packaged model, a folder, or
            a name of the model hub, whose tokenizer is fetched if it is not in its cache.

    Raises:
        TransientError: `no_model`; there is no tokenizer to be had now.
    """
    from tokenizers import Tokenizer

    try:
        folder = embedder_folder(embedding_model)
        if folder is None:
            return PassageTokenizer(Tokenizer.from_pretrained(embedding_model))
        return PassageTokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")))
    except Exception as exc:  # the library raises bare Exception
        raise TransientError(f"{embedding_model}: {exc}", code="no_model") from exc


def _pieces(text: str) -> list[tuple[int, int]]:
    """Ranges of at most `_PIECE_CHARACTERS` that end at white space where there is some."""
    pieces: list[tuple[int, int]] = []
    start = 0
    while len(text) - start > _PIECE_CHARACTERS:
        end = start + _PIECE_CHARACTERS
        blank = max(text.rfind(" ", start, end), text.rfind("\n", start, end))
        end = blank + 1 if blank > start else end
        pieces.append((start, end))
        start = end
    return [*pieces, (start, len(text))]
