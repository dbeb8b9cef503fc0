// Which documents are ticked. The table is replaced while it is being looked at, so the
// ticks are kept here and put back after every swap.
const bulk = document.getElementById("bulk");
const chosen = new Set();

const boxes = () => [...document.querySelectorAll('#documents input[name="document"][form="bulk"]')];

function draw() {
  const all = boxes();
  const present = new Set(all.map((box) => box.value));
  for (const value of chosen) if (!present.has(value)) chosen.delete(value);
  for (const box of all) box.checked = chosen.has(box.value);
  const failed = all.filter((box) => box.checked && "failed" in box.closest("tr").dataset).length;
  const everything = document.querySelector("[data-select-all]");
  if (everything) {
    everything.checked = all.length > 0 && chosen.size === all.length;
    everything.indeterminate = chosen.size > 0 && chosen.size < all.length;
  }
  bulk.hidden = chosen.size === 0;
  bulk.querySelector("[data-selected]").textContent = chosen.size;
  bulk.querySelector("[data-selected-failed]").textContent = failed;
  bulk.querySelector("[data-retries]").hidden = failed === 0;
}

if (bulk) {
  document.addEventListener("change", ({ target }) => {
    if (target.matches("[data-select-all]")) {
      for (const box of boxes()) target.checked ? chosen.add(box.value) : chosen.delete(box.value);
    } else if (target.matches('#documents input[name="document"][form="bulk"]')) {
      target.checked ? chosen.add(target.value) : chosen.delete(target.value);
    } else {
      return;
    }
    draw();
  });
  bulk.querySelector("[data-select-none]").addEventListener("click", () => {
    chosen.clear();
    draw();
  });
  document.addEventListener("htmx:afterSwap", draw);
  draw();
}
