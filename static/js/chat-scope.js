// Single documents as the scope of a question: one that is ticked among those found moves into
// the composer. The panel that finds them closes by Escape, and by a click elsewhere.
const panel = () => document.querySelector("[data-scope-filter]");
const chosen = () => document.querySelector("[data-scope-documents]");
const find = () => document.querySelector("[data-find-document]");

function say(text) {
  document.getElementById("chat-status").textContent = text;
}

function choose(label) {
  const name = label.innerText.trim();
  const { value } = label.querySelector("input");
  const twin = chosen().querySelector(`input[value="${CSS.escape(value)}"]`);
  if (twin) {
    twin.checked = true;
    label.remove();
  } else {
    chosen().append(label);
  }
  say(`${name} was chosen. Only chosen documents are searched.`);
  find().focus(); // what had the focus has moved
}

document.addEventListener("change", ({ target }) => {
  if (target.name !== "documents") return;
  if (target.closest("#found-documents")) choose(target.closest("label"));
  else if (!chosen().querySelector(":checked")) say("All documents of the chosen corpora are searched.");
});

// Before the shortcuts, of which Escape stops an answer.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !panel()?.open) return;
  event.stopImmediatePropagation();
  panel().open = false;
  panel().querySelector("summary").focus();
}, true);

document.addEventListener("click", ({ target }) => {
  if (panel()?.open && target.isConnected && !panel().contains(target)) panel().open = false;
});
