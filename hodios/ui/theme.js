// Before anything is drawn, so that nobody who chose dark sees a flash of white. A classic script, since modules wait.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("hodios.theme");
  } catch {
    // Pages may be forbidden to store anything; then the system's preference counts.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
