"""The size of readings against their entropy: `python -m bench.lab.entropy [--json]`.

The statuses of one chemistry, one immunoassay and one hematology analyzer in batches of 64. The limit is the entropy
of the distribution that generates the readings, given the previous ones (`sim.instruments.entropy`). The columns of a
batch with their parameters are compared with it. The rest of a batch (members, states, identity) and of the bytes on
the wire is framing, which the benchmark "wire" measures in a lab. The same batches in a plain zstd stream are given
for comparison.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import msgspec

from bench.figures import Figure, figure, run
from sim.instruments import load_model
from sim.instruments.entropy import status_bits
from sim.instruments.history import History
from sim.units import DAY_NS, MINUTE_NS, SECOND_NS
from wire.columns import Packer, Unpacker
from wire.compression import PLAIN, Compressor
from wire.compression import dictionary as dictionary_of
from wire.messages import Entry, Status, encode, encode_batch

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MODELS = ("chemistry-analyzer", "immunoassay-analyzer", "hematology-analyzer")
RECORDS = 64
WARM_BATCHES = 20


@dataclass
class Sizes:
    """The bytes of all reports after the first batches, and the processor seconds for all reports."""

    reports: int = 0
    coded: int = 0
    packed: int = 0
    plain: int = 0
    packing_s: float = 0.0
    unpacking_s: float = 0.0


def batches(every_ns: int) -> list[bytes]:
    """Return the batches of a box with one healthy instrument of each model."""
    statuses_sent: list[tuple[int, str, Status]] = []
    for model in MODELS:
        history = History(model, model[:4].upper(), 5, report_every_ns=every_ns, start_ms=1_790_000_000_000)
        statuses = (report for report in history.until(DAY_NS) if isinstance(report, Status))
        statuses_sent += [(status.at_ms, model[:4].upper(), status) for status in statuses]
    statuses_sent.sort(key=lambda entry: entry[0])
    records = [
        (number, encode(Entry(serial, 1, status)))
        for number, (_, serial, status) in enumerate(statuses_sent, 1)
    ]
    return [encode_batch(1, records[first : first + RECORDS]) for first in range(0, len(records), RECORDS)]


def sizes(every_ns: int) -> Sizes:
    """Return the sizes of the batches in each form."""
    packer, unpacker, stream, total = Packer(), Unpacker(), Compressor(), Sizes()
    plain = zstd.ZstdCompressor(level=6, zstd_dict=dictionary_of(PLAIN))
    for turn, batch in enumerate(batches(every_ns)):
        began = time.process_time()
        packed = packer.pack(batch)
        total.packing_s += time.process_time() - began
        began = time.process_time()
        assert unpacker.unpack(packed) == batch
        total.unpacking_s += time.process_time() - began
        compressed = len(stream.compress(batch))
        in_plain = len(plain.compress(batch, mode=plain.FLUSH_BLOCK))
        if turn >= WARM_BATCHES:
            *_, changed, bits = msgspec.msgpack.decode(packed[1:])
            total.reports += RECORDS
            total.coded += len(bits) + len(msgspec.msgpack.encode(changed)) - 1
            total.packed += compressed
            total.plain += in_plain
    return total


def figures() -> list[Figure]:
    """Return all figures of readings."""
    lines = []
    for name, every_ns in (("a report a minute", MINUTE_NS), ("a report each 10 s", 10 * SECOND_NS)):
        limit = sum(status_bits(load_model(model), every_ns, 1) for model in MODELS) / len(MODELS) / 8
        total = sizes(every_ns)
        reports = total.reports
        lines += [
            figure(f"entropy of the readings, {name}", "B/report", limit),
            figure("  coded readings against it", "", total.coded / reports / limit, "<= 1.25"),
            figure("  body of a batch, columns and zstd", "B/report", total.packed / reports),
            figure("  body of a batch, zstd alone", "B/report", total.plain / reports),
            figure("  packing, processor", "µs/report", total.packing_s / reports * 1e6),
            figure("  unpacking, processor", "µs/report", total.unpacking_s / reports * 1e6),
        ]
    return lines


if __name__ == "__main__":
    run(figures, __doc__)
