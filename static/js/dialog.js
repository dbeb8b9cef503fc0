// Dialogs. <button data-dialog="ID"> opens the <dialog id="ID"> of the page; what htmx puts
// into #dialog opens it; [data-dialog-close] and a click beside it close it.
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog]");
  if (opener) {
    document.getElementById(opener.dataset.dialog)?.showModal();
    return;
  }
  const dialog = event.target.closest("dialog");
  if (dialog && (event.target === dialog || event.target.closest("[data-dialog-close]"))) {
    event.preventDefault();
    dialog.close();
  }
});

// An address that names a dialog shows it.
const named = /^#[\w-]+$/.test(location.hash) && document.querySelector(`dialog${location.hash}`);
if (named) {
  named.showModal();
  history.replaceState(null, "", location.pathname + location.search);
}

document.addEventListener("htmx:afterSwap", (event) => {
  const dialog = event.detail.target;
  if (dialog instanceof HTMLDialogElement && !dialog.open) dialog.showModal();
});

// The act confirmed in a dialog is done: the server says so by this event.
document.addEventListener("done", () => {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
});

// A name typed to confirm a loss: the button works when it matches.
document.addEventListener("input", (event) => {
  const wanted = event.target.dataset?.mustEqual;
  if (wanted === undefined) return;
  event.target.form.querySelector("[data-guarded]").disabled = event.target.value.trim() !== wanted;
});
