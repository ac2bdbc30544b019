// Review of one text: spans by mouse and keyboard, keys for decisions, and drafts that save themselves.
(() => {
  "use strict";
  const form = document.getElementById("review");
  if (!form) return;
  const words = [...form.querySelectorAll(".token")];
  const field = document.getElementById("entities");
  const withEntities = document.getElementById("with-entities");
  const list = document.getElementById("spans");
  const label = document.getElementById("entity-label");
  const state = document.getElementById("draft-state");
  const useKeys = document.getElementById("use-keys");
  const text = [...document.getElementById("words").dataset.text]; // offsets count code points, as in Python
  let spans = JSON.parse(field.value).filter((one) => one[2] !== null);
  let anchor = null, focus = null, isDragging = false, timer = 0;

  const at = (word) => [Number(word.dataset.start), Number(word.dataset.end)];
  const selected = () => anchor === null ? [] : words.slice(Math.min(anchor, focus), Math.max(anchor, focus) + 1);

  function show() {
    const chosen = new Set(selected());
    words.forEach((word) => {
      const [start, end] = at(word);
      const span = spans.find((one) => start < one[1] && end > one[0]);
      word.classList.toggle("selected", chosen.has(word));
      word.classList.toggle("marked", Boolean(span));
      word.setAttribute("aria-pressed", String(chosen.has(word)));
      word.title = span ? span[2] : "";
    });
    list.replaceChildren(...spans.map((span, index) => {
      const row = document.createElement("li");
      const name = document.createElement("span");
      name.textContent = `${span[2]}: ${text.slice(span[0], span[1]).join("")}`;
      const remove = document.createElement("button");
      remove.type = "button";
      remove.className = "quiet";
      remove.textContent = "Remove";
      remove.setAttribute("aria-label", `Remove ${name.textContent}`);
      remove.addEventListener("click", () => { spans.splice(index, 1); changed(true); (words[0] || form).focus(); });
      row.className = "line-head";
      row.append(name, remove);
      return row;
    }));
    field.value = JSON.stringify(spans);
  }

  function changed(isEntity) {
    if (isEntity) withEntities.checked = true;
    show();
    state.textContent = "Saving the draft";
    clearTimeout(timer);
    timer = setTimeout(saveDraft, 400);
  }

  const forgetDraft = () => { clearTimeout(timer); timer = 0; };

  async function saveDraft() {
    const body = new URLSearchParams(new FormData(form));
    forgetDraft();
    try {
      const answer = await fetch(form.dataset.draft, { method: "POST", body, keepalive: true });
      if (!timer) state.textContent = answer.ok ? "Draft saved"
        : answer.status === 409 ? "Another person works on this text: open the next one" : "The draft is not saved";
    } catch {
      state.textContent = "The draft is not saved: no connection";
    }
  }

  function mark() {
    const chosen = selected();
    const name = label.value.trim();
    if (!chosen.length || !name) {
      state.textContent = chosen.length ? "Give an entity label" : "Select words of the text first";
      return;
    }
    const start = at(chosen[0])[0], end = at(chosen[chosen.length - 1])[1];
    spans = spans.filter((one) => one[1] <= start || one[0] >= end);
    spans.push([start, end, name]);
    spans.sort((one, other) => one[0] - other[0]);
    anchor = focus = null;
    changed(true);
  }

  function go(to, isExtending) {
    const next = Math.max(0, Math.min(words.length - 1, to));
    words.forEach((word, index) => { word.tabIndex = index === next ? 0 : -1; });
    if (!isExtending || anchor === null) anchor = isExtending && focus !== null ? focus : next;
    focus = next;
    words[next].focus();
    show();
  }

  words.forEach((word, index) => {
    word.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      isDragging = true;
      if (!event.shiftKey || anchor === null) anchor = index;
      focus = index;
      word.focus();
      show();
    });
    word.addEventListener("pointerenter", () => { if (isDragging) { focus = index; show(); } });
    word.addEventListener("keydown", (event) => {
      const moves = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: words.length - 1 };
      if (event.key in moves) {
        event.preventDefault();
        if (event.shiftKey && anchor === null) anchor = index;
        go(moves[event.key], event.shiftKey);
      } else if (event.key === " ") {
        event.preventDefault();
        anchor = focus = index;
        show();
      } else if (event.key === "Escape") {
        anchor = focus = null;
        show();
      }
    });
  });
  addEventListener("pointerup", () => { isDragging = false; });
  document.getElementById("mark").addEventListener("click", mark);
  form.addEventListener("input", () => changed(false));
  form.querySelectorAll(".choice").forEach((button) => button.addEventListener("click", () => choose(button)));

  function choose(button) {
    document.getElementById("intent").value = button.dataset.intent;
    changed(false);
  }

  try { useKeys.checked = localStorage.getItem("karen-keys") !== "off"; } catch { /* storage is off */ }
  useKeys.addEventListener("change", () => {
    try { localStorage.setItem("karen-keys", useKeys.checked ? "on" : "off"); } catch { /* for this page only */ }
  });

  const decide = (value) => {
    const button = form.querySelector(`button[value="${value}"]`);
    if (!button.disabled) { forgetDraft(); form.requestSubmit(button); }
  };
  const actions = { s: () => decide("skipped"), i: () => decide("ignored"), u: () => decide("undo"), m: mark, t: () => words.length && go(0, false) };
  document.addEventListener("keydown", (event) => {
    const isField = event.target.closest("input, select, textarea, summary, a");
    if (!useKeys.checked || isField || event.ctrlKey || event.metaKey || event.altKey) return;
    const isButton = event.target.closest("button") && !event.target.closest(".token");
    const choice = form.querySelectorAll(".choice")[Number(event.key) - 1];
    if (choice) choose(choice);
    else if (event.key === "Enter" && !isButton) { event.preventDefault(); decide("saved"); }
    else if (event.key.toLowerCase() in actions && !event.shiftKey) { event.preventDefault(); actions[event.key.toLowerCase()](); }
  });
  form.addEventListener("submit", forgetDraft);
  addEventListener("pagehide", () => { if (timer) saveDraft(); });
  show();
})();
