"""Logins with a client certificate, as many as there is time for."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from bench.mqtt_load.job import Job, LoadError, Outcome, processor_s
from bench.mqtt_load.wire import PATIENCE_S, V311
from meshwire.mqtt import Connect, encode

__all__ = ["measure"]

HANDSHAKES_AT_ONCE: Final = 20


def measure(job: Job) -> Outcome:
    """Whole logins with a client certificate: TCP, TLS 1.3 without resumption, CONNECT, CONNACK, good-bye.

    The server's certificate is not verified here: this costs the client, not the server.
    """
    folder = Path(job.certificates or "")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(folder / "client.crt", folder / "client.key")
    connect = encode(Connect("", V311), V311)
    counts = [0] * HANDSHAKES_AT_ONCE
    stopping = threading.Event()

    def come_and_go(number: int) -> None:
        while not stopping.is_set():
            with (
                socket.create_connection(("127.0.0.1", job.port), PATIENCE_S) as plain,
                context.wrap_socket(plain) as secure,
            ):
                secure.sendall(connect)
                if secure.recv(4) != b"\x20\x02\x00\x00":
                    raise LoadError("the certificate was refused")
            counts[number] += 1

    with ThreadPoolExecutor(HANDSHAKES_AT_ONCE) as pool:
        running = [pool.submit(come_and_go, number) for number in range(HANDSHAKES_AT_ONCE)]
        time.sleep(job.warm_up_s)
        begin, before, used = time.perf_counter(), sum(counts), processor_s()
        time.sleep(job.seconds)
        elapsed, count, used = time.perf_counter() - begin, sum(counts) - before, processor_s() - used
        stopping.set()
        for each in running:
            each.result()
    return Outcome(count, elapsed, used / elapsed)
