"use strict";

// The page that tries subscriptions: connects to the broker by WebSocket with a token that the gateway makes for it,
// subscribes, shows what comes, publishes. The token is kept in memory only.
const KEPT_MESSAGES = 200;
const SHOWN_OCTETS = 4096;
const DRAW_EVERY_MS = 200;

function hexOf(octets) {
  return [...octets].map((octet) => octet.toString(16).padStart(2, "0")).join(" ");
}

function textOf(octets) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(octets);
    return /^[\P{C}\r\n\t]*$/u.test(text) ? text : null;
  } catch {
    return null;
  }
}

// What is shown of a payload, and as what; `wanted` is auto, text, JSON or hex.
function shown(payload, contentType, wanted) {
  const part = payload.subarray(0, SHOWN_OCTETS);
  const more = payload.length > SHOWN_OCTETS ? " …" : "";
  const isCbor = /^application\/(.*\+)?cbor$/.test((contentType || "").split(";")[0].trim());
  const hex = { text: hexOf(part) + more, kind: isCbor ? "CBOR" : "hex" };
  if (wanted === "hex" || (wanted === "auto" && isCbor)) return hex;
  if (wanted === "text") return { text: new TextDecoder().decode(part) + more, kind: "text" };
  const text = textOf(payload);
  if (text === null) return hex;
  try {
    const value = JSON.parse(text);
    if (wanted === "JSON" || (value !== null && typeof value === "object")) {
      return { text: JSON.stringify(value, null, 2).slice(0, SHOWN_OCTETS) + more, kind: "JSON" };
    }
  } catch {
    // no JSON: text
  }
  return { text: text.slice(0, SHOWN_OCTETS) + more, kind: "text" };
}

