// Follows what happens, and moves the clocks on. Without it, the page is the picture of the moment it was loaded.
"use strict";
(() => {
  const RETRY_MILLISECONDS = 10000;
  const SIZES = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  const live = document.getElementById("live");
  const announcer = document.getElementById("announcer");
  // As the server wrote them: the clocks change what is shown.
  let parts = markupOf(document);
  let announced = picture(document).dataset.announcement;
  // How far this machine's clock is ahead of the operator's.
  let ahead = Date.now() - Number(picture(document).dataset.now);

  function picture(where) {
    return where.getElementById("picture");
  }

  function markupOf(where) {
    return new Map([...where.querySelectorAll("[data-part]")].map((part) => [part.id, part.outerHTML]));
  }

  function identity(element) {
    return element && (element.id || element.getAttribute("href"));
  }

  // The two largest units, as promoter/words/times.py writes durations.
  function duration(seconds) {
    let left = Math.max(0, Math.floor(seconds));
    const found = [];
    for (const [size, unit] of SIZES) {
      const count = Math.floor(left / size);
      left -= count * size;
      if (count || found.length) found.push([count, unit]);
    }
    return found.slice(0, 2).filter(([count]) => count).map(([count, unit]) => `${count}${unit}`).join("") || "0s";
  }

  function moveClocks() {
    const now = (Date.now() - ahead) / 1000;
    for (const clock of document.querySelectorAll("time[data-clock]")) {
      const at = Date.parse(clock.dateTime) / 1000;
      const words = {
        ago: () => `${duration(now - at)} ago`,
        for: () => `for ${duration(now - at)}`,
        in: () => (at - now < 1 ? "now" : `in ${duration(at - now)}`),
      }[clock.dataset.clock]();
      if (clock.textContent !== words) clock.textContent = words;
    }
  }

  function show(markup) {
    const found = new DOMParser().parseFromString(markup, "text/html");
    const fresh = picture(found);
    ahead = Date.now() - Number(fresh.dataset.now);
    const focused = identity(document.activeElement);
    const open = [...document.querySelectorAll("details[open]")].map((part) => part.id);
    const known = parts;
    parts = markupOf(found);
    if ([...parts.keys()].join() === [...known.keys()].join() && parts.size) {
      for (const [id, wanted] of parts) {
        if (known.get(id) !== wanted) document.getElementById(id).replaceWith(found.getElementById(id));
      }
    } else {
      picture(document).replaceWith(fresh);
    }
    // What somebody opened stays open, and the focus stays where it was.
    for (const part of document.querySelectorAll("details")) part.open = open.includes(part.id);
    if (focused && document.activeElement === document.body) {
      const again = [...document.querySelectorAll("main a, main summary")].find((part) => identity(part) === focused);
      if (again) again.focus({ preventScroll: true });
    }
    moveClocks();
    if (fresh.dataset.announcement !== announced) {
      announced = fresh.dataset.announcement;
      announcer.textContent = announced;
    }
  }

  function say(state, words) {
    live.textContent = words;
    live.dataset.state = state;
  }

  function follow() {
    const source = new EventSource(document.body.dataset.events);
    source.onopen = () => say("live", "Live");
    source.onmessage = (event) => show(event.data);
    source.addEventListener("gone", () => {
      source.close();
      say("lost", "Deleted");
      announcer.textContent = "This ModelPromotion was deleted";
    });
    source.onerror = () => {
      say("lost", "Connection lost, trying again");
      // A browser tries again by itself, unless it was refused.
      if (source.readyState === EventSource.CLOSED) setTimeout(follow, RETRY_MILLISECONDS);
    };
  }

  moveClocks();
  setInterval(moveClocks, 1000);
  follow();
})();
