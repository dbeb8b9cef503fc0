// The viewer beside the chat: draws the pages of a PDF with the passage marked, or brings the
// mark of a text into view. PDF.js is loaded when the first PDF is opened.
import { placeOf } from "./passage-place.js";

const SVG = "http://www.w3.org/2000/svg";
const MOST_PAGES = 3;
const UNSURE = "The place of the passage on this page is not certain, so nothing is marked.";
const FAILED = "The document could not be shown here. Open its own page, or read the passage as text.";
let opened = null; // the document on view: {element, pdf, passages}

function note(element, sentence) {
  const line = element.querySelector("[data-viewer-note]");
  line.hidden = !sentence;
  line.querySelector("span").textContent = sentence;
}

function passagesOf(element) {
  const parts = [...element.querySelectorAll("[data-passage-page]")];
  return new Map(parts.map((part) => [Number(part.dataset.passagePage), part.textContent]));
}

/** Rectangles of the passage in the coordinates of the viewport; none where it is not certain. */
function marksOf(content, viewport, passage) {
  const items = content.items.filter((item) => "str" in item);
  return placeOf(items.map((item) => item.str), passage).map(({ item, start, end }) => {
    const { str, transform, width, height } = items[item];
    const tall = height || Math.hypot(transform[2], transform[3]);
    const left = transform[4] + (width * start) / str.length;
    const right = transform[4] + (width * end) / str.length;
    const low = transform[5] - 0.22 * tall;
    const [a, b, c, d, e, f] = viewport.transform;
    const [x1, y1] = [a * left + c * low + e, b * left + d * low + f];
    const high = low + 1.25 * tall;
    const [x2, y2] = [a * right + c * high + e, b * right + d * high + f];
    return { x: Math.min(x1, x2), y: Math.min(y1, y2), width: Math.abs(x2 - x1), height: Math.abs(y2 - y1) };
  });
}

async function draw(view, number) {
  const page = await view.pdf.getPage(number);
  const pages = view.element.querySelector("[data-viewer-pages]");
  const plain = page.getViewport({ scale: 1 });
  const scale = Math.min(4, (Math.max(320, pages.clientWidth) / plain.width) * Math.max(1, devicePixelRatio));
  const viewport = page.getViewport({ scale });
  const sheet = document.createElement("div");
  sheet.className = "viewer-sheet";
  sheet.dataset.page = number;
  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil(viewport.width);
  canvas.height = Math.ceil(viewport.height);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Page ${number} of ${view.element.dataset.name}`);
  sheet.append(canvas);
  await page.render({ canvas, canvasContext: canvas.getContext("2d"), viewport }).promise;
  const passage = view.passages.get(number);
  if (!passage) return { sheet, isMarked: true };
  const marks = marksOf(await page.getTextContent(), viewport, passage);
  const layer = document.createElementNS(SVG, "svg");
  layer.setAttribute("class", "viewer-marks");
  layer.setAttribute("viewBox", `0 0 ${canvas.width} ${canvas.height}`);
  layer.setAttribute("aria-hidden", "true");
  for (const mark of marks) {
    const rect = document.createElementNS(SVG, "rect");
    for (const [name, value] of Object.entries(mark)) rect.setAttribute(name, value.toFixed(1));
    layer.append(rect);
  }
  sheet.append(layer);
  return { sheet, isMarked: marks.length > 0 };
}

/** Show these pages and nothing else. */
async function show(view, numbers) {
  const pages = view.element.querySelector("[data-viewer-pages]");
  const drawn = [];
  for (const number of numbers) drawn.push(await draw(view, number));
  if (opened !== view) return; // something else was opened meanwhile
  view.first = numbers[0];
  view.last = numbers.at(-1);
  pages.replaceChildren(...drawn.map(({ sheet }) => sheet));
  const unsure = drawn.some(({ isMarked }) => !isMarked);
  note(view.element, unsure ? UNSURE : "");
  const which = numbers.length > 1 ? `pages ${numbers[0]}–${numbers.at(-1)}` : `page ${numbers[0]}`;
  view.element.querySelector("[data-page-label]").textContent = `${which} of ${view.pdf.numPages}`;
  view.element.querySelector("[data-page-step='-1']").disabled = view.first <= 1;
  view.element.querySelector("[data-page-step='1']").disabled = view.last >= view.pdf.numPages;
  view.element.querySelector("[data-page-back]").hidden =
    view.passages.size === 0 || numbers.some((number) => view.passages.has(number));
  const mark = pages.querySelector("rect");
  if (mark) mark.scrollIntoView({ block: "center" });
  else pages.scrollTop = 0;
}

function pagesOfPassage(view) {
  const numbers = [...view.passages.keys()].filter((number) => number <= view.pdf.numPages);
  const first = Math.min(Number(view.element.dataset.first), view.pdf.numPages);
  return numbers.length ? numbers.slice(0, MOST_PAGES) : [first];
}

async function open(element) {
  const view = { element, passages: passagesOf(element), pdf: null, first: 1, last: 1 };
  opened = view;
  try {
    const { library, pdf } = element.dataset;
    const pdfjs = await import(`${library}pdf.min.mjs`);
    pdfjs.GlobalWorkerOptions.workerSrc = `${library}pdf.worker.min.mjs`;
    const task = pdfjs.getDocument({
      url: pdf,
      cMapUrl: `${library}cmaps/`,
      cMapPacked: true,
      standardFontDataUrl: `${library}standard_fonts/`,
      wasmUrl: `${library}fallback/`,
      useWasm: false,
      isEvalSupported: false,
      enableXfa: false,
    });
    view.pdf = await task.promise;
    await show(view, pagesOfPassage(view));
  } catch (error) {
    console.warn(error);
    if (opened !== view) return;
    element.querySelector("[data-viewer-pages]").replaceChildren();
    note(element, FAILED);
    const text = element.parentElement.querySelector(".viewer-text");
    if (text) text.open = true;
  }
}

/** The viewer has new content: draw it, or show its mark. */
export function filled(viewer) {
  const pdf = viewer.querySelector("[data-pdf]");
  if (opened?.pdf) opened.pdf.loadingTask.destroy();
  opened = null;
  if (pdf) open(pdf);
  else viewer.querySelector("[data-viewer-mark]")?.scrollIntoView({ block: "center" });
}

document.addEventListener("click", (event) => {
  if (!opened?.pdf) return;
  const step = Number(event.target.closest("[data-page-step]")?.dataset.pageStep ?? 0);
  if (step) show(opened, [step < 0 ? opened.first - 1 : opened.last + 1]);
  else if (event.target.closest("[data-page-back]")) show(opened, pagesOfPassage(opened));
});
