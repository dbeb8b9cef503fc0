"""Pictures: each frame is a page, drawn upright on white for text recognition."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from ingestion.errors import ParseError
from ingestion.parsing.formats import MAX_PAGES
from ingestion.types import ParsedDocument

_MAX_PIXELS = 100_000_000
# Letters of small pictures are too low to be recognised; larger ones gain nothing.
_WANTED_PIXELS = 1_500
_LARGEST_PIXELS = 5_000
_MAX_FACTOR = 3
# Animations repeat themselves; of these formats more frames are no further pages.
_ANIMATED = frozenset({"GIF", "WEBP", "PNG", "AVIF"})

Image.MAX_IMAGE_PIXELS = _MAX_PIXELS
warnings.simplefilter("error", Image.DecompressionBombWarning)


def parse(path: Path) -> ParsedDocument:
    """Count the pages of a picture; its text is recognised later."""
    with _opened(path) as image:
        pages = 1 if image.format in _ANIMATED else int(getattr(image, "n_frames", 1))
        if pages > MAX_PAGES:
            raise ParseError(f"{pages} frames", code="too_large")
        _drawn(image)  # so that a damaged file is refused here
    return ParsedDocument(elements=[], pages=pages, pictures=range(1, pages + 1))


def draw(path: Path, pages: Sequence[int], folder: Path, *, turn: int) -> None:
    """Write these frames, from 1, as `<page>.png` in shades of grey."""
    with _opened(path) as image:
        for page in pages:
            image.seek(page - 1)
            drawn = _drawn(image)
            darkest, lightest = drawn.getextrema()
            if darkest != lightest:
                drawn.rotate(turn, expand=True).save(folder / f"{page}.png", compress_level=1)


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise ParseError(str(exc), code="too_large") from exc
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as exc:
        raise ParseError(f"not a picture: {exc}", code="corrupt") from exc


def _drawn(image: Image.Image) -> Image.Image:
    """The frame in grey: turned as its camera says, on white where it is transparent."""
    if image.width * image.height > _MAX_PIXELS:
        raise ParseError(f"{image.width} x {image.height} pixels", code="too_large")
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        upright = _on_white(upright.convert("RGBA"))
    if upright.mode.startswith("I;16") or upright.mode in ("I", "F"):
        upright = _stretched(upright)
    grey = upright.convert("L")
    longest = max(grey.size)
    factor = min(_MAX_FACTOR, _WANTED_PIXELS / longest)
    factor = max(factor, 1.0) if longest <= _LARGEST_PIXELS else _LARGEST_PIXELS / longest
    if factor == 1.0:
        return grey
    size = (max(1, round(grey.width * factor)), max(1, round(grey.height * factor)))
    return grey.resize(size, Image.Resampling.LANCZOS)


def _on_white(image: Image.Image) -> Image.Image:
    """On white, or on black where what is drawn is white itself."""
    shown = image.getchannel("A")
    bright = image.convert("L").resize((64, 64)), shown.resize((64, 64))
    weights = [
        (value, alpha) for value, alpha in zip(*map(list, map(_pixels, bright)), strict=True)
    ]
    visible = sum(alpha for _, alpha in weights)
    mean = sum(value * alpha for value, alpha in weights) / visible if visible else 0
    is_part = visible < 0.9 * 255 * len(weights)
    background = (0, 0, 0) if is_part and mean > 200 else (255, 255, 255)
    paper = Image.new("RGB", image.size, background)
    paper.paste(image, mask=shown)
    return paper


def _pixels(image: Image.Image) -> bytes:
    return image.tobytes()


def _stretched(image: Image.Image) -> Image.Image:
    """Values of more than eight bits, spread over eight."""
    wide = image.convert("F")
    darkest, lightest = wide.getextrema()
    assert isinstance(darkest, float)
    assert isinstance(lightest, float)
    span = (lightest - darkest) or 1.0
    return wide.point(lambda value: value * (255.0 / span) - darkest * 255.0 / span).convert("L")
