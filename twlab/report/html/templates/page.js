"use strict";
const tabbed = run => {
  const tabs = [...run.querySelectorAll("[role=tab]")];
  const panel = tab => document.getElementById(tab.getAttribute("aria-controls"));
  const beside = run.querySelector(".beside");
  const arms = run.querySelector(".arms");
  let chosen = run.querySelector("[role=tab][aria-selected=true]");
  const show = () => {
    const all = beside.getAttribute("aria-pressed") === "true";
    arms.classList.toggle("beside", all);
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      panel(tab).hidden = !all && tab !== chosen;
    }
  };
  tabs.forEach((tab, number) => {
    tab.addEventListener("click", () => { chosen = tab; show(); });
    tab.addEventListener("keydown", event => {
      const to = { ArrowRight: number + 1, ArrowLeft: number - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      chosen = tabs[(to + tabs.length) % tabs.length];
      show();
      chosen.focus();
    });
  });
  beside.addEventListener("click", () => { beside.setAttribute("aria-pressed", String(beside.getAttribute("aria-pressed") !== "true")); show(); });
  if (chosen) show();
};
// Where the handle of a fold stands: no attribute of style, which a server's policy may refuse.
const handles = whole => {
  for (const fold of whole.querySelectorAll("[data-at]")) fold.style.setProperty("--at", fold.dataset.at);
};
const unpack = async (place, part = "packed") => {
  // Another call may have come first: a window is made narrow while its page is being completed.
  if (!(part in place.dataset)) return;
  const packed = Uint8Array.from(atob(place.dataset[part]), letter => letter.charCodeAt(0));
  delete place.dataset[part];
  const opened = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  place.insertAdjacentHTML("beforeend", await new Response(opened).text());
  handles(place);
};
addEventListener("toggle", event => { if (event.target.open && event.target.dataset.packed) unpack(event.target); }, true);
// A narrow screen has ladders of its own, with the labels below the arrows.
const phone = matchMedia("(max-width: 40rem)");
const narrow = async () => {
  if (!phone.matches) return;
  for (const place of document.querySelectorAll("[data-narrow]")) await unpack(place, "narrow");
};
phone.addEventListener("change", narrow);
const complete = async whole => {
  handles(whole);
  whole.querySelectorAll("section.run").forEach(tabbed);
  for (const place of whole.querySelectorAll("div[data-packed]")) await unpack(place);
  await narrow();
  document.documentElement.dataset.whole = "";
};
complete(document);
let folded = [];
addEventListener("beforeprint", () => { folded = [...document.querySelectorAll("details:not([open], .fold)")]; folded.forEach(one => { one.open = true; }); });
addEventListener("afterprint", () => folded.forEach(one => { one.open = false; }));
