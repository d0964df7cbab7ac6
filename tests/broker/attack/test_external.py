"""The isolation proof against Debian's Mosquitto and RabbitMQ behind our authority."""

from pathlib import Path

import pytest

from broker.adapters.mosquitto.process import server_program as mosquitto_program
from broker.adapters.rabbitmq.nodes import server_program as rabbitmq_program
from broker.attack.external import MOSQUITTO_LIMITS, RABBITMQ_LIMITS, mosquitto_target, rabbitmq_target
from broker.attack.proof import Proof, Verdict
from broker.attack.suite import ATTACKS, attack_all

pytestmark = pytest.mark.server
needs_rabbitmq = pytest.mark.skipif(rabbitmq_program() is None, reason="rabbitmq-server is not installed")


def judge(proofs: list[Proof], skipped: set[str], limits: set[str]) -> None:
    assert len(proofs) == len(ATTACKS)
    assert [proof for proof in proofs if proof.verdict is Verdict.BREACH] == []
    assert {proof.attack for proof in proofs if proof.verdict is Verdict.SKIPPED} == skipped
    assert {proof.attack for proof in proofs if proof.verdict is Verdict.LIMIT} == limits


@pytest.mark.skipif(mosquitto_program() is None, reason="mosquitto is not installed")
async def test_no_attack_succeeds_on_mosquitto(tmp_path: Path) -> None:
    async with mosquitto_target(tmp_path) as target:
        judge(await attack_all(target), set(), set(MOSQUITTO_LIMITS))


@needs_rabbitmq
@pytest.mark.slow
async def test_no_attack_succeeds_on_rabbitmq(tmp_path: Path) -> None:
    async with rabbitmq_target(tmp_path) as target:
        judge(await attack_all(target), {"response-topic", "topic-alias"}, set(RABBITMQ_LIMITS))


@needs_rabbitmq
@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_no_attack_succeeds_on_a_cluster_of_rabbitmq(tmp_path: Path) -> None:
    async with rabbitmq_target(tmp_path, size=3) as target:
        judge(await attack_all(target), {"response-topic", "topic-alias"}, set(RABBITMQ_LIMITS))