function timeOf(date) {
  return date.toLocaleTimeString(undefined, { hour12: false });
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

class TryPage {
  constructor(root) {
    this.root = root;
    this.find = (name) => root.querySelector(`[data-try=${name}]`);
    this.client = null;
    this.messages = [];
    this.count = 0;
    this.isPaused = false;
    this.subscriptions = new Map();
    this.find("connect").addEventListener("submit", (event) => this.#on(event, () => this.#connect()));
    this.find("subscribe").addEventListener("submit", (event) => this.#on(event, () => this.#subscribe()));
    this.find("publish").addEventListener("submit", (event) => this.#on(event, () => this.#publish()));
    this.find("disconnect").addEventListener("click", () => this.client && this.client.disconnect());
    this.find("clear").addEventListener("click", () => this.#clear());
    this.find("pause").addEventListener("click", () => this.#pause());
    this.find("format").addEventListener("change", () => this.#redraw());
    this.find("role").addEventListener("change", () => this.#showRole());
    addEventListener("pagehide", () => this.client && this.client.disconnect());
    setInterval(() => this.#draw(), DRAW_EVERY_MS);
    this.#showRole();
    this.#enable(false);
  }

  #on(event, act) {
    event.preventDefault();
    act();
  }

  #showRole() {
    const chosen = this.find("role").selectedOptions[0];
    const { subscribe, publish } = chosen.dataset;
    this.find("rights").textContent =
      subscribe === undefined
        ? "what this role may do, the broker decides"
        : `may subscribe: ${subscribe || "nothing"}; may publish: ${publish || "nothing"}`;
    const list = this.find("filters");
    const filters = (subscribe || "").split(" ").filter(Boolean);
    list.replaceChildren(...filters.map((text) => Object.assign(element("option"), { value: text })));
    const filter = this.find("subscribe").elements.filter;
    if (list.options.length && (!filter.value || filter.dataset.isOurs)) {
      filter.value = list.options[0].value;
      filter.dataset.isOurs = "yes";
    }
    const topics = (publish || "").split(" ").filter(Boolean);
    this.find("publish").elements.topic.placeholder = topics[0] || (publish === "" ? "this role may publish nothing" : "");
  }

  #enable(isConnected, isBusy = isConnected) {
    for (const name of ["subscribe", "publish"]) {
      for (const control of this.find(name).elements) control.disabled = !isConnected;
    }
    for (const control of this.find("connect").elements) control.disabled = isBusy;
    this.find("disconnect").hidden = !isBusy || !this.client;
    this.find("disconnect").disabled = false;
    this.find("go").hidden = isBusy && Boolean(this.client);
  }

  #say(kind, words) {
    const state = this.find("state");
    state.className = `state ${kind}`;
    state.textContent = words;
  }

  async #connect() {
    const form = this.find("connect");
    this.#say("unheard", "connecting");
    const fields = new URLSearchParams(new FormData(form));
    this.client = null;
    this.#enable(false, true);
    let pass;
    try {
      pass = await this.#pass(form.action, fields);
    } catch (error) {
      this.#enable(false);
      this.#say("offline", "no token");
      this.find("why").textContent = `No token: ${error.message}.`;
      return;
    }
    this.#clearSubscriptions();
    this.find("why").textContent = "";
    this.client = new TryClient({
      url: this.root.dataset.url,
      level: Number(this.root.dataset.level),
      onState: (isConnected, why) => this.#onState(isConnected, why, pass),
      onMessage: (packet) => this.#onMessage(packet),
      onSubscribed: (filter, isGranted, words) => this.#onSubscribed(filter, isGranted, words),
      onPublished: (topic, isTaken, words) => this.#onPublished(topic, isTaken, words),
    });
    this.client.connect(pass);
    this.#enable(false, true);
  }

  // A token and what belongs to it; throws why there is none, in words.
  async #pass(place, fields) {
    const answer = await fetch(place, { method: "POST", body: fields }).catch(() => {
      throw new Error("the gateway does not answer");
    });
    const isOurs = (answer.headers.get("Content-Type") || "").startsWith("application/json");
    if (!isOurs) throw new Error("the session has ended: load the page again, and sign in");
    const pass = await answer.json();
    if (!answer.ok) throw new Error(pass.detail);
    return pass;
  }

  #onState(isConnected, why, pass) {
    this.#enable(isConnected);
    if (isConnected) {
      this.#say("online", "connected");
      const ends = timeOf(new Date(pass.expiresAt * 1000));
      this.find("why").textContent = `As ${pass.clientId}; the token ends at ${ends}.`;
      this.find("subscribe").elements.filter.focus();
      return;
    }
    this.#say("offline", "not connected");
    this.find("why").textContent = why ? `${why[0].toUpperCase()}${why.slice(1)}.` : "";
    for (const item of this.subscriptions.values()) item.remove();
    this.subscriptions.clear();
    this.find("none").hidden = false;
  }

  // --- subscriptions

  #subscribe() {
    const { filter, qos } = this.find("subscribe").elements;
    delete filter.dataset.isOurs;
    this.client.subscribe(filter.value, Number(qos.value));
  }

  #onSubscribed(filter, isGranted, words) {
    this.subscriptions.get(filter)?.remove();
    const item = element("li");
    item.append(element("span", "mono break", filter), " ");
    const outcome = isGranted ? `granted, ${words}` : `refused: ${words}`;
    item.append(element("span", `state ${isGranted ? "online" : "offline"}`, outcome), " ");
    const end = element("button", "plain small", isGranted ? "Unsubscribe" : "Dismiss");
    end.type = "button";
    end.setAttribute("aria-label", `${end.textContent} ${filter}`);
    end.addEventListener("click", () => {
      if (isGranted && this.client?.isReady) this.client.unsubscribe(filter);
      this.subscriptions.delete(filter);
      item.remove();
      this.find("none").hidden = this.subscriptions.size > 0;
    });
    item.append(end);
    this.subscriptions.set(filter, item);
    this.find("subscriptions").append(item);
    this.find("none").hidden = true;
  }

  #clearSubscriptions() {
    this.find("subscriptions").replaceChildren();
    this.subscriptions.clear();
    this.find("none").hidden = false;
  }

  // --- publishing

  #publish() {
    const { topic, payload, form, qos, retain } = this.find("publish").elements;
    let octets = new TextEncoder().encode(payload.value);
    if (form.value === "hex") {
      const digits = payload.value.replace(/[\s:,]/g, "");
      if (!/^([0-9a-f]{2})*$/i.test(digits)) {
        this.#onPublished(topic.value, false, "not sent: these are no hexadecimal digits in pairs");
        return;
      }
      octets = Uint8Array.from(digits.match(/../g) || [], (pair) => parseInt(pair, 16));
    }
    this.client.publish({ topic: topic.value, payload: octets, qos: Number(qos.value), retain: retain.checked });
  }

  #onPublished(topic, isTaken, words) {
    const place = this.find("published");
    place.className = isTaken === false ? "error" : "answer";
    place.textContent = isTaken === null ? `${topic}: ${words}` : `${topic}: ${isTaken ? "taken" : "refused"}, ${words}`;
  }

  // --- messages

  #onMessage(packet) {
    this.count += 1;
    this.messages.unshift({ at: new Date(), number: this.count, packet });
    if (this.messages.length > KEPT_MESSAGES) this.messages.length = KEPT_MESSAGES;
  }

  #pause() {
    this.isPaused = !this.isPaused;
    this.find("pause").textContent = this.isPaused ? "Go on" : "Pause";
  }

  #clear() {
    this.messages = [];
    this.count = 0;
    this.#redraw();
  }

  #redraw() {
    this.find("messages").replaceChildren();
    this.drawn = 0;
    this.#draw(true);
  }

  #draw(isForced = false) {
    if (this.isPaused && !isForced) return;
    const body = this.find("messages");
    const fresh = this.messages.filter((message) => message.number > (this.drawn || 0));
    if (fresh.length || isForced) {
      body.prepend(...fresh.map((message) => this.#row(message)));
      while (body.children.length > KEPT_MESSAGES) body.lastElementChild.remove();
      this.drawn = this.count;
      const part = this.count > KEPT_MESSAGES ? `, the newest ${KEPT_MESSAGES} here` : "";
      this.find("count").textContent = this.count ? `${this.count} messages${part}` : "";
      this.find("empty").hidden = this.count > 0;
      this.find("table").hidden = this.count === 0;
    }
  }

  #properties(pairs) {
    const details = element("details", "properties");
    const list = element("ul", "plain");
    list.append(...pairs.map(([name, value]) => element("li", "break", `${name}: ${value}`)));
    details.append(element("summary", "", `${pairs.length} properties`), list);
    return details;
  }

  #row({ at, packet }) {
    const { text, kind } = shown(packet.payload, packet.properties[Mqtt.CONTENT_TYPE], this.find("format").value);
    const cell = (label, className, content) => {
      const made = element("td", className, content);
      made.dataset.label = label;
      made.setAttribute("role", "cell");
      return made;
    };
    const row = element("tr");
    row.setAttribute("role", "row");
    const topic = cell("Topic", "title whole mono break", packet.topic);
    if (packet.properties.user.length) topic.append(this.#properties(packet.properties.user));
    const message = cell("Message", "whole mono break payload", text);
    message.append(" ", element("span", "hint", `${kind}, ${packet.payload.length} octets`));
    row.append(
      cell("Time", "", timeOf(at)),
      topic,
      message,
      cell("QoS", "number", `${packet.qos}${packet.retain ? ", retained" : ""}`),
    );
    return row;
  }
}

for (const root of document.querySelectorAll("[data-mqtt]")) new TryPage(root);
