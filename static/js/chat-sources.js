// The source panel: which turn it shows, the way from a citation to its card, and the
// drawer that it becomes on narrow screens.
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
  if (!section.hasAttribute("hx-get")) return Promise.resolve(section);
  return new Promise((resolve) => {
    section.addEventListener(
      "htmx:afterSettle",
      () => {
        section.removeAttribute("hx-get");
        resolve(section);
      },
      { once: true },
    );
    htmx.trigger(section, "sources-wanted");
  });
}

async function showCard(turn, rank, from) {
  await show(turn);
  const card = document.getElementById(`source-${turn}-${rank}`);
  if (!card) return;
  if (narrow.matches) open(from);
  hidePreview();
  card.focus({ preventScroll: true });
  card.scrollIntoView({ block: "center" });
  card.classList.remove("is-flashed");
  void card.offsetWidth; // a second click flashes again
  card.classList.add("is-flashed");
}

// --- the small card beside a citation ------------------------------------------
const preview = document.createElement("div");
preview.className = "citation-preview";
preview.setAttribute("role", "tooltip");
preview.hidden = true;

function showPreview(citation) {
  const turn = citation.closest("[data-turn]")?.dataset.turn;
  const card = document.getElementById(`source-${turn}-${citation.dataset.source}`);
  if (!card) return;
  const part = (selector, length) => {
    const element = document.createElement("p");
    element.className = selector.slice(1);
    const text = card.querySelector(selector)?.textContent.replace(/\s+/g, " ").trim() ?? "";
    element.textContent = text.length > length ? `${text.slice(0, length)}…` : text;
    return element;
  };
  const name = document.createElement("strong");
  name.textContent = card.querySelector("h4").textContent;
  preview.replaceChildren(name, part(".source-place", 110), part(".snippet", 220));
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
      showCard(citation.closest("[data-turn]").dataset.turn, citation.dataset.source, citation);
    } else if (button) {
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
    close();
  });

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
