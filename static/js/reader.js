// The reader: brings the marked passage into view, and marks its card in the list.
const calm = matchMedia("(prefers-reduced-motion: reduce)");

function showPassage(behavior) {
  document.getElementById("passage")?.scrollIntoView({ block: "center", behavior });
}

function markCard() {
  const marked = document.querySelector(".paper")?.dataset.marked;
  for (const card of document.querySelectorAll(".passage")) {
    if (card.dataset.chunk === marked) card.setAttribute("aria-current", "true");
    else card.removeAttribute("aria-current");
  }
}

function showCard() {
  const card = document.querySelector(".passage[aria-current]");
  const list = card?.closest(".passages");
  if (list) list.scrollTop = card.offsetTop - list.offsetTop - 24;
}

document.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.target.id !== "reader") return;
  markCard();
  if (document.getElementById("passage")) showPassage(calm.matches ? "auto" : "smooth");
  else document.getElementById("reader").scrollIntoView({ block: "nearest" });
});

showCard();
showPassage("auto");
