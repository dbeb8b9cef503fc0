"""From bytes to text: byte-order mark, UTF-8, a declared charset, then the likeliest old one."""

from __future__ import annotations

import codecs
import re

from ingestion.errors import ParseError

# UTF-32 first: its little-endian mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE_BYTES = 256 * 1024
# So many do not make a short text a binary file.
_FEW_CONTROLS = 3
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\x08\x1b")
_PUNCTUATION = frozenset("€‚ƒ„…†‡ˆ‰‹‘’“”•–—˜™›¡¢£¥¦§¨©«¬®¯°±´¶·¸»¿\u00a0\u00ad²³¹½¼¾ªº×÷µ")
_WESTERN = frozenset("äöüßéèêëàâáãåæçíìîïñóòôõøœúùûÄÖÜÉÈÊËÀÂÁÃÅÆÇÍÌÎÏÑÓÒÔÕØŒÚÙÛŸÿ")
_TURKISH = frozenset("çğıöşüâîûÇĞİÖŞÜÂÎÛ")
_CENTRAL = frozenset("áäąăâćčçďđéěęëíîĺľłńňóöôőřŕśšşťţúůüűýźžżßÁÄĄĂÂĆČÇĎĐÉĚĘËÍÎŁŃÓÖÔŐŘŚŠŤÚŮÜŰÝŹŽŻ")
_HALF_WIDTH = re.compile("[\uff61-\uff9f]")
# The page with the fewest characters that its languages do not use wins; the first of equals.
_LATIN_PAGES = (
    ("cp1252", _WESTERN),
    ("iso8859-15", _WESTERN),
    ("cp1254", _TURKISH),
    ("cp1250", _CENTRAL),
    ("iso8859-2", _CENTRAL),
    ("mac_roman", _WESTERN),
)


