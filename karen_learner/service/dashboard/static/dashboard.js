// The theme button, and the stream of changes: a page reads its parts again when they have changed.
(() => {
  "use strict";
  const root = document.documentElement;
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;

  const button = document.getElementById("theme");
  if (button) {
    button.setAttribute("aria-pressed", String(isDark()));
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem("karen-theme", root.dataset.theme); } catch { /* for this page only */ }
      button.setAttribute("aria-pressed", String(isDark()));
      document.dispatchEvent(new Event("theme-changed"));
    });
  }

  const current = document.querySelector("nav [aria-current]");
  if (current) current.parentElement.parentElement.scrollLeft = current.offsetLeft - 24;

  // Turns arrive in bursts. A rollback follows another change of cycles and is shown soon.
  const everyMs = (kind) => kind === "traffic" ? 1000 : 200;
  const due = new Map();
  const tell = (kind) => {
    if (due.has(kind)) { due.set(kind, true); return; }
    due.set(kind, false);
    htmx.trigger(document.body, `changed-${kind}`);
    setTimeout(() => {
      const again = due.get(kind);
      due.delete(kind);
      if (again) tell(kind);
    }, everyMs(kind));
  };

  const state = document.getElementById("live-state");
  const show = (name, text) => {
    if (!state || state.dataset.state === name) return;
    state.dataset.state = name;
    state.querySelector(".live-text").textContent = text;
  };
  const address = document.body.dataset.stream;
  if (address) {
    let wasClosed = false;
    const stream = new EventSource(address);
    stream.addEventListener("open", () => {
      show("live", "Live");
      if (wasClosed) ["cycles", "incidents", "traffic"].forEach(tell); // changes may have been missed
      wasClosed = false;
    });
    stream.addEventListener("error", () => { wasClosed = true; show("waiting", "Reconnecting"); });
    stream.addEventListener("changed", (event) => tell(event.data));
    addEventListener("pagehide", () => stream.close());
  }
})();
