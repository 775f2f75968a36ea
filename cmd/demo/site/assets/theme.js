// The theme is the system's until the reader chooses one.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

  let chosen = null;
  try {
    chosen = localStorage.getItem("theme");
  } catch {
    // Storage is refused: the choice lasts until the next page.
  }
  if (chosen) root.dataset.theme = chosen;

  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => button.setAttribute("aria-pressed", dark());
    button.hidden = false;
    show();
    system.addEventListener("change", show);
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      show();
      try {
        localStorage.setItem("theme", root.dataset.theme);
      } catch {
        // As above.
      }
    });
  });
})();
