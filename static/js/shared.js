// A shared conversation: a citation opens its answer's sources at the one it names.
document.addEventListener("click", (event) => {
  const citation = event.target.closest("a.citation");
  if (!citation) return;
  event.preventDefault();
  const answer = citation.closest(".turn");
  const source = answer.querySelector(`[data-source-of="${Number(citation.dataset.source)}"]`);
  if (!source) return;
  answer.querySelector(".shared-sources").open = true;
  source.scrollIntoView({ block: "center" });
  source.focus({ preventScroll: true });
});
