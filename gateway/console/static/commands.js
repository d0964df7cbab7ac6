"use strict";

// The table of a NIC's commands follows them: each event holds it as it is now, and live_tables.js takes over what differs.
function followCommands(section) {
  const body = section.querySelector("[data-commands-body]");
  const state = section.querySelector("[data-commands-state]");
  const told = ({ waiting, table }) => {
    takeOver(body, new DOMParser().parseFromString(table, "text/html").body);
    document.querySelector("[data-commands-waiting]").textContent = waiting;
    reachScrolling();
  };
  const say = (words) => () => sayState(state, words);
  listen(section.dataset.commands, {
    told,
    live: say(""),
    away: say("The commands are not live: the gateway does not answer; trying again."),
    ended: say("The commands are not live any more: load the page again."),
  });
}

document.querySelectorAll("[data-commands]").forEach(followCommands);
