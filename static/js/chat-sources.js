// The source panel: which turn it shows, the way from a citation to its card and to the place
// in the document, and the drawer that it becomes on narrow screens.
import { filled } from "./viewer.js";

const panel = document.querySelector("[data-sources-panel]");
const narrow = matchMedia("(max-width: 72rem)");
let cameFrom = null;

function sectionOf(turn) {
  return document.getElementById(`sources-of-${turn}`);
}

function isOpen() {
  return document.body.classList.contains("sources-open");
}

function open(from) {
  cameFrom = from ?? document.activeElement;
  document.body.classList.add("sources-open");
}

function close() {
  if (!isOpen()) return;
  document.body.classList.remove("sources-open");
  if (cameFrom?.isConnected) cameFrom.focus();
  cameFrom = null;
}

/** Show one turn's sources; resolves when they are there. */
function show(turn) {
  const section = sectionOf(turn);
  if (!section) return Promise.resolve(null);
  for (const other of panel.querySelectorAll("[data-sources]")) other.hidden = other !== section;
  return loaded(section);
}

/** Fetch the sources of a turn of before, once; where that failed, again when they are next wanted. */
async function loaded(section) {
  const note = section?.querySelector("[data-fetched-from]");
  if (!note) return section;
  note.fetching ??= htmx
    .ajax("GET", note.dataset.fetchedFrom, { source: section, target: section, swap: "innerHTML" })
    .catch(() => {}) // it is told as a message
    .finally(() => (note.fetching = null));
  await note.fetching;
  return section;
}

function flash(card) {
  card.focus({ preventScroll: true });
  card.scrollIntoView({ block: "center" });
  card.classList.remove("is-flashed");
  void card.offsetWidth; // a second click flashes again
  card.classList.add("is-flashed");
}

/** Show a source's card, and its document beside the chat where it can still be opened. */
async function showSource(turn, rank, from) {
  closeViewer();
  await show(turn);
  const card = document.getElementById(`source-${turn}-${rank}`);
  if (!card) return;
  if (narrow.matches) open(from);
  hidePreview();
  flash(card);
  const view = card.querySelector("[data-view]");
  if (view) openViewer(view.dataset.view, card, from);
}

// --- the document beside the chat ------------------------------------------------
const viewer = document.querySelector("[data-viewer]");
let viewed = null; // whose place is shown, and what was clicked: {card, from}

async function openViewer(address, card, from) {
  viewed = { card, from: from ?? document.activeElement };
  await htmx.ajax("GET", address, { target: viewer, swap: "innerHTML" });
  if (viewed?.card !== card || !viewer.querySelector("#viewer-title")) return; // gone, or refused
  document.body.classList.add("is-viewing");
  viewer.hidden = false;
  viewer.querySelector("#viewer-title").focus({ preventScroll: true });
  panel.scrollTop = 0;
  filled(viewer);
}

/** Back to the cards; true if a document was open. */
function closeViewer() {
  if (!viewer || viewer.hidden) return false;
  const { card } = viewed;
  viewed = null;
  viewer.hidden = true;
  viewer.replaceChildren();
  document.body.classList.remove("is-viewing");
  if (card.isConnected) flash(card);
  return true;
}

// --- the small card beside a citation ------------------------------------------
const preview = document.createElement("div");
preview.className = "citation-preview";
preview.setAttribute("role", "tooltip");
preview.hidden = true;

async function showPreview(citation) {
  const turn = citation.closest("[data-turn]")?.dataset.turn;
  await loaded(sectionOf(turn));
  const card = document.getElementById(`source-${turn}-${citation.dataset.source}`);
  if (!card || !citation.matches(":hover, :focus")) return;
  const part = (selector, length) => {
    const element = document.createElement("p");
    element.className = selector.slice(1);
    const found = card.querySelector(selector);
    const words = found?.children.length ? [...found.children].map((c) => c.textContent).join(" · ") : found?.textContent;
    const text = words?.replace(/\s+/g, " ").trim() ?? "";
    element.textContent = text.length > length ? `${text.slice(0, length)}…` : text;
    return element;
  };
  const name = document.createElement("strong");
  name.textContent = card.querySelector("h4").textContent;
  preview.replaceChildren(name, part(".source-place", 110), part(".snippet", 220));
  const relevance = card.querySelector(".relevance-number")?.textContent.trim();
  const about = [relevance, citation.title].filter(Boolean).join(" · ");
  if (about) {
    const line = document.createElement("p");
    line.className = "preview-about";
    line.textContent = about;
    preview.append(line);
  }
  preview.hidden = false;
  const at = citation.getBoundingClientRect();
  const width = preview.offsetWidth;
  const height = preview.offsetHeight;
  const left = Math.max(8, Math.min(at.left + at.width / 2 - width / 2, innerWidth - width - 8));
  preview.style.left = `${left}px`;
  preview.style.top = at.top > height + 16 ? `${at.top - height - 8}px` : `${at.bottom + 8}px`;
}

function hidePreview() {
  preview.hidden = true;
}

if (panel) {
  document.body.append(preview);

  document.addEventListener("click", (event) => {
    const citation = event.target.closest("a.citation");
    const button = event.target.closest("[data-show-sources]");
    if (citation) {
      event.preventDefault();
      showSource(citation.closest("[data-turn]").dataset.turn, citation.dataset.source, citation);
    } else if (event.target.closest("[data-viewer-close]")) {
      closeViewer();
    } else if (event.target.closest("[data-view]") && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      const link = event.target.closest("[data-view]");
      openViewer(link.dataset.view, link.closest(".source"), link);
    } else if (button) {
      closeViewer();
      if (narrow.matches) open(button);
      show(button.dataset.showSources).then(() => {
        document.getElementById("sources-title").focus({ preventScroll: true });
        panel.scrollTop = 0;
      });
    } else if (event.target.closest("[data-sources-close]")) {
      close();
    }
  });

  document.addEventListener("pointerdown", (event) => {
    if (isOpen() && narrow.matches && !panel.contains(event.target)) {
      event.preventDefault();
      close();
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
    hidePreview();
    const from = viewed?.from;
    if (closeViewer()) from?.isConnected && from.focus();
    else close();
  });

  // Leafing through a text: the fragment replaces itself.
  viewer.addEventListener("htmx:afterSettle", () => viewer.hidden || filled(viewer));

  for (const [enter, leave] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
    document.addEventListener(enter, (event) => {
      const citation = event.target.closest?.("a.citation");
      if (citation && !isOpen()) showPreview(citation);
    });
    document.addEventListener(leave, (event) => event.target.closest?.("a.citation") && hidePreview());
  }
  document.querySelector("[data-chat-scroll]")?.addEventListener("scroll", hidePreview, { passive: true });

  // A new question takes the panel.
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.elt.id === "turns") show(event.detail.elt.lastElementChild.dataset.turn);
  });
}
