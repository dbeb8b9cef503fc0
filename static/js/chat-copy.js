// Copying an answer as text, without the numbers of its citations being lost.
const SHOWN_MS = 1600;

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy-answer]");
  if (!button) return;
  const answer = button.closest(".turn").querySelector("[data-answer]").cloneNode(true);
  for (const citation of answer.querySelectorAll("a.citation")) {
    citation.replaceWith(`[${citation.dataset.source}]`);
  }
  const label = button.querySelector("[data-copy-label]");
  label.dataset.said = "";
  try {
    await navigator.clipboard.writeText(answer.innerText.trim());
    label.textContent = "Copied";
  } catch {
    label.textContent = "Copying was refused";
  }
  setTimeout(() => {
    label.textContent = "Copy";
    delete label.dataset.said;
  }, SHOWN_MS);
});
