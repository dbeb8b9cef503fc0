// Toasts: good news leaves by itself, bad news stays until dismissed. Requests of htmx
// that failed are told here as well, so that no click ends in silence.
const region = document.getElementById("messages");
const READ_MS = 7000;

function leaveLater(toast) {
  if (toast.dataset.tone !== "good") return;
  let timer = setTimeout(() => toast.remove(), READ_MS);
  const hold = () => clearTimeout(timer);
  const resume = () => (timer = setTimeout(() => toast.remove(), READ_MS));
  toast.addEventListener("pointerenter", hold);
  toast.addEventListener("focusin", hold);
  toast.addEventListener("pointerleave", resume);
  toast.addEventListener("focusout", resume);
}

function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const sprite = document.querySelector(".icon use").getAttribute("href").split("#")[0];
  use.setAttribute("href", `${sprite}#${name}`);
  svg.append(use);
  return svg;
}

/** Show one sentence. `tone` is "good", "warn" or "bad". */
export function say(sentence, tone = "bad") {
  const repeated = [...region.children].find((toast) => toast.textContent.trim() === sentence);
  if (repeated) return;
  const toast = document.createElement("div");
  toast.className = "toast";
  toast.dataset.toast = "";
  toast.dataset.tone = tone;
  const words = document.createElement("p");
  words.textContent = sentence;
  const dismiss = document.createElement("button");
  dismiss.className = "button quiet square compact";
  dismiss.type = "button";
  dismiss.dataset.dismiss = "";
  dismiss.setAttribute("aria-label", "Dismiss this message");
  dismiss.append(icon("close"));
  toast.append(icon(tone === "good" ? "check-circle" : "alert"), words, dismiss);
  region.append(toast);
}

document.addEventListener("click", (event) => {
  event.target.closest("[data-dismiss]")?.closest("[data-toast]")?.remove();
});

document.addEventListener("htmx:responseError", (event) => {
  const { status, responseText } = event.detail.xhr;
  const quiet = event.detail.elt.matches("[data-polls]");
  if (quiet && status >= 500) return;
  const sentence = {
    403: "The page is out of date. Reload it and try again.",
    404: "That is not there any more. Reload the page to see what is.",
    405: "That cannot be done here. Reload the page and try again.",
    413: "That is larger than this site accepts.",
  }[status];
  const plain = event.detail.xhr.getResponseHeader("Content-Type")?.startsWith("text/plain");
  say(plain && responseText ? responseText : sentence ?? "The site could not do that. Try again in a moment.");
});

document.addEventListener("htmx:sendError", (event) => {
  if (!event.detail.elt.matches("[data-polls]")) {
    say("The site did not answer. Check your connection and try again.");
  }
});

if (region) {
  region.querySelectorAll("[data-toast]").forEach(leaveLater);
  new MutationObserver((records) => {
    for (const record of records) {
      for (const node of record.addedNodes) {
        if (node.nodeType === Node.ELEMENT_NODE && "toast" in node.dataset) leaveLater(node);
      }
    }
  }).observe(region, { childList: true });
}
