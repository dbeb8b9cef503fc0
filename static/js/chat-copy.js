// Copying: an answer as Markdown, with or without its sources, as the server writes it; and a
// block of code, which gets a button of its own.
const SHOWN_MS = 1600;

/** Copy a text that may still have to be fetched; a browser may allow it only in the click itself. */
function copy(text) {
  const blob = Promise.resolve(text).then((found) => new Blob([found], { type: "text/plain" }));
  return navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })]);
}

async function fetched(address) {
  const response = await fetch(address, { credentials: "same-origin" });
  if (!response.ok) throw new Error(`the answer could not be fetched: ${response.status}`);
  return response.text();
}

/** The text that a button copies. */
function wanted(button) {
  const { copyText, copyValue } = button.dataset;
  if (copyText) return fetched(copyText);
  if (copyValue) return document.getElementById(copyValue).value;
  return button.parentElement.querySelector("pre").textContent;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy-text], [data-copy-code], [data-copy-value]");
  if (!button) return;
  const label = button.querySelector("[data-copy-label]");
  if (label.dataset.said) return;
  const before = label.textContent;
  label.dataset.said = "yes";
  try {
    await copy(wanted(button));
    label.textContent = "Copied";
  } catch {
    label.textContent = "Copying was refused";
  }
  setTimeout(() => {
    label.textContent = before;
    delete label.dataset.said;
  }, SHOWN_MS);
});

/** Give the code of answers that are complete its button. */
function withButtons() {
  for (const code of document.querySelectorAll(".turn:not([data-running]) .answer pre:not(.code-block > pre)")) {
    const block = document.createElement("div");
    const button = document.createElement("button");
    const label = document.createElement("span");
    block.className = "code-block";
    button.className = "button quiet compact";
    button.type = "button";
    button.dataset.copyCode = "";
    button.setAttribute("aria-label", "Copy the code");
    label.dataset.copyLabel = "";
    label.textContent = "Copy";
    button.append(label);
    code.replaceWith(block);
    block.append(code, button);
  }
}

withButtons();
document.addEventListener("htmx:afterSettle", withButtons);
document.addEventListener("htmx:sseClose", withButtons);

// A link that is only there to be copied.
document.addEventListener("focusin", (event) => event.target.matches?.("[data-select]") && event.target.select());
