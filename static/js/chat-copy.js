// Copying an answer as text, without the numbers of its citations being lost; or with its
// sources and their scores, as the server writes them.
const SHOWN_MS = 1600;

function answerOf(button) {
  const answer = button.closest(".turn").querySelector("[data-answer]").cloneNode(true);
  for (const citation of answer.querySelectorAll("a.citation")) {
    citation.replaceWith(`[${citation.dataset.source}]`);
  }
  return answer.innerText.trim();
}

async function withSources(address) {
  const response = await fetch(address, { credentials: "same-origin" });
  if (!response.ok) throw new Error(`the answer could not be fetched: ${response.status}`);
  return response.text();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy-answer], [data-copy-text]");
  if (!button) return;
  const label = button.querySelector("[data-copy-label]");
  if (label.dataset.said) return;
  const before = label.textContent;
  label.dataset.said = "yes";
  try {
    const address = button.dataset.copyText;
    await navigator.clipboard.writeText(address ? await withSources(address) : answerOf(button));
    label.textContent = "Copied";
  } catch {
    label.textContent = "Copying was refused";
  }
  setTimeout(() => {
    label.textContent = before;
    delete label.dataset.said;
  }, SHOWN_MS);
});

// A link that is only there to be copied.
document.addEventListener("focusin", (event) => event.target.matches?.("[data-select]") && event.target.select());
