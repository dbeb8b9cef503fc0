// Following the answer: the page stays at its end while the reader is there, and never
// pulls them back from where they went. A button leads to the latest text.
const scroller = document.querySelector("[data-chat-scroll]");
const jump = document.querySelector("[data-jump]");
const SLACK_PX = 48;
const NEAR_TOP_PX = 300;

function distance() {
  return scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop;
}

let follows = true;
let last = 0;

function toEnd() {
  scroller.scrollTop = scroller.scrollHeight;
}

if (scroller && jump) {
  scroller.addEventListener(
    "scroll",
    () => {
      // Only the reader scrolls up; being further from the end can also mean new text.
      if (distance() < SLACK_PX) follows = true;
      else if (scroller.scrollTop < last) follows = false;
      if (scroller.scrollTop < last && scroller.scrollTop < NEAR_TOP_PX) {
        scroller.querySelector("[data-earlier]:not(.htmx-request)")?.click();
      }
      last = scroller.scrollTop;
      jump.hidden = distance() < SLACK_PX;
    },
    { passive: true },
  );

  // The observer sees every growth: new text, a wider window, an opened detail.
  new ResizeObserver(() => {
    if (follows) toEnd();
    jump.hidden = distance() < SLACK_PX;
  }).observe(document.getElementById("turns"));

  jump.addEventListener("click", () => {
    follows = true;
    toEnd();
    jump.hidden = true;
  });

  // A new question is always shown, wherever the reader was.
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target?.id === "turns") {
      follows = true;
      toEnd();
    }
  });

  // What is opened in a turn is shown.
  document.addEventListener(
    "toggle",
    (event) => {
      if (event.target.open && event.target.closest(".turn")) {
        event.target.lastElementChild.scrollIntoView({ block: "nearest" });
      }
    },
    true,
  );

  // Earlier turns come in above: what the reader looks at stays where it is.
  let below = null;
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target?.id === "earlier") below = scroller.scrollHeight - scroller.scrollTop;
  });
  document.addEventListener("htmx:afterSwap", () => {
    if (below === null) return;
    scroller.scrollTop = scroller.scrollHeight - below;
    last = scroller.scrollTop;
    below = null;
  });

  const wanted = location.hash && document.getElementById(location.hash.slice(1));
  if (wanted) wanted.scrollIntoView();
  else if (document.querySelector(".turn")) toEnd();
}
