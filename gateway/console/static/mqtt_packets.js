"use strict";

// The packets of an MQTT client, 3.1.1 (level 4) and 5.0 (level 5): octets out, octets in. No socket, no page.
const Mqtt = (() => {
  const CONNACK = 2, PUBLISH = 3, PUBACK = 4, SUBACK = 9, UNSUBACK = 11, PINGRESP = 13, DISCONNECT = 14;
  const utf8 = new TextEncoder();
  const words = new TextDecoder();

  // MQTT 5.0 section 2.2.2.2: how the value of a property is written.
  const KINDS = {
    1: "byte", 2: "four", 3: "text", 8: "text", 9: "octets", 11: "varint", 17: "four", 18: "text", 19: "two",
    21: "text", 22: "octets", 23: "byte", 24: "four", 25: "byte", 26: "text", 28: "text", 31: "text", 33: "two",
    34: "two", 35: "two", 36: "byte", 37: "byte", 38: "pair", 39: "four", 40: "byte", 41: "byte", 42: "byte",
  };
  const CONTENT_TYPE = 3, REASON_STRING = 31, USER_PROPERTY = 38;

  const REASONS = {
    0x00: "success", 0x01: "granted", 0x02: "granted", 0x10: "nobody is there for it", 0x11: "there was none",
    0x80: "unspecified error", 0x81: "malformed packet", 0x82: "protocol error", 0x83: "refused by the broker",
    0x84: "protocol version not supported", 0x85: "client id not valid", 0x86: "bad user name or password",
    0x87: "not authorized", 0x88: "server unavailable", 0x89: "server busy", 0x8a: "banned",
    0x8b: "server shutting down", 0x8d: "keep alive timeout", 0x8e: "session taken over",
    0x8f: "topic filter invalid", 0x90: "topic name invalid", 0x93: "receive maximum exceeded",
    0x95: "packet too large", 0x97: "quota exceeded", 0x98: "ended by an administrator",
    0x99: "payload format invalid", 0x9a: "retain not supported", 0x9b: "QoS not supported", 0x9c: "use another server",
    0x9f: "connection rate exceeded", 0xa0: "the token has ended", 0xa1: "no subscription identifiers",
  };
  const REFUSALS_3 = {
    1: "protocol version not supported", 2: "client id not valid", 3: "server unavailable",
    4: "bad user name or password", 5: "not authorized",
  };

  const two = (number) => [number >> 8, number & 0xff];
  const binary = (octets) => [...two(octets.length), ...octets];
  const text = (string) => binary(utf8.encode(string));

  function varint(number) {
    const octets = [];
    do {
      octets.push((number & 0x7f) | (number > 0x7f ? 0x80 : 0));
      number >>= 7;
    } while (number);
    return octets;
  }

  const packet = (first, body) => new Uint8Array([first, ...varint(body.length), ...body]);
  const noProperties = (level) => (level === 5 ? [0] : []);

  const encode = {
    connect: ({ level, clientId, username, password, keepAliveS }) =>
      packet(0x10, [
        ...text("MQTT"), level, 0xc2, ...two(keepAliveS), ...noProperties(level), ...text(clientId), ...text(username),
        ...text(password),
      ]),
    subscribe: (level, id, filter, qos) => packet(0x82, [...two(id), ...noProperties(level), ...text(filter), qos]),
    unsubscribe: (level, id, filter) => packet(0xa2, [...two(id), ...noProperties(level), ...text(filter)]),
    publish: (level, id, { topic, payload, qos, retain }) =>
      packet(0x30 | (qos << 1) | (retain ? 1 : 0), [
        ...text(topic), ...(qos ? two(id) : []), ...noProperties(level), ...payload,
      ]),
    puback: (id) => packet(0x40, two(id)),
    ping: () => new Uint8Array([0xc0, 0]),
    disconnect: () => new Uint8Array([0xe0, 0]),
  };

  class Reader {
    constructor(octets) {
      this.octets = octets;
      this.at = 0;
    }
    get left() {
      return this.octets.length - this.at;
    }
    take(count) {
      if (count > this.left) throw new RangeError("a packet ends too early");
      this.at += count;
      return this.octets.subarray(this.at - count, this.at);
    }
    byte() {
      return this.take(1)[0];
    }
    two() {
      const [high, low] = this.take(2);
      return (high << 8) | low;
    }
    four() {
      return this.two() * 65536 + this.two();
    }
    varint() {
      for (let value = 0, shift = 0; shift < 28; shift += 7) {
        const octet = this.byte();
        value |= (octet & 0x7f) << shift;
        if (octet < 0x80) return value;
      }
      throw new RangeError("a length is too long");
    }
    octetString() {
      return this.take(this.two());
    }
    text() {
      return words.decode(this.octetString());
    }
    properties() {
      const inner = new Reader(this.take(this.varint()));
      const found = { user: [] };
      while (inner.left) {
        const id = inner.varint();
        const kind = KINDS[id];
        if (!kind) throw new RangeError(`a property ${id} that there is not`);
        if (kind === "pair") {
          found.user.push([inner.text(), inner.text()]);
        } else {
          found[id] = kind === "octets" ? inner.octetString() : inner[kind]();
        }
      }
      return found;
    }
  }

  function decode(first, body, level) {
    const reader = new Reader(body);
    const type = first >> 4;
    if (type === PUBLISH) {
      const qos = (first >> 1) & 3;
      const topic = reader.text();
      const id = qos ? reader.two() : 0;
      const properties = level === 5 ? reader.properties() : { user: [] };
      const payload = reader.take(reader.left).slice();
      return { type, topic, qos, id, payload, retain: Boolean(first & 1), properties };
    }
    if (type === CONNACK) {
      const [, code] = [reader.byte(), reader.byte()];
      return { type, code, properties: level === 5 && reader.left ? reader.properties() : {} };
    }
    if (type === DISCONNECT) {
      const code = reader.left ? reader.byte() : 0;
      return { type, code, properties: reader.left ? reader.properties() : {} };
    }
    if (type === PINGRESP) return { type };
    const id = reader.two();
    if (type === PUBACK) {
      const code = reader.left ? reader.byte() : 0;
      return { type, id, code, properties: reader.left ? reader.properties() : {} };
    }
    const properties = level === 5 ? reader.properties() : {};
    return { type, id, codes: [...reader.take(reader.left)], properties };
  }

  // Puts the octets of a connection together to packets.
  class Stream {
    constructor(level) {
      this.level = level;
      this.kept = new Uint8Array(0);
    }
    feed(octets) {
      const all = new Uint8Array(this.kept.length + octets.length);
      all.set(this.kept);
      all.set(octets, this.kept.length);
      const packets = [];
      let at = 0;
      while (all.length - at >= 2) {
        const reader = new Reader(all.subarray(at));
        const first = reader.byte();
        const length = this.#length(reader);
        if (length === null || reader.left < length) break;
        packets.push(decode(first, reader.take(length), this.level));
        at += reader.at;
      }
      this.kept = all.slice(at);
      return packets;
    }
    #length(reader) {
      const octets = reader.octets.subarray(reader.at, reader.at + 4);
      return octets.some((octet) => octet < 0x80) || octets.length === 4 ? reader.varint() : null;
    }
  }

  function reason(code, properties, level) {
    const name = level === 4 ? REFUSALS_3[code] : REASONS[code];
    const number = `0x${code.toString(16).padStart(2, "0")}`;
    const said = properties && properties[REASON_STRING];
    return `${number} ${name || "(unknown)"}${said ? `: ${said}` : ""}`;
  }

  return { encode, Stream, reason, types: { CONNACK, PUBLISH, PUBACK, SUBACK, UNSUBACK, DISCONNECT }, CONTENT_TYPE };
})();
