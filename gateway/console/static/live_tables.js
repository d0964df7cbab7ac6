"use strict";

// Tables that follow what they show: fetched again every two seconds and taken over cell by cell, so that the focus,
// the selection and what is unfolded stay where they are.
const REFRESH_MS = 2000;

function takeOverRows(old, fresh) {
  const held = document.activeElement;
  const stay = new Set([...fresh.children].map((row) => row.dataset.key));
  const known = new Map();
  for (const row of [...old.children]) {
    if (stay.has(row.dataset.key)) known.set(row.dataset.key, row);
    else row.remove();
  }
  let place = old.firstElementChild;
  for (const row of [...fresh.children]) {
    const mine = known.get(row.dataset.key);
    if (mine) [...row.cells].forEach((cell, index) => takeOverCell(mine.cells[index], cell));
    if (mine && mine === place) place = mine.nextElementSibling;
    else old.insertBefore(mine || row, place);
  }
  if (old.contains(held) && held !== document.activeElement) held.focus({ preventScroll: true }); // its row has moved
}

function takeOverCell(mine, fresh) {
  for (const details of mine.querySelectorAll("details[open]")) {
    const same = fresh.querySelector(`#${CSS.escape(details.id)}`);
    if (same) same.open = true;
  }
  if (mine.innerHTML !== fresh.innerHTML) mine.replaceChildren(...fresh.childNodes);
}

function takeOver(body, fresh) {
  if (body.innerHTML === fresh.innerHTML) return; // an alert that stays is not to be read out again
  const [old, rows] = [body.querySelector("tbody"), fresh.querySelector("tbody")];
  if (!old || !rows || body.querySelector("[role=alert]") || fresh.querySelector("[role=alert]")) {
    body.replaceChildren(...fresh.childNodes);
    return;
  }
  takeOverRows(old, rows);
  for (const part of fresh.querySelectorAll("[data-part]")) {
    const mine = body.querySelector(`[data-part="${part.dataset.part}"]`);
    if (mine && mine.innerHTML !== part.innerHTML) mine.replaceChildren(...part.childNodes);
  }
}

function keepFresh(section) {
  const body = section.querySelector("[data-refresh-body]");
  const state = section.querySelector("[data-refresh-state]");
  const pause = section.querySelector("[data-refresh-pause]");
  let isPaused = false;
  const say = (words) => sayState(state, words);
  pause.hidden = false;
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.textContent = isPaused ? "Go on" : "Pause";
    say(isPaused ? "paused" : "live");
  });
  const refresh = async () => {
    if (isPaused || document.hidden) return;
    try {
      const answer = await fetch(section.dataset.refresh);
      if (answer.redirected) return location.reload(); // to the sign-in page
      const text = await answer.text();
      if (isPaused) return;
      const page = new DOMParser().parseFromString(text, "text/html");
      takeOver(body, page.querySelector("main") || page.body); // a refusal is a whole page
      say(answer.ok ? "live" : "not live: see below");
    } catch {
      say("not live: the gateway does not answer; trying again");
    }
  };
  const again = () => refresh().finally(() => setTimeout(again, REFRESH_MS));
  setTimeout(again, REFRESH_MS / 2);
  say("live");
}

document.querySelectorAll("[data-refresh]").forEach(keepFresh);

// A form of an address shows the bounds that the chosen type has a use for.
function fitToType(form) {
  const chosen = form.querySelector("[name=type]:checked");
  const type = chosen ? chosen.value : form.dataset.types;
  for (const label of form.querySelectorAll("[data-for-types]")) {
    label.hidden = !label.dataset.forTypes.split(" ").includes(type);
  }
}
for (const form of document.querySelectorAll("form[data-types]")) {
  fitToType(form);
  form.addEventListener("change", () => fitToType(form));
}
