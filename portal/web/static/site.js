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

  // The viewer of a signed sheet. A box whose first scan arrives while its page is open gets one then.
  let viewer = null, act = () => {};
  const setUpViewer = () => {
    viewer = one("#goruntuleyici");
    if (!viewer) return;
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
    act = (name) => { actions[name](); show(); };
    viewer.addEventListener("click", (event) => {
      const button = event.target.closest("[data-do]");
      if (button) act(button.dataset.do);
    });
  };
  setUpViewer();
  const keys = { "+": "buyut", "-": "kucult", "0": "sigdir", r: "dondur" };
  const links = { ArrowLeft: "#onceki", k: "#onceki", ArrowRight: "#sonraki", j: "#sonraki" };
  addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (viewer && keys[event.key]) { act(keys[event.key]); event.preventDefault(); }
    else if (links[event.key] && !event.target.closest(".frame, .scroll")) one(links[event.key])?.click();
  });

  // A new snapshot: the page fetches itself, and replaces what has changed.
  const state = one("#anlik");
  if (state && window.EventSource) {
    let stream = null, busy = false, again = false, timer = 0, lost = 0;

    // What a part is named by in the page that is shown and in the new one.
    const nameOf = (element) => element.dataset.name || element.id || element.getAttribute("href")
      || (element.querySelector("summary") || element).textContent;
    // Replace a part; what was open stays open, and the keyboard stays where it was.
    const replace = (part, now) => {
      const left = part.scrollLeft, top = part.scrollTop, focused = document.activeElement;
      const held = focused !== part && part.contains(focused) ? nameOf(focused) : null;
      const open = new Map([...part.querySelectorAll("details")].map((each) => [nameOf(each), each.open]));
      part.replaceChildren(...now.childNodes);
      for (const each of part.querySelectorAll("details")) each.open = open.get(nameOf(each)) ?? each.open;
      part.scrollLeft = left; part.scrollTop = top;
      if (held !== null) {
        const same = [...part.querySelectorAll(focused.tagName)].find((each) => nameOf(each) === held);
        (same || part.closest("[tabindex]") || one("#icerik")).focus({ preventScroll: true });
      }
      part.classList.add("fresh");
      setTimeout(() => part.classList.remove("fresh"), 2000);
    };
    // What the line of the snapshot says if the page may be old.
    let note = [];
    const tell = (...parts) => { note = parts; one("#yeni")?.replaceChildren(...note); };
    const stop = () => {
      stream.close();
      clearInterval(timer);
      const link = document.createElement("a");
      link.href = location.href;
      link.textContent = "Yeniden açın.";
      tell("· Bu sayfa artık yenilenmiyor. ", link);
    };
    const update = async () => {
      if (busy) { again = true; return; }
      busy = true;
      try {
        const answer = await fetch(location.href, { credentials: "same-origin", headers: { accept: "text/html" } });
        if (answer.redirected || [401, 403, 404].includes(answer.status)) { stop(); return; }
        if (!answer.ok) { soon(10000); return; }
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of document.querySelectorAll("[data-live]")) {
          const now = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
          if (now && now.innerHTML !== part.innerHTML && !part.contains(viewer)) replace(part, now);
        }
        if (!viewer) setUpViewer();
        // The newest scan has a link now; the one that is shown stays.
        for (const link of document.querySelectorAll('[data-live="taramalar"] a')) {
          const path = new URL(link.href).searchParams.get("tutanak");
          if (viewer?.querySelector("img").src.endsWith(`/${path}`)) link.setAttribute("aria-current", "true");
          else link.removeAttribute("aria-current");
        }
        const head = fresh.querySelector("#anlik");
        if (head) { state.replaceChildren(...head.childNodes); state.dataset.snapshot = head.dataset.snapshot; tell(...note); }
      } catch {
        soon(10000);
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
    const follow = () => {
      stream = new EventSource("/canli");
      stream.addEventListener("open", () => { clearTimeout(lost); lost = 0; tell(); });
      stream.addEventListener("snapshot", (event) => {
        if (JSON.parse(event.data).number > Number(state.dataset.snapshot)) soon(3000);
      });
      stream.addEventListener("announcements", () => { if (one('[data-live="duyurular"]')) soon(1000); });
      stream.addEventListener("error", () => {
        // Too many pages are open, so the stream was refused: the page asks once a minute instead.
        if (stream.readyState === EventSource.CLOSED) timer ||= setInterval(() => soon(10000), 60000);
        // The browser tries again every few seconds.
        else lost ||= setTimeout(() => tell("· Bağlantı yok, sayfa eski olabilir."), 5000);
      });
    };
    follow();
    addEventListener("pagehide", () => stream.close());
    addEventListener("pageshow", (event) => { if (event.persisted) { follow(); update(); } });
  }
})();
