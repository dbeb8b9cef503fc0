// The rail as a drawer on narrow screens: a button opens it; Esc, the scrim and the
// close button shut it. While it is open the page behind it is inert.
const rail = document.getElementById("rail");
const opener = document.querySelector("[data-rail-open]");
const rest = [...document.querySelectorAll(".topbar, .main, .panel, .skip-link")];
const narrow = matchMedia("(max-width: 60rem)");

function set(open) {
  document.body.classList.toggle("rail-open", open);
  opener.setAttribute("aria-expanded", String(open));
  for (const element of rest) element.inert = open;
}

function open() {
  set(true);
  rail.querySelector("[data-rail-close]").focus();
}

function close() {
  if (!document.body.classList.contains("rail-open")) return;
  set(false);
  opener.focus();
}

if (rail && opener) {
  opener.addEventListener("click", open);
  rail.querySelector("[data-rail-close]").addEventListener("click", close);
  narrow.addEventListener("change", () => set(false));
  document.addEventListener("keydown", (event) => event.key === "Escape" && close());
  document.addEventListener("pointerdown", (event) => {
    if (document.body.classList.contains("rail-open") && !rail.contains(event.target)) {
      event.preventDefault();
      close();
    }
  });
}
