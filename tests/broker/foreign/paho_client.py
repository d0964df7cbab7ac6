"""A job for paho-mqtt, threaded: read as JSON from stdin, answered as JSON on stdout. See test_foreign_clients.py."""

import json
import queue
import sys
import threading
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE_S = 50
NAMES = {
    "contentType": "ContentType",
    "responseTopic": "ResponseTopic",
    "messageExpiryInterval": "MessageExpiryInterval",
    "payloadFormatIndicator": "PayloadFormatIndicator",
}


def properties_of(said: dict[str, Any]) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)
    for name, attribute in NAMES.items():
        if name in said:
            setattr(properties, attribute, said[name])
    if "correlationData" in said:
        properties.CorrelationData = said["correlationData"].encode()
    if "userProperties" in said:
        properties.UserProperty = [tuple(pair) for pair in said["userProperties"]]
    return properties


def told(properties: Any) -> dict[str, Any]:
    found = {
        name: getattr(properties, attribute) for name, attribute in NAMES.items() if hasattr(properties, attribute)
    }
    if hasattr(properties, "CorrelationData"):
        found["correlationData"] = properties.CorrelationData.decode()
    if hasattr(properties, "UserProperty"):
        found["userProperties"] = [list(pair) for pair in properties.UserProperty]
    return found


def main(job: dict[str, Any]) -> dict[str, Any]:
    is_v5 = job["version"] == 5
    connected: queue.Queue[Any] = queue.Queue()
    granted: queue.Queue[Any] = queue.Queue()
    messages: queue.Queue[Any] = queue.Queue()
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2,
        job["clientId"],
        protocol=paho.MQTTv5 if is_v5 else paho.MQTTv311,
        **({} if is_v5 else {"clean_session": job["clean"]}),
    )
    client.username_pw_set(job["username"], job["password"])
    if "will" in job:
        client.will_set(job["will"]["topic"], job["will"]["payload"], job["will"]["qos"])
    client.on_connect = lambda _c, _u, flags, reason, _p: connected.put((flags.session_present, reason))
    client.on_subscribe = lambda _c, _u, _m, reasons, _p: granted.put([reason.value for reason in reasons])
    client.on_message = lambda _c, _u, message: messages.put(message)
    extra: dict[str, Any] = {}
    if is_v5:
        extra = {"clean_start": job["clean"], "properties": Properties(PacketTypes.CONNECT)}
        extra["properties"].SessionExpiryInterval = 0 if job["clean"] else 100
    client.connect("127.0.0.1", job["port"], **extra)
    client.loop_start()
    present, reason = connected.get(timeout=PATIENCE_S)
    if reason.is_failure:
        return {"refused": str(reason)}
    codes = []
    if job["subscribe"]:
        client.subscribe([(topic, qos) for topic, qos in job["subscribe"]])
        codes = granted.get(timeout=PATIENCE_S)
    for item in job["publish"]:
        properties = properties_of(item["properties"]) if item.get("properties") else None
        sent = client.publish(item["topic"], item["payload"], item["qos"], item.get("retain", False), properties)
        sent.wait_for_publish(PATIENCE_S)
    got = [messages.get(timeout=PATIENCE_S) for _ in range(job["expect"])]
    if job.get("hang"):
        print("hanging", flush=True)
        threading.Event().wait()
    client.disconnect()
    client.loop_stop()
    return {
        "sessionPresent": bool(present),
        "granted": codes,
        "messages": [
            {
                "topic": message.topic,
                "payload": message.payload.decode(),
                "qos": message.qos,
                "retain": bool(message.retain),
                "properties": told(message.properties) if message.properties else {},
            }
            for message in got
        ],
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.stdin.readline()))), flush=True)
