"""A back office on paho-mqtt with a session that the broker keeps: `python paho_back_office.py PORT TOKEN FILTER QOS`.

Writes every payload that arrives as a hexadecimal line to stdout. Unlike libmosquitto 2.0.11, paho recognises a QoS 2
message that a restarted broker sends again with its identifier, as a receiver must ([MQTT-4.3.3-10]).
"""

from __future__ import annotations

import sys
from typing import Any

import paho.mqtt.client as paho

port, token, topic_filter, qos = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])


def subscribe(client: paho.Client, *_: Any) -> None:
    client.subscribe(topic_filter, qos)


def write(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
    print(message.payload.hex(), flush=True)


client = paho.Client(paho.CallbackAPIVersion.VERSION2, "back-office", clean_session=False, protocol=paho.MQTTv311)
client.username_pw_set("notused", token)
client.reconnect_delay_set(1, 1)
client.on_connect = subscribe
client.on_message = write
client.connect_async("127.0.0.1", port)
client.loop_forever(retry_first_connection=True)
