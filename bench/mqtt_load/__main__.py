"""`python -m bench.mqtt_load JOB`."""

import json
import sys
from dataclasses import asdict

from bench.mqtt_load import handshakes, idle, ping
from bench.mqtt_load.job import Job, Outcome
from bench.mqtt_load.load import Load


def run(job: Job) -> Outcome:
    """Does the job.

    Raises:
        LoadError: a message was lost, repeated or reordered, or the broker went silent.
    """
    if job.idle:
        return idle.stay(job)
    if job.certificates:
        return handshakes.measure(job)
    return ping.measure(job) if job.ping else Load(job).measure()


if __name__ == "__main__":
    print(json.dumps(asdict(run(Job(**json.loads(sys.argv[1]))))))
