// The inspector: what a slider says, which constant belongs to the chosen fusion, and one
// passage followed through the chart and the table.
function tellSliders() {
  for (const output of document.querySelectorAll(".knobs output")) {
    output.textContent = document.getElementById(output.htmlFor.value).value;
  }
}

function showFusion() {
  const chosen = document.getElementById("id_fusion")?.value;
  for (const line of document.querySelectorAll("[data-fusion]")) {
    line.hidden = line.dataset.fusion !== (chosen === "weighted" ? "bm25_weight" : "rrf_k");
  }
}

function follow(event, isOver) {
  const chunk = event.target.closest?.("[data-chunk]")?.dataset.chunk;
  if (!chunk) return;
  for (const one of document.querySelectorAll(`[data-chunk="${CSS.escape(chunk)}"]`)) {
    one.classList.toggle("is-followed", isOver);
  }
}

document.addEventListener("input", (event) => {
  if (event.target.closest(".knobs")) tellSliders();
  if (event.target.id === "id_fusion") showFusion();
});
document.addEventListener("pointerover", (event) => follow(event, true));
document.addEventListener("pointerout", (event) => follow(event, false));
document.addEventListener("focusin", (event) => follow(event, true));
document.addEventListener("focusout", (event) => follow(event, false));
document.addEventListener("htmx:afterSettle", () => {
  tellSliders();
  showFusion();
});
tellSliders();
showFusion();
// On a phone the result is not to be far below the knobs that make it.
if (matchMedia("(max-width: 60rem)").matches && document.querySelector("tr[data-chunk]")) {
  document.querySelector("[data-search-knobs]").open = false;
}
