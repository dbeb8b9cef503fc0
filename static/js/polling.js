// Regions that refresh themselves ([data-polls]) wait while somebody has text in them
// selected, or a tab is not looked at: a swap would take the selection away.
function isBusy(region) {
  const selection = getSelection();
  return !selection.isCollapsed && region.contains(selection.anchorNode);
}

document.addEventListener("htmx:beforeRequest", (event) => {
  const region = event.detail.elt;
  if (!region.matches("[data-polls]")) return;
  const asked = event.detail.requestConfig.triggeringEvent?.type;
  if (!asked && (document.hidden || isBusy(region))) event.preventDefault();
});
