// The composer: grows with its text, Enter sends, counts characters near the limit, and
// waits while an answer is being written. "/" brings the reader back to it.
const NEAR = 0.9;

const composer = () => document.getElementById("composer");
const box = () => document.getElementById("question");
const isRunning = () => document.querySelector("[data-running]") !== null;

function grow() {
  const area = box();
  if (!area || CSS.supports("field-sizing", "content")) return;
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}

function refresh() {
  const form = composer();
  const area = box();
  if (!form || !area) return;
  const most = Number(form.dataset.max);
  const length = area.value.trim().length;
  const count = form.querySelector("[data-count]");
  count.hidden = length < most * NEAR;
  count.textContent = `${length.toLocaleString("en")} / ${most.toLocaleString("en")}`;
  count.dataset.over = String(length > most);
  const running = isRunning();
  form.querySelector("[data-send]").disabled = area.disabled || running || length === 0;
  form.querySelector("[data-hint]").hidden = running;
  form.querySelector("[data-hint-running]").hidden = !running;
  grow();
}

function fill(question) {
  const area = box();
  area.value = question;
  refresh();
  area.focus();
}

function ask(question) {
  fill(question);
  if (!isRunning()) composer().requestSubmit();
}

document.addEventListener("input", (event) => event.target === box() && refresh());

document.addEventListener("keydown", (event) => {
  if (event.target === box()) {
    const sends = event.key === "Enter" && !event.shiftKey && !event.isComposing;
    if (!sends) return;
    event.preventDefault();
    if (!composer().querySelector("[data-send]").disabled) composer().requestSubmit();
    return;
  }
  const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
  const isTyping = event.target.closest?.("input, textarea, select, [contenteditable], dialog");
  if (event.key === "/" && isPlain && !isTyping && box()) {
    event.preventDefault();
    box().focus();
  }
});

document.addEventListener("click", (event) => {
  const suggestion = event.target.closest("[data-suggestion]");
  if (suggestion && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    ask(suggestion.textContent.trim());
  }
});

// A question sent twice by an eager finger is one question.
document.addEventListener("submit", (event) => {
  if (event.target === composer() && isRunning()) event.preventDefault();
}, true);

// The model that was chosen for this conversation, shown in the composer.
document.addEventListener("change", (event) => {
  const name = event.target.dataset?.model;
  if (name) composer().querySelector("[data-model-name]").textContent = name;
});

document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.elt !== composer() || !event.detail.successful) return;
  box().value = "";
  document.getElementById("chat-status").textContent = ""; // the same words again are news
  refresh();
});

// Running or not is written on the turn; `end` is its last event.
document.addEventListener("htmx:sseClose", (event) => {
  if (event.detail.type !== "message") return;
  event.target.closest("[data-running]")?.removeAttribute("data-running");
  refresh();
});

// htmx carries a style attribute over to what replaces the element; the policy forbids that.
document.addEventListener("htmx:beforeSwap", () => box()?.removeAttribute("style"));
document.addEventListener("htmx:afterSettle", refresh);
refresh();
