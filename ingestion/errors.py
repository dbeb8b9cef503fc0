"""What can go wrong between an upload and a searchable document.

IngestionError
├── PermanentError          never retried by itself; `code` names the sentence a person reads
│   ├── ParseError          the file cannot be read: password, corrupt, no_text, empty,
│   │                       unsupported, type_mismatch, too_large, too_slow, undecodable,
│   │                       no_text_without_ocr, no_text_without_language
│   ├── ParserCrashed       the parser's own process died on this file: parser_crashed
│   ├── UploadRefused       the upload was not accepted: duplicate, too_large, empty, disk_full ...
│   │   └── QuotaReached    a corpus or a person may hold no more
│   ├── SharingRefused      a corpus cannot be shared so, or given to that person
│   ├── InvalidLabel        tags or metadata were typed in a way that means nothing
│   ├── RebuildRefused      a rebuild cannot begin, be put into use or be taken back now
│   └── PreviewRefused      it cannot be shown how a document would be cut
└── TransientError          retried: a service is away
    ├── VectorStoreError    Chroma does not answer, or answers with an error
    ├── LexicalIndexError   the lexical index cannot be read or written now
    └── EmbedderChanged     the model server embeds with another model than the corpus has

`SENTENCES` gives for every stored code the full sentence that people read; `NOTICES` does so
for what was left out of a file that could be read otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable

from ingestion.types import Notice

ACCEPTED_KINDS = (
    "PDF, Word, PowerPoint, Excel, OpenDocument, RTF, EPUB, HTML, Markdown, reStructuredText, "
    "plain text, CSV, JSON, XML, notebooks, e-mail (EML, MSG), pictures, or a ZIP of these"
)

SENTENCES: dict[str, str] = {
    "password": "The file is protected by a password or by rights management. Remove the "
    "protection and upload it again.",
    "corrupt": "The file is damaged and cannot be read. Open it in its own program, save it anew "
    "and upload that copy.",
    "no_text": "No text was found in the file. If it shows text, upload a sharper scan or a copy "
    "with text in it.",
    "no_text_without_ocr": "No text was found in the file: it holds pictures only, and Tesseract, "
    "which recognises the text in pictures, is not installed. Ask the administrator to install it "
    "(on Debian and Ubuntu: apt install tesseract-ocr), then retry.",
    "no_text_without_language": "No text was found in the file: it holds pictures only, and "
    "Tesseract lacks the languages that OCR_LANGUAGES names. Ask the administrator to install "
    "them (on Debian and Ubuntu, for German: apt install tesseract-ocr-deu), then retry.",
    "empty": "The file is empty. Check that it was saved and upload it again.",
    "unsupported": f"This kind of file cannot be read. Upload {ACCEPTED_KINDS}.",
    "nested_archive": "This is an archive inside an archive, which is not opened. Upload it by "
    "itself.",
    "type_mismatch": "The content of the file is not what its name says. Give it its right "
    "extension and upload it again.",
    "too_large": "The file, or what unpacks from it, is larger than this site accepts. Split it "
    "and upload the parts.",
    "too_slow": "Reading the file took longer than the time limit. Split it and upload the parts.",
    "undecodable": "The text uses an encoding that could not be recognised. Save it as UTF-8 and "
    "upload it again.",
    "parser_crashed": "The reader crashed on this file three times, so it was set aside. The rest "
    "of the corpus is not affected.",
    "quota": "The corpus or its owner may hold no more. Delete documents, or ask the administrator "
    "for more room.",
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
    "preview_too_slow": "Reading this file takes too long for a preview. Choose a shorter one.",
    "preview_without_model": "Cutting by meaning needs the model server, which does not answer. "
    "Try again when it is back.",
    "nothing_to_roll_back_to": "There is no former index to go back to; it is kept for a day.",
    "database": "The database was busy or unreachable. Processing goes on by itself.",
    "file_missing": "The stored file is missing. Upload the same file again to put it back.",
    "file_damaged": "The stored file has changed on the disk. Upload the same file again to put it "
    "back.",
    "no_export": "This is not the export of a corpus. Choose a ZIP that was made by “Export” on a "
    "corpus page.",
    "import_crashed": "The import was interrupted several times at the same place and was given "
    "up. What was taken by then is in the corpus; the administrator can see the details.",
    "not_found": "There is no such file. Check the path.",
    "unreadable": "The file may not be read. Check its permissions.",
    "deleted": "The document was deleted before it was ready.",
    "corpus_gone": "This corpus has been deleted. Choose another one.",
    "internal_error": "Something unexpected went wrong. The administrator can see the details; "
    "try again later.",
}

NOTICES: dict[str, str] = {
    "hidden_sheets": "Hidden sheets left out: {count}. Unhide them and upload the file again if "
    "their content matters.",
    "hidden_slides": "Hidden slides left out: {count}. Unhide them and upload the file again if "
    "their content matters.",
    "unread_attachments": "Attachments that were not read, or not wholly: {count}. Save them and "
    "upload them by themselves if their content matters.",
    "damaged_pages": "Pages that are damaged and were left out: {count}.",
    "without_ocr": "Pages that are pictures and were not read: {count}. Tesseract, which "
    "recognises the text in pictures, is not installed. Ask the administrator to install it (on "
    "Debian and Ubuntu: apt install tesseract-ocr), then upload the file again.",
    "without_language": "Pages that are pictures and were not read: {count}. Tesseract lacks the "
    "languages that OCR_LANGUAGES names. Ask the administrator to install them, then upload the "
    "file again.",
    "ocr_too_slow": "Pages that are pictures and were not read in the time allowed: {count}. Split "
    "the file and upload the parts.",
    "ocr_failed": "Pages that are pictures and on which text recognition failed: {count}. Upload "
    "a better scan of them.",
}


def notice_text(notices: Iterable[Notice]) -> str:
    """The sentences of these notices, as one text."""
    return " ".join(NOTICES[notice.code].format(count=notice.count) for notice in notices)


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


class QuotaReached(UploadRefused):
    """A corpus or a person may hold no more; the message is for people."""

    code = "quota"

    def __init__(self, message: str) -> None:
        super().__init__(message, code=self.code)

    @property
    def sentence(self) -> str:
        """What a person reads."""
        return str(self)


class SharingRefused(PermanentError):
    """A corpus cannot be shared so, or given to that person; the message is for people."""

    code = "sharing_refused"

    @property
    def sentence(self) -> str:
        """What a person reads."""
        return str(self)


class InvalidLabel(PermanentError):
    """Tags or metadata were typed in a way that means nothing; the message is for people."""

    code = "invalid_label"

    @property
    def sentence(self) -> str:
        """What a person reads."""
        return str(self)


class RebuildRefused(PermanentError):
    """A rebuild cannot begin, be put into use or be taken back now; nothing has changed."""

    code = "not_building"


class PreviewRefused(PermanentError):
    """It cannot be shown how a document would be cut."""

    code = "corrupt"


class VectorStoreError(TransientError):
    """Chroma does not answer, or answers with an error."""

    code = "vector_store"


class LexicalIndexError(TransientError):
    """The lexical index cannot be read or written now."""

    code = "lexical_index"


class EmbedderChanged(TransientError):
    """The model server embeds with another model than the index was built with."""

    code = "embedder_changed"
