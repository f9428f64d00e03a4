// Runs before the first paint, so that a chosen theme does not flash the other one. Everything else is in main.js.
(() => {
  try {
    const theme = localStorage.getItem('fairlead.theme');
    if (theme === 'dark' || theme === 'light') document.documentElement.dataset.theme = theme;
  } catch {
    // Storage may be forbidden; the system's scheme is used.
  }
})();
