// Saves the draft as it is typed, so that it is there if the browser closes. The form works without.
"use strict";
(() => {
  const form = document.querySelector("#talep"), told = document.querySelector("#kayit");
  if (!form || !window.fetch) return;
  let due = 0, busy = false, again = false, pressed = null;
  const save = async () => {
    if (pressed) return;
    if (busy) { again = true; return; }
    busy = true;
    const body = new FormData(form);
    // Keys are sent by the buttons only: a private key that is pasted by mistake stays here.
    for (const name of ["anahtar-yeni", "anahtar-dosya", "anahtar-kaldir"]) body.delete(name);
    body.set("islem", "taslak");
    try {
      const answer = await fetch(form.action, { method: "POST", body, credentials: "same-origin" });
      const type = answer.headers.get("content-type") || "";
      if (answer.redirected || !type.startsWith("application/json")) {
        told.textContent = "Taslak kaydedilemedi.";
        return;
      }
      const found = await answer.json(), problems = Object.values(found.sorunlar);
      if (found.surum) form.elements.surum.value = found.surum;
      const time = new Date().toLocaleTimeString("tr-TR");
      told.textContent = problems.length ? problems.join(" ") : `Taslak ${time} anında kaydedildi.`;
    } catch {
      told.textContent = "Taslak kaydedilemedi: bağlantı yok.";
    } finally {
      busy = false;
      if (pressed) form.requestSubmit(pressed);
      else if (again) { again = false; save(); }
    }
  };
  form.addEventListener("input", (event) => {
    if (event.target.name && event.target.name.startsWith("anahtar-")) return;
    clearTimeout(due);
    due = setTimeout(save, 1500);
  });
  // A button waits for the save that is under way: both would begin with the same draft.
  form.addEventListener("submit", (event) => {
    clearTimeout(due);
    pressed = event.submitter;
    if (busy) event.preventDefault();
  });
  addEventListener("pageshow", () => { pressed = null; });
})();
