// What makes the pages quick; everything works without it.
"use strict";
(() => {
  const one = (selector) => document.querySelector(selector);

  // A list of the search form that changes: the lists after it begin again, and the page is asked for.
  const form = one("#arama-formu");
  if (form) {
    const order = ["secim", "alan", "tur", "cevre", "kurul", "mahalle"];
    form.addEventListener("change", (event) => {
      const at = order.indexOf(event.target.name);
      if (at < 0 && event.target.name !== "durum") return;
      for (const name of order.slice(at + 1)) {
        const list = form.elements[name];
        if (at >= 0 && list && (name === "kurul" || name === "mahalle" || (name === "cevre" && at < 3))) list.value = "";
      }
      form.requestSubmit();
    });
    // The address holds only what was chosen.
    form.addEventListener("submit", () => {
      for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
    });
    addEventListener("pageshow", (event) => {
      if (event.persisted) for (const field of form.elements) if (field.type !== "hidden") field.disabled = false;
    });
  }

  // The viewer of a signed sheet.
  const viewer = one("#goruntuleyici");
  if (viewer) {
    const image = viewer.querySelector("img"), frame = viewer.querySelector(".frame");
    let zoom = 1, turn = 0;
    viewer.querySelector(".tools").hidden = false;
    const show = () => {
      const side = turn % 180 !== 0;
      image.style.width = `${zoom * 100}%`;
      image.style.transform = turn ? `rotate(${turn}deg)` : "";
      image.style.margin = side ? `${Math.max(0, (image.offsetWidth - image.offsetHeight) / 2)}px 0` : "";
    };
    const actions = {
      buyut: () => { zoom = Math.min(zoom * 1.5, 8); },
      kucult: () => { zoom = Math.max(zoom / 1.5, 0.5); },
      sigdir: () => { zoom = 1; turn = 0; frame.scrollTo(0, 0); },
      dondur: () => { turn = (turn + 90) % 360; },
    };
    viewer.addEventListener("click", (event) => {
      const button = event.target.closest("[data-do]");
      if (button) { actions[button.dataset.do](); show(); }
    });
    const keys = { "+": "buyut", "-": "kucult", "0": "sigdir", r: "dondur" };
    addEventListener("keydown", (event) => {
      if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
      const links = { ArrowLeft: "#onceki", k: "#onceki", ArrowRight: "#sonraki", j: "#sonraki" };
      if (keys[event.key]) { actions[keys[event.key]](); show(); event.preventDefault(); }
      else if (links[event.key] && !event.target.closest(".frame, .scroll")) one(links[event.key])?.click();
    });
  }

  // A new snapshot: the page fetches itself, and replaces what has changed.
  const state = one("#anlik");
  if (state && window.EventSource) {
    const stream = new EventSource("/canli");
    let busy = false, again = false, timer = 0;
    const update = async () => {
      if (busy) { again = true; return; }
      busy = true;
      try {
        const answer = await fetch(location.href, { credentials: "same-origin", headers: { accept: "text/html" } });
        if (answer.redirected || !answer.ok) { stream.close(); clearInterval(timer); return; }
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of document.querySelectorAll("[data-live]")) {
          const now = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
          if (now && now.innerHTML !== part.innerHTML) {
            const left = part.scrollLeft, top = part.scrollTop;
            const held = part.contains(document.activeElement);
            if (held && document.activeElement !== part) continue;
            part.replaceChildren(...now.childNodes);
            part.scrollLeft = left; part.scrollTop = top;
            part.classList.add("fresh");
            setTimeout(() => part.classList.remove("fresh"), 2000);
          }
        }
        const head = fresh.querySelector("#anlik");
        if (head) { state.replaceChildren(...head.childNodes); state.dataset.snapshot = head.dataset.snapshot; }
      } finally {
        busy = false;
        if (again) { again = false; update(); }
      }
    };
    // Everybody is told at the same moment. Each page asks a little later, so that not all ask at once.
    let waiting = false;
    const soon = (most) => {
      if (waiting) return;
      waiting = true;
      setTimeout(() => { waiting = false; update(); }, Math.random() * most);
    };
    stream.addEventListener("snapshot", (event) => {
      if (JSON.parse(event.data).number > Number(state.dataset.snapshot)) soon(3000);
    });
    stream.addEventListener("announcements", () => { if (one('[data-live="duyurular"]')) soon(1000); });
    stream.addEventListener("error", () => {
      // Too many pages are open, so the stream was refused: the page asks once a minute instead.
      if (stream.readyState === EventSource.CLOSED && !timer) timer = setInterval(() => soon(10000), 60000);
    });
    addEventListener("pagehide", () => stream.close());
  }
})();