def decode(content: bytes, *, declared: str = "") -> str:
    """Decode the bytes of a text file.

    In this order: byte-order mark, the encodings that shift with escapes, UTF-8, UTF-16
    without a mark, the declared charset, a Latin code page where few letters are not ASCII,
    and what charset-normalizer finds.

    Args:
        content: the whole file.
        declared: the charset that the file itself names, if it does.

    Raises:
        ParseError: `type_mismatch` if these are not bytes of a text, `undecodable` if no
            encoding fits.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace")
    if (text := _with_escapes(content, declared)) is not None:
        return text
    try:
        return _without_nul(content.decode("utf-8"))
    except UnicodeDecodeError:
        pass
    if encoding := _unmarked_utf16(content[:_SAMPLE_BYTES]):
        return content.decode(encoding, "replace")
    if b"\0" in content:
        raise ParseError("NUL bytes in a text file", code="type_mismatch")
    if (text := _damaged_utf8(content)) is not None:
        return text
    if declared and (text := _declared(content, declared)) is not None:
        return text
    return _legacy(content)


def looks_like_text(sample: bytes) -> bool:
    """Whether the beginning of a file can be text in some encoding; binary formats are not."""
    if sample.startswith(tuple(mark for mark, _ in _MARKS)) or _unmarked_utf16(sample):
        return True
    if b"\0" in sample:
        return False
    controls = sum(1 for byte in sample if byte < 32 and byte not in _TEXT_CONTROLS)
    return controls * 100 <= max(len(sample), _FEW_CONTROLS * 100)


def _with_escapes(content: bytes, declared: str) -> str | None:
    """Text in bytes of ASCII whose sequences switch the alphabet, as old Asian mail is written."""
    label = declared.strip().lower()
    if label.startswith(("iso-2022", "iso2022", "hz-gb", "utf-7")):
        return _declared(content, label)
    if b"\x1b$" not in content or not content.isascii():
        return None
    page = "iso2022_kr" if b"\x1b$)C" in content else "iso2022_jp_ext"
    return _declared(content, page)


def _without_nul(text: str) -> str:
    if "\0" in text:
        # UTF-16 of ASCII text is valid UTF-8 with a NUL after every letter.
        if encoding := _unmarked_utf16(text[:_SAMPLE_BYTES].encode()):
            return text.encode().decode(encoding, "replace")
        raise ParseError("NUL bytes in a text file", code="type_mismatch")
    return text


def _unmarked_utf16(sample: bytes) -> str:
    """The byte order of UTF-16 without a mark, told by where the zero bytes stand."""
    even, odd = sample[0::2], sample[1::2]
    if len(odd) < 8:
        return ""
    zeros_even, zeros_odd = even.count(0) / len(even), odd.count(0) / len(odd)
    if zeros_odd > 0.4 and zeros_even < 0.02:
        return "utf-16-le"
    if zeros_even > 0.4 and zeros_odd < 0.02:
        return "utf-16-be"
    return ""


def _damaged_utf8(content: bytes) -> str | None:
    """UTF-8 with a few bad bytes, as in a file cut in the middle of a letter."""
    text = content.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    good = sum(1 for character in text[:_SAMPLE_BYTES] if character > "\x7f") - bad
    return text if good > 20 * bad else None


def _declared(content: bytes, charset: str) -> str | None:
    label = charset.strip().lower()
    # Browsers read these labels as Windows-1252 (WHATWG Encoding, section 4.2).
    if label in ("iso-8859-1", "latin1", "latin-1", "ascii", "us-ascii"):
        label = "cp1252"
    try:
        return content.decode(label)
    except (LookupError, UnicodeDecodeError, ValueError):
        return None


def _legacy(content: bytes) -> str:
    sample = content[:_SAMPLE_BYTES]
    letters = sum(1 for byte in sample if byte > 0x7F or chr(byte).isalpha())
    foreign = sum(1 for byte in sample if byte > 0x7F)
    if foreign * 10 <= letters * 4 and (text := _latin(content)) is not None:
        return text

    from charset_normalizer import from_bytes

    match = from_bytes(sample).best()
    encoding = _mistaken(sample, "" if match is None else match.encoding)
    if not encoding:
        raise ParseError("no encoding fits", code="undecodable")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        text = content.decode(encoding, "replace")
        if text.count("\ufffd") * 100 > len(text):
            raise ParseError("no encoding fits", code="undecodable") from None
        return text


def _mistaken(sample: bytes, encoding: str) -> str:
    """The encoding that was found, or the one that it is often taken for."""
    if not encoding:
        return ""
    text = sample.decode(encoding, "replace")
    foreign = [character for character in text if character > "\x7f"]
    if len(_HALF_WIDTH.findall(text)) * 2 > len(foreign) and _decoded(sample, "koi8-r"):
        return "koi8-r"
    # Hebrew in the place of lower case in the one is upper case in the other.
    is_raised = encoding.startswith("koi8") and all(map(str.isupper, foreign))
    if is_raised and _decoded(sample, "cp1255"):
        return "cp1255"
    return encoding


def _decoded(sample: bytes, encoding: str) -> str:
    """The text, or nothing if these are no bytes of this encoding."""
    try:
        return sample.decode(encoding)
    except UnicodeDecodeError:
        return ""


def _latin(content: bytes) -> str | None:
    """The text in the Latin code page whose languages explain it best, or None."""
    best: tuple[float, str] | None = None
    for page, letters in _LATIN_PAGES:
        try:
            text = content.decode(page)
        except UnicodeDecodeError:
            continue
        strangers = _strangers(text[:_SAMPLE_BYTES], letters)
        if best is None or strangers < best[0]:
            best = (strangers, text)
    return best[1] if best and best[0] <= 0.2 else None


def _strangers(text: str, letters: frozenset[str]) -> float:
    """Share of the non-ASCII characters that no word or sentence of the page's languages holds."""
    foreign = list(re.finditer(r"[^\x00-\x7f]", text))
    strange = 0
    for match in foreign:
        character, at = match.group(), match.start()
        inside_word = text[at - 1 : at].isalpha() and text[at + 1 : at + 2].isalpha()
        if character in letters:
            continue
        if character in _PUNCTUATION and (not inside_word or character == "’"):
            continue
        strange += 1
    return strange / max(len(foreign), 1)
