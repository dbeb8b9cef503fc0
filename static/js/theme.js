// Light or dark. Loaded before the first paint, so that a chosen theme does not flash;
// a classic script for that reason, not a module.
(() => {
  const root = document.documentElement;
  const choices = ["light", "dark"];

  function stored() {
    try {
      const value = localStorage.getItem("theme");
      return choices.includes(value) ? value : "";
    } catch {
      return ""; // storage is switched off: follow the system
    }
  }

  function apply(theme) {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    for (const button of document.querySelectorAll("[data-theme-choice]")) {
      button.setAttribute("aria-pressed", String(button.dataset.themeChoice === theme));
    }
  }

  function choose(theme) {
    try {
      if (theme) localStorage.setItem("theme", theme);
      else localStorage.removeItem("theme");
    } catch {
      // not kept, but shown until the page is left
    }
    apply(theme);
  }

  function isDark() {
    const theme = root.dataset.theme;
    return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  apply(stored());
  document.addEventListener("DOMContentLoaded", () => apply(stored()));
  window.addEventListener("storage", (event) => event.key === "theme" && apply(stored()));
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-theme-toggle], [data-theme-choice]");
    if (!button) return;
    choose("themeChoice" in button.dataset ? button.dataset.themeChoice : isDark() ? "light" : "dark");
  });
})();
