// Where a passage stands on a page of a PDF. The passage was read from the same page by
// another library, so blanks, hyphens and line ends may differ: only letters and digits are
// compared. The order may differ as well, in tables above all; then its pieces are looked for. A
// piece that stands on the page once is certain, one that stands there twice is not, and where
// too little is certain nothing is placed.
const SURE = 0.85; // share of the passage's letters that must be found
const SHORTEST = 8; // letters; what is shorter is not halved any more
const CELL = /\n| \| /; // how the reading of a page sets lines and cells apart
const LETTER = /[\p{L}\p{N}]/u;

/** The letters of the texts, and for each of them where it is: [text, character]. */
function lettersOf(texts) {
  let letters = "";
  const places = [];
  texts.forEach((text, item) => {
    let at = 0;
    for (const character of text) {
      for (const letter of character.normalize("NFKC").toLowerCase()) {
        if (!LETTER.test(letter)) continue;
        letters += letter;
        for (let unit = 0; unit < letter.length; unit++) places.push([item, at]);
      }
      at += character.length;
    }
  });
  return { letters, places };
}

/** Where `piece` stands in `whole` if it stands there once, else -1. */
function onlyPlace(whole, piece) {
  const first = whole.indexOf(piece);
  return first >= 0 && whole.indexOf(piece, first + 1) < 0 ? first : -1;
}

/** Ranges [start, end) of `whole` that hold `piece`, in halves where it is not there whole. */
function ranges(whole, piece) {
  const at = piece ? onlyPlace(whole, piece) : -1;
  if (at >= 0) return [[at, at + piece.length]];
  if (piece.length < 2 * SHORTEST) return [];
  const middle = Math.floor(piece.length / 2);
  return [...ranges(whole, piece.slice(0, middle)), ...ranges(whole, piece.slice(middle))];
}

/**
 * Which characters of the page's texts the passage is made of.
 *
 * @param {string[]} texts the texts of the page, in the order in which the page draws them
 * @param {string} passage what of the passage stands on this page
 * @returns {{item: number, start: number, end: number}[]} nothing where the place is not certain
 */
export function placeOf(texts, passage) {
  const page = lettersOf(texts);
  const wanted = lettersOf([passage]).letters;
  if (!wanted) return [];
  const isSure = (found) => found.reduce((sum, [start, end]) => sum + end - start, 0) >= SURE * wanted.length;
  let found = ranges(page.letters, wanted);
  if (!isSure(found)) {
    const pieces = passage.split(CELL).map((piece) => lettersOf([piece]).letters);
    found = pieces.flatMap((piece) => ranges(page.letters, piece));
    if (!isSure(found)) return [];
  }
  const parts = new Map();
  for (const [start, end] of found) {
    for (let n = start; n < end; n++) {
      const [item, at] = page.places[n];
      const part = parts.get(item);
      if (!part) parts.set(item, { item, start: at, end: at + 1 });
      else {
        part.start = Math.min(part.start, at);
        part.end = Math.max(part.end, at + 1);
      }
    }
  }
  for (const part of parts.values()) {
    // The full stop after the last letter belongs to it.
    const text = texts[part.item];
    while (part.end < text.length && /[^\s\p{L}\p{N}]/u.test(text[part.end])) part.end++;
  }
  return [...parts.values()];
}
