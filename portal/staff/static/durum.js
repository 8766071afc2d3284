// Durum without reloading: the server sends the part of the page that has changed.
"use strict";
(() => {
  const live = document.querySelector("#canli"), cut = document.querySelector(".cut");
  if (!live || !window.EventSource) return;
  const stream = new EventSource(live.dataset.akis);
  const replace = (html) => {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    for (const part of live.querySelectorAll("[data-live]")) {
      const now = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
      if (!now || now.innerHTML === part.innerHTML) continue;
      // Somebody who goes through it with the keyboard keeps the place.
      const held = document.activeElement;
      if (part.contains(held) && !held.classList.contains("scroll")) continue;
      const old = part.querySelector(".scroll"), left = old?.scrollLeft, top = old?.scrollTop;
      const focused = old !== null && old === held;
      part.replaceChildren(...now.childNodes);
      const scroll = part.querySelector(".scroll");
      if (scroll) { scroll.scrollLeft = left || 0; scroll.scrollTop = top || 0; if (focused) scroll.focus({ preventScroll: true }); }
    }
  };
  stream.addEventListener("durum", (event) => replace(JSON.parse(event.data).html));
  stream.addEventListener("open", () => { cut.hidden = true; });
  stream.addEventListener("error", () => {
    cut.hidden = false;
    // The login is over, or too many pages are open: then the page must not reload without a pause.
    if (stream.readyState === EventSource.CLOSED)
      setTimeout(() => location.reload(), Math.max(0, 20000 - performance.now()));
  });
  addEventListener("pagehide", () => stream.close());
})();
