// What makes the desk quick; everything works without it.
"use strict";
(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const busy = (event) => event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented
    || event.target.closest("input:not([type=checkbox]), select, textarea");

  // The filters of the queue: one that changes asks for the page; the address has only what is chosen.
  const filters = one("#masa-suzgec");
  if (filters) {
    filters.addEventListener("change", () => filters.requestSubmit());
    filters.addEventListener("submit", () => {
      for (const field of filters.elements) if (field.name && !field.value) field.disabled = true;
    });
    addEventListener("pageshow", (event) => {
      if (event.persisted) for (const field of filters.elements) field.disabled = false;
    });
  }

  // The queue: j and k move, Enter opens the page that has the focus.
  const entries = all("#kuyruk a.entry");
  if (entries.length) {
    entries[0].focus({ preventScroll: true });
    addEventListener("keydown", (event) => {
      const step = { j: 1, k: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (busy(event) || !step) return;
      const at = entries.indexOf(document.activeElement);
      entries[Math.min(Math.max(at + step, 0), entries.length - 1)].focus();
      event.preventDefault();
    });
  }

  // Ten pages at once: one box marks all.
  const every = one("#hepsini-sec");
  if (every) every.addEventListener("change", () => {
    for (const box of all("input[name=dosya]")) box.checked = every.checked;
  });

  const viewer = one("#masa-resim");
  if (!viewer) return;

  // The viewer.
  const sheet = one(".sheet", viewer), image = one("img", viewer), frame = one(".frame", viewer);
  const marks = one(".marks", viewer);
  const look = { zoom: 1, turn: 0, contrast: false, inverted: false, marked: true, drawing: false };
  const fit = () => { if (!marks.hasAttribute("viewBox") && image.naturalWidth) marks.setAttribute("viewBox", `0 0 ${image.naturalWidth} ${image.naturalHeight}`); };
  if (image.complete) fit();
  const show = () => {
    // The turned page begins at the top left corner of the frame, so that all of it can be scrolled to.
    const side = look.turn % 180 !== 0, ratio = image.naturalWidth ? image.naturalHeight / image.naturalWidth : 1.414;
    const wide = frame.clientWidth * look.zoom / (side ? ratio : 1), high = wide * ratio;
    sheet.style.width = `${wide}px`;
    sheet.style.marginBottom = side ? `${wide - high}px` : "";
    sheet.style.transform = {
      0: "", 90: `translateX(${high}px) rotate(90deg)`,
      180: `translate(${wide}px, ${high}px) rotate(180deg)`, 270: `translateY(${wide}px) rotate(-90deg)`,
    }[look.turn];
    image.style.filter = [look.contrast ? "grayscale(1) contrast(2.5)" : "", look.inverted ? "invert(1)" : ""].join(" ").trim();
    marks.toggleAttribute("hidden", !look.marked);
    viewer.classList.toggle("drawing", look.drawing);
    for (const [name, on] of [["kontrast", look.contrast], ["ters", look.inverted], ["isaret", look.marked], ["parca", look.drawing]]) {
      one(`[data-do=${name}]`, viewer)?.setAttribute("aria-pressed", on);
    }
    const turn = one("#yon");
    if (turn) turn.value = String(look.turn);
  };
  image.addEventListener("load", () => { fit(); show(); });
  addEventListener("resize", () => show());
  const actions = {
    buyut: () => { look.zoom = Math.min(look.zoom * 1.5, 8); },
    kucult: () => { look.zoom = Math.max(look.zoom / 1.5, 0.5); },
    sigdir: () => { look.zoom = 1; look.turn = 0; frame.scrollTo(0, 0); },
    dondur: () => { look.turn = (look.turn + 90) % 360; },
    kontrast: () => { look.contrast = !look.contrast; },
    ters: () => { look.inverted = !look.inverted; },
    isaret: () => { look.marked = !look.marked; },
    parca: () => { look.drawing = !look.drawing; },
  };
  viewer.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]");
    if (button) { actions[button.dataset.do](); show(); }
  });

  // A part of the page that is to be read again, drawn with the mouse; otherwise the mouse scrolls.
  let from = null, part = null;
  const onPage = (event) => {
    const [, , wide, high] = (marks.getAttribute("viewBox") || "0 0 1 1").split(" ").map(Number);
    return [event.offsetX / image.clientWidth * wide, event.offsetY / image.clientHeight * high];
  };
  image.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    image.setPointerCapture(event.pointerId);
    from = look.drawing ? onPage(event) : [event.clientX, event.clientY];
  });
  image.addEventListener("pointermove", (event) => {
    if (!from) return;
    if (!look.drawing) {
      frame.scrollBy(from[0] - event.clientX, from[1] - event.clientY);
      from = [event.clientX, event.clientY];
      return;
    }
    const to = onPage(event), field = one("#parca");
    const box = [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1])].map((side) => Math.max(0, Math.round(side)));
    if (!part) {
      part = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      part.setAttribute("class", "part");
      marks.append(part);
    }
    for (const [name, value] of [["x", box[0]], ["y", box[1]], ["width", box[2] - box[0]], ["height", box[3] - box[1]]]) part.setAttribute(name, value);
    if (field && box[0] < box[2] && box[1] < box[3]) field.value = box.join(", ");
  });
  addEventListener("pointerup", () => {
    if (from && look.drawing && part) {
      look.drawing = false;
      show();
      open("#yeniden-oku", "button");
    }
    from = null;
  });

  const open = (form, field) => {
    const details = one(form)?.closest("details");
    if (!details) return;
    details.open = true;
    one(field, details)?.focus();
  };

  // A sheet is chosen, or searched for: only these parts of the page are asked for again.
  const parts = ["secim", "bulunan"];
  let asked = 0;
  const load = async (address) => {
    const mine = ++asked;
    try {
      const answer = await fetch(address, { credentials: "same-origin" });
      if (answer.redirected || !answer.ok) { location.assign(address); return false; }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (mine !== asked) return false;
      for (const name of parts) {
        const old = one(`[data-part=${name}]`), now = one(`[data-part=${name}]`, fresh);
        if (old && now) old.replaceChildren(...now.childNodes);
      }
      const chosen = one("#ara-formu [name=secim]", fresh)?.value;
      if (chosen) {
        let field = one("#ara-formu [name=secim]");
        if (!field) {
          field = document.createElement("input");
          field.type = "hidden"; field.name = "secim";
          one("#ara-formu").append(field);
        }
        field.value = chosen;
      }
      const rescan = one("#tarama", fresh), before = one("#tarama");
      if (rescan && before) before.replaceChildren(...rescan.childNodes);
      for (const link of all(".suggestions a.pick")) {
        if (chosen && new URL(link.href).searchParams.get("secim") === chosen) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
      history.replaceState(null, "", address);
      return true;
    } catch { location.assign(address); return false; }
  };
  document.addEventListener("click", async (event) => {
    const link = event.target.closest("a.pick");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    const form = one("#ara-formu"), address = new URL(link.href);
    if (form.elements.ara.value) address.searchParams.set("ara", form.elements.ara.value);
    if (await load(address.href)) {
      (one("#onayla") || one("#secim-baslik"))?.focus({ preventScroll: true });
      one("#secim").scrollIntoView({ block: "nearest" });
    }
  });
  one("#ara-formu").addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target, address = new URL(form.action);
    for (const [name, value] of new FormData(form)) if (value) address.searchParams.append(name, value);
    if (!await load(address.href)) return;
    const found = all("#bulunan a.pick");
    if (found.length === 1) found[0].click();
    else found[0]?.focus();
  });

  // A form that is sent twice: the second click does nothing.
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.method !== "post") return;
    if (event.target.dataset.sent) { event.preventDefault(); return; }
    event.target.dataset.sent = "1";
  });
  addEventListener("pageshow", () => { for (const form of all("form[data-sent]")) delete form.dataset.sent; });

  // While a page is read again, look whether that is done.
  if (one("[data-reading]")) setTimeout(() => location.reload(), 1500);

  const keys = { "+": "buyut", "=": "buyut", "-": "kucult", 0: "sigdir", d: "dondur", c: "kontrast", i: "ters", m: "isaret", p: "parca" };
  const links = { n: "#sonraki", b: "#kuyruga" };
  const forms = { r: ["#ret form", "#ret-gerekce"], t: ["#tarama form", "#tarama-gerekce"], o: ["#yeniden-oku", "button"] };
  addEventListener("keydown", (event) => {
    if (busy(event)) return;
    const key = event.key;
    if (/^[1-9]$/.test(key)) one(`[data-key="${key}"]`)?.click();
    else if (keys[key]) { actions[keys[key]](); show(); }
    else if (links[key]) one(links[key])?.click();
    else if (forms[key]) open(...forms[key]);
    else if (key === "/") one("#ara").select();
    else if (key === "?") one(".keys").open = true;
    else if (key === "j" || key === "k" || key === "ArrowDown" || key === "ArrowUp") {
      const choices = all("#bulunan a.pick").length ? all("#bulunan a.pick") : all(".suggestions a.pick");
      const at = choices.indexOf(document.activeElement);
      if (key.startsWith("Arrow") && at < 0) return;
      choices[Math.min(Math.max(at + (key === "j" || key === "ArrowDown" ? 1 : -1), 0), choices.length - 1)]?.focus();
    } else if (key === "Enter" && document.activeElement === document.body) one("#tanimla")?.requestSubmit();
    else return;
    event.preventDefault();
  });
  show();
})();
