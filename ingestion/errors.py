"""What can go wrong between an upload and a searchable document.

IngestionError
├── PermanentError          never retried by itself; `code` names the sentence a person reads
│   ├── ParseError          the file cannot be read: password, corrupt, no_text, empty,
│   │                       unsupported, type_mismatch, too_large, too_slow, undecodable
│   ├── ParserCrashed       the parser's own process died on this file: parser_crashed
│   ├── UploadRefused       the upload was not accepted: duplicate, too_large, empty, disk_full ...
│   └── RebuildRefused      a rebuild cannot begin, be put into use or be taken back now
└── TransientError          retried: a service is away
    ├── VectorStoreError    Chroma does not answer, or answers with an error
    ├── LexicalIndexError   the lexical index cannot be read or written now
    └── EmbedderChanged     the model server embeds with another model than the corpus has

`SENTENCES` gives for every stored code the full sentence that people read.
"""

from __future__ import annotations

SENTENCES: dict[str, str] = {
    "password": "The file is protected by a password. Remove the password and upload it again.",
    "corrupt": "The file is damaged and cannot be read. Open it in its own program, save it anew "
    "and upload that copy.",
    "no_text": "No text was found in the file. If it is a scan, run text recognition (OCR) on it "
    "and upload the result.",
    "empty": "The file is empty. Check that it was saved and upload it again.",
    "unsupported": "This kind of file cannot be read. Upload PDF, DOCX, HTML, Markdown or plain "
    "text.",
    "type_mismatch": "The content of the file is not what its name says. Give it its right "
    "extension and upload it again.",
    "too_large": "The file is larger than this site accepts. Split it and upload the parts.",
    "too_slow": "Reading the file took longer than the time limit. Split it and upload the parts.",
    "undecodable": "The text uses an encoding that could not be recognised. Save it as UTF-8 and "
    "upload it again.",
    "parser_crashed": "The reader crashed on this file three times, so it was set aside. The rest "
    "of the corpus is not affected.",
    "duplicate": "This corpus already holds a file with exactly this content.",
    "disk_full": "The disk is nearly full, so uploads are refused. Ask the administrator to free "
    "some space.",
    "vector_store": "The vector store is not reachable. Processing goes on by itself once it is "
    "back.",
    "lexical_index": "The keyword index cannot be written at the moment. Processing goes on by "
    "itself.",
    "inference_unreachable": "The model server is not reachable. Processing goes on by itself "
    "once it is back.",
    "inference_busy": "The model server is busy. Processing goes on by itself.",
    "inference_late": "The model server did not answer in time. Processing goes on by itself.",
    "model_loading": "The model is still loading. Processing goes on by itself.",
    "no_model": "No embedding model is installed on the model server. Ask the administrator.",
    "inference_rejected": "The model server refused a passage of this file. The administrator can "
    "see the details.",
    "inference_error": "The model server answered with an error. Processing goes on by itself.",
    "embedder_changed": "The model server now uses another embedding model than this corpus was "
    "built with. Rebuild the corpus on its page “Index”, or ask the administrator to set the "
    "former model again.",
    "rebuild_running": "A rebuild of this corpus is under way. Wait until it is complete, or "
    "cancel it.",
    "nothing_to_rebuild": "No document of this corpus is ready, so there is nothing to rebuild. "
    "What is uploaded now is cut as the settings say.",
    "chunks_too_long": "The embedding model reads fewer tokens than that at once. Choose smaller "
    "passages.",
    "not_building": "There is no rebuild under way: it was cancelled, or is in use already. Load "
    "the page again.",
    "not_complete": "Documents are still being built. Wait until the rebuild is complete.",
    "has_failed": "Some documents could not be built. Try them again, or say that the new index is "
    "to be used without them.",
    "nothing_to_roll_back_to": "There is no former index to go back to; it is kept for a day.",
    "database": "The database was busy or unreachable. Processing goes on by itself.",
    "file_missing": "The stored file is missing. Delete the document and upload the file again.",
    "not_found": "There is no such file. Check the path.",
    "unreadable": "The file may not be read. Check its permissions.",
    "deleted": "The document was deleted before it was ready.",
    "corpus_gone": "This corpus has been deleted. Choose another one.",
    "internal_error": "Something unexpected went wrong. The administrator can see the details; "
    "try again later.",
}


class IngestionError(Exception):
    """Root of every ingestion error. `code` is stored; the text is for the log."""

    code = "internal_error"

    def __init__(self, message: str = "", *, code: str | None = None) -> None:
        super().__init__(message or code or self.code)
        if code is not None:
            self.code = code

    @property
    def sentence(self) -> str:
        """What a person reads."""
        return SENTENCES.get(self.code, SENTENCES["internal_error"])


class PermanentError(IngestionError):
    """Trying again gives the same result."""


class TransientError(IngestionError):
    """Trying again may work."""


class ParseError(PermanentError):
    """The file cannot be read; `code` says why."""

    code = "corrupt"


class ParserCrashed(PermanentError):
    """The parser's child process died or hit a limit on this file."""

    code = "parser_crashed"


class UploadRefused(PermanentError):
    """The upload was not accepted; nothing was stored.

    `document_id` is the document that the corpus already holds when the code is `duplicate`.
    """

    code = "unsupported"

    def __init__(
        self, message: str = "", *, code: str | None = None, document_id: int | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.document_id = document_id


class RebuildRefused(PermanentError):
    """A rebuild cannot begin, be put into use or be taken back now; nothing has changed."""

    code = "not_building"


class VectorStoreError(TransientError):
    """Chroma does not answer, or answers with an error."""

    code = "vector_store"


class LexicalIndexError(TransientError):
    """The lexical index cannot be read or written now."""

    code = "lexical_index"


class EmbedderChanged(TransientError):
    """The model server embeds with another model than the index was built with."""

    code = "embedder_changed"
