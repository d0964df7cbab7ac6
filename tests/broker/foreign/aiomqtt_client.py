"""The same job for aiomqtt."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

sys.path.insert(0, str(Path(__file__).parent))
from paho_client import PATIENCE_S, properties_of, told


async def main(job: dict[str, Any]) -> dict[str, Any]:
    is_v5 = job["version"] == 5
    extra: dict[str, Any] = {"clean_session": job["clean"]}
    if is_v5:
        expiry = Properties(PacketTypes.CONNECT)
        expiry.SessionExpiryInterval = 0 if job["clean"] else 100
        extra = {"clean_start": job["clean"], "properties": expiry}
    will = job.get("will")
    client = aiomqtt.Client(
        "127.0.0.1",
        job["port"],
        identifier=job["clientId"],
        username=job["username"],
        password=job["password"],
        protocol=aiomqtt.ProtocolVersion.V5 if is_v5 else aiomqtt.ProtocolVersion.V311,
        will=aiomqtt.Will(will["topic"], will["payload"], will["qos"]) if will else None,
        timeout=PATIENCE_S,
        **extra,
    )
    try:
        async with client:
            return await converse(client, job)
    except aiomqtt.MqttError as error:
        return {"refused": str(error)}


async def converse(client: aiomqtt.Client, job: dict[str, Any]) -> dict[str, Any]:
    codes: list[int] = []
    if job["subscribe"]:
        granted = await client.subscribe([(topic, qos) for topic, qos in job["subscribe"]])
        codes = [code.value if hasattr(code, "value") else int(code) for code in granted]
    for item in job["publish"]:
        properties = properties_of(item["properties"]) if item.get("properties") else None
        await client.publish(
            item["topic"], item["payload"], item["qos"], item.get("retain", False), properties=properties
        )
    got = []
    async with asyncio.timeout(PATIENCE_S):
        while len(got) < job["expect"]:
            got.append(await anext(client.messages))
    if job.get("hang"):
        print("hanging", flush=True)
        await asyncio.Event().wait()
    return {
        "granted": codes,
        "messages": [
            {
                "topic": message.topic.value,
                "payload": message.payload.decode() if isinstance(message.payload, bytes) else str(message.payload),
                "qos": message.qos,
                "retain": message.retain,
                "properties": told(message.properties) if message.properties else {},
            }
            for message in got
        ],
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.stdin.readline())))), flush=True)
