"use strict";

// The table of a NIC's commands follows them: each event holds it as it is now, and live_tables.js takes over what differs.
function followCommands(section) {
  const body = section.querySelector("[data-commands-body]");
  const state = section.querySelector("[data-commands-state]");
  const source = new EventSource(section.dataset.commands);
  source.onopen = () => (state.textContent = "");
  source.onerror = () => (state.textContent = "The commands are not live: the gateway does not answer; trying again.");
  source.addEventListener("over", (event) => {
    if (JSON.parse(event.data) !== "ended") return; // after its time the browser opens it anew by itself
    source.close();
    state.textContent = "The commands are not live any more: load the page again.";
  });
  source.onmessage = (event) => {
    const { waiting, table } = JSON.parse(event.data);
    takeOver(body, new DOMParser().parseFromString(table, "text/html").body);
    document.querySelector("[data-commands-waiting]").textContent = waiting;
    reachScrolling();
  };
  addEventListener("pagehide", () => source.close());
}

document.querySelectorAll("[data-commands]").forEach(followCommands);
