// Shortcuts, as the dialog under "?" lists them. None acts while somebody types, and the
// single keys can be switched off (WCAG 2.1.4): voice control would press them by accident.
const KEPT = "ragsite-single-keys";
const dialog = document.getElementById("shortcuts-dialog");
const choice = dialog.querySelector("[data-single-keys]");

function isOn() {
  try {
    return localStorage.getItem(KEPT) !== "off";
  } catch {
    return true;
  }
}

choice.checked = isOn();
choice.addEventListener("change", () => {
  try {
    localStorage.setItem(KEPT, choice.checked ? "on" : "off");
  } catch {
    // Without a memory the choice holds for this page alone.
  }
});

const isTyping = (element) => element.closest?.("input, textarea, select, [contenteditable], dialog");
const isSeen = (element) => element && element.getClientRects().length > 0;

function search() {
  const box = document.getElementById("conversation-search");
  if (!isSeen(box)) document.querySelector("[data-rail-open]")?.click();
  box?.focus();
  box?.select();
}

/** The card after or before the one that has the focus, in the sources that are shown. */
function step(by) {
  const cards = [...document.querySelectorAll(".sources:not([hidden]) .source")].filter(isSeen);
  if (!cards.length) return;
  const at = cards.findIndex((card) => card.contains(document.activeElement));
  const next = at < 0 ? (by > 0 ? 0 : cards.length - 1) : Math.min(Math.max(at + by, 0), cards.length - 1);
  cards[next].focus({ preventScroll: true });
  cards[next].scrollIntoView({ block: "nearest" });
}

function stop() {
  const { classList } = document.body;
  const closes = ["rail-open", "sources-open", "is-viewing"].some((name) => classList.contains(name));
  if (!closes) document.querySelector("[data-running] [data-stop]")?.click();
}

const KEYS = {
  "?": () => dialog.showModal(),
  n: () => document.querySelector("[data-new-chat]")?.click(),
  j: () => step(1),
  k: () => step(-1),
};

// First of all who listen: what Esc would close must not be closed yet.
document.addEventListener(
  "keydown",
  (event) => {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key === "k") {
      event.preventDefault();
      search();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const question = event.target.id === "question" && !event.target.value;
    if (event.key === "Escape" && (question || !isTyping(event.target))) {
      stop();
      return;
    }
    if (isTyping(event.target) || !choice.checked) return;
    if (event.key === "/" && !document.getElementById("question")) {
      event.preventDefault();
      search();
    } else if (KEYS[event.key]) {
      event.preventDefault();
      KEYS[event.key]();
    }
  },
  { capture: true },
);
