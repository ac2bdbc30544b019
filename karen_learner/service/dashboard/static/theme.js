// Applies the chosen theme before the page is painted.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("karen-theme"); } catch { /* storage is off: the system decides */ }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
