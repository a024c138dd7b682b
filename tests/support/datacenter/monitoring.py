"""Read the metrics and the health of a data center as Prometheus and a load balancer do."""

from __future__ import annotations

import subprocess
from http.client import HTTPConnection
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.support.eventually import WAIT_SECONDS_MAX


class Read(NamedTuple):
    status: int
    text: str
    kind: str


def read(port: int, path: str, host: str = "127.0.0.1", accept: str = "", method: str = "GET") -> Read:
    connection = HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS_MAX)
    connection.request(method, path, headers={"host": host, "accept": accept})
    response = connection.getresponse()
    reply = Read(response.status, response.read().decode(), response.headers.get("content-type", ""))
    connection.close()
    return reply


def values(text: str) -> dict[str, float]:
    """Return the samples by name and labels, such as `rap_records_total{result="stored"}`."""
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            samples[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return samples


def promtool_findings(text: str) -> str:
    """Return the output of `promtool check metrics` (Debian package prometheus); it is empty if all is right."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    return f"{done.stdout}{done.stderr}" + (f"exit status {done.returncode}" if done.returncode else "")
