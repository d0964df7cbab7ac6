"use strict";

// One MQTT connection by WebSocket, from CONNECT to its end; what happens is told by callbacks. It shows nothing.
const KEEP_ALIVE_S = 30;

class TryClient {
  constructor({ url, level, onState, onMessage, onSubscribed, onPublished }) {
    Object.assign(this, { url, level, onState, onMessage, onSubscribed, onPublished });
    this.lastId = 0;
    this.subscribing = new Map();
    this.publishing = new Map();
    this.isReady = false;
  }

  connect({ clientId, username, token }) {
    this.stream = new Mqtt.Stream(this.level);
    this.socket = new WebSocket(this.url, "mqtt");
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () =>
      this.#send(Mqtt.encode.connect({ level: this.level, clientId, username, password: token, keepAliveS: KEEP_ALIVE_S }));
    this.isHeard = true;
    this.socket.onmessage = (event) => {
      this.isHeard = true;
      try {
        for (const packet of this.stream.feed(new Uint8Array(event.data))) this.#take(packet);
      } catch (error) {
        this.#end(`the broker breaks the protocol: ${error.message}`);
      }
    };
    const neverOpened = "the WebSocket can't be opened: is this address reachable from your browser?";
    this.socket.onclose = () => this.#end(this.isReady ? "the connection was lost" : neverOpened);
    this.pinging = setInterval(() => this.isReady && this.#ping(), KEEP_ALIVE_S * 500);
  }

  // A path that is cut says nothing: a ping without an answer is how it shows.
  #ping() {
    if (!this.isHeard) return this.#end("the broker does not answer any more");
    this.isHeard = false;
    return this.#send(Mqtt.encode.ping());
  }

  disconnect() {
    if (this.isReady) this.#send(Mqtt.encode.disconnect());
    this.#end("");
  }

  subscribe(filter, qos) {
    const id = this.#nextId();
    this.subscribing.set(id, filter);
    this.#send(Mqtt.encode.subscribe(this.level, id, filter, qos));
  }

  unsubscribe(filter) {
    this.#send(Mqtt.encode.unsubscribe(this.level, this.#nextId(), filter));
  }

  publish(message) {
    const id = message.qos ? this.#nextId() : 0;
    if (id) this.publishing.set(id, message.topic);
    this.#send(Mqtt.encode.publish(this.level, id, message));
    if (!id) this.onPublished(message.topic, null, "sent at QoS 0, which is never answered");
  }

  #take(packet) {
    const { types } = Mqtt;
    if (packet.type === types.CONNACK) {
      if (packet.code) return this.#end(`the broker refuses: ${this.#reason(packet)}`);
      this.isReady = true;
      this.onState(true, "");
    } else if (packet.type === types.PUBLISH) {
      if (packet.qos === 1) this.#send(Mqtt.encode.puback(packet.id));
      this.onMessage(packet);
    } else if (packet.type === types.SUBACK) {
      const filter = this.subscribing.get(packet.id);
      this.subscribing.delete(packet.id);
      const [code] = packet.codes;
      this.onSubscribed(filter, code < 0x80, code < 0x80 ? `QoS ${code}` : Mqtt.reason(code, packet.properties, 5));
    } else if (packet.type === types.PUBACK) {
      const topic = this.publishing.get(packet.id);
      this.publishing.delete(packet.id);
      this.onPublished(topic, packet.code < 0x80, Mqtt.reason(packet.code, packet.properties, 5));
    } else if (packet.type === types.DISCONNECT) {
      this.#end(`the broker ended the connection: ${this.#reason(packet)}`);
    }
    return undefined;
  }

  #reason(packet) {
    return Mqtt.reason(packet.code, packet.properties, this.level);
  }

  #nextId() {
    this.lastId = (this.lastId % 65535) + 1;
    return this.lastId;
  }

  #send(octets) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(octets);
  }

  #end(why) {
    if (this.isOver) return;
    this.isOver = true;
    this.isReady = false;
    clearInterval(this.pinging);
    this.socket.close();
    this.onState(false, why);
  }
}
