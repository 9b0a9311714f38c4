"use strict";
// Styles that the pages' policy does not allow in markup.
const dress = place => {
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
// Streams of events that the page listens to, while it is seen: a browser has six connections to a server, for all its
// pages. Each connection tells all from its beginning, so `anew` is called before.
const streams = new Set();
const connect = stream => {
  stream.source = new EventSource(stream.path);
  stream.source.addEventListener("open", stream.anew);
  stream.source.addEventListener("message", message => stream.hear(JSON.parse(message.data)));
};
const disconnect = stream => { stream.source?.close(); stream.source = null; };
const listen = (path, hear, anew = () => {}) => {
  const stream = { path, hear, anew, source: null };
  streams.add(stream);
  if (!document.hidden) connect(stream);
};
document.addEventListener("visibilitychange", () => {
  streams.forEach(disconnect);
  if (!document.hidden) streams.forEach(connect);
});
// A screen reader says what changed, in the words that the page has for it.
const say = place => {
  const words = [...place.querySelectorAll("[data-said]")].map(one => one.textContent.trim()).join(" ");
  const said = document.getElementById("said");
  if (words && words !== said.textContent) said.textContent = words;
};
// The page as it is now, without loading all of it anew.
const renew = async () => {
  streams.forEach(disconnect);
  streams.clear();
  const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
  const main = document.adoptNode(page.querySelector("main"));
  document.querySelector("main").replaceWith(main);
  document.title = page.title;
  begin(main);
  complete(main);
  say(main);
};
// A run that is under way: its steps and its ladder, as they come; its verdict at once; then the whole page.
const follow = place => {
  let began = performance.now();
  const part = name => place.querySelector(`[data-${name}]`);
  const clock = (name, seconds) => { place.querySelector(`[data-clock=${name}]`).textContent = `${seconds.toFixed(3)} s`; };
  const ticking = setInterval(() => {
    if (place.isConnected) clock("wall", (performance.now() - began) / 1000); else clearInterval(ticking);
  }, 50);
  let arm = "", outcome = null;
  listen(place.dataset.follow, event => {
    if (event.real_s) began = Math.min(began, performance.now() - 1000 * event.real_s);
    if (event.event === "queued") part("state").textContent = `It waits: number ${event.position} of ${event.length}.`;
    if (event.event === "start") { arm = event.arm; part("state").textContent = `It runs: ${arm}.`; clock("lab", 0); }
    if (event.event === "entry") {
      clock("lab", event.at_s);
      if (event.kind === "step") {
        const line = document.createElement("li");
        line.className = "step";
        line.textContent = `${event.at_s.toFixed(3)} s (${event.real_s.toFixed(3)} s)  ${arm}: ${event.text}`;
        part("story").append(line);
        part("story").parentElement.scrollTop = part("story").scrollHeight;
      }
    }
    if (event.event === "ladder") {
      part("ladder").innerHTML = event.svg;
      part("whose").textContent = `The ladder of ${event.arm}, as it grows:`;
    }
    if (event.event === "verdict") {
      clearInterval(ticking);
      part("state").textContent = "It is done. The ladder is being drawn.";
      place.insertAdjacentHTML("beforebegin", event.markup);
      outcome = place.previousElementSibling;
      say(outcome);
    }
    if (event.event === "over") renew();
  }, () => {
    part("story").replaceChildren();
    outcome?.remove();
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
      say(place);
      if (answer.ok) history.replaceState(null, "", `${location.pathname}?${asked}`);
    }, 120);
  });
};
// A class: the page is loaded anew with its stage; the teacher's counts whenever something has changed.
const attend = place => {
  let waiting = 0;
  listen(`/class/${place.dataset.class}/events`, event => {
    const counts = place.querySelector("[data-counts]");
    if (event.stage === place.dataset.stage && !counts) return;
    clearTimeout(waiting);
    waiting = setTimeout(async () => {
      if (event.stage !== place.dataset.stage) return location.reload();
      const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
      counts.innerHTML = page.querySelector("[data-counts]").innerHTML;
    }, 300);
  });
};
const begin = place => {
  dress(place);
  link(place);
  place.querySelectorAll("[data-follow]").forEach(follow);
  place.querySelectorAll("form[data-from]").forEach(recompute);
  place.querySelectorAll("[data-class]").forEach(attend);
};
begin(document);
