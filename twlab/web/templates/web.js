"use strict";
// Styles that the pages' policy does not allow in markup.
const dress = place => {
  for (const each of place.querySelectorAll("[data-at]")) each.style.setProperty("--at", each.dataset.at);
  for (const each of place.querySelectorAll("[data-width]")) each.style.width = each.dataset.width;
};
// A slider and its number are one knob.
const link = place => {
  for (const slider of place.querySelectorAll("input[type=range][data-for]")) {
    const number = document.getElementById(slider.dataset.for);
    if (number.value) slider.value = number.value;
    slider.addEventListener("input", () => { number.value = slider.value; number.dispatchEvent(new Event("input", { bubbles: true })); });
    number.addEventListener("input", event => { if (event.isTrusted && number.value) slider.value = number.value; });
  }
};
// A run that is under way: its steps and its ladder, as they come; at the end the whole page.
const follow = place => {
  const began = performance.now();
  const part = name => place.querySelector(`[data-${name}]`);
  const clock = (name, seconds) => { place.querySelector(`[data-clock=${name}]`).textContent = `${seconds.toFixed(3)} s`; };
  const ticking = setInterval(() => clock("wall", (performance.now() - began) / 1000), 50);
  const source = new EventSource(`/run/${place.dataset.follow}/events`);
  let arm = "";
  source.addEventListener("message", message => {
    const event = JSON.parse(message.data);
    if (event.event === "queued") part("state").textContent = `It waits: number ${event.position} of ${event.length}.`;
    if (event.event === "start") { arm = event.arm; part("state").textContent = `It runs: ${arm}.`; clock("lab", 0); }
    if (event.event === "entry") {
      clock("lab", event.at_s);
      if (event.kind === "step") {
        const line = document.createElement("li");
        line.className = "step";
        line.textContent = `${event.at_s.toFixed(3)} s (${event.real_s.toFixed(3)} s)  ${arm}: ${event.text}`;
        part("story").append(line);
      }
    }
    if (event.event === "ladder") part("ladder").innerHTML = event.svg;
    if (event.event === "over") { source.close(); clearInterval(ticking); location.reload(); }
  });
};
// Forms whose answer is computed while they change.
const recompute = form => {
  const place = document.getElementById(form.dataset.into);
  let waiting = 0, latest = 0;
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(async () => {
      const mine = ++latest, asked = new URLSearchParams(new FormData(form));
      const answer = await fetch(`${form.dataset.from}?${asked}`);
      if (mine !== latest) return;
      place.innerHTML = await answer.text();
      dress(place);
      history.replaceState(null, "", `${location.pathname}?${asked}`);
    }, 120);
  });
};
// A class: the page is fetched anew when it has changed, unless its reader is filling in a form.
const attend = place => {
  const source = new EventSource(`/class/${place.dataset.class}/events`);
  let waiting = 0;
  source.addEventListener("message", message => {
    const event = JSON.parse(message.data);
    if (event.stage === place.dataset.stage && place.querySelector("form.predict")) return;
    clearTimeout(waiting);
    waiting = setTimeout(async () => {
      if (event.stage !== place.dataset.stage) return location.reload();
      const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
      const fresh = page.querySelector("[data-counts]"), old = place.querySelector("[data-counts]");
      if (fresh && old) old.replaceWith(document.adoptNode(fresh));
    }, 300);
  });
};
dress(document);
link(document);
document.querySelectorAll("[data-follow]").forEach(follow);
document.querySelectorAll("form[data-from]").forEach(recompute);
document.querySelectorAll("[data-class]").forEach(attend);
