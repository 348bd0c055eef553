// Runs before the first paint: the chosen appearance, so that nothing flashes. Without a choice the system's holds.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("anamnesis-theme");
  } catch {
    // Storage may be forbidden; then the system's appearance holds.
  }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
