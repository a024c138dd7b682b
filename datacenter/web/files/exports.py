"""Statuses of a period as CSV or Parquet, streamed in parts: memory use does not grow with the period."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from starlette.responses import Response, StreamingResponse

from datacenter.history.archive import history, reading_names
from datacenter.history.statuses import Statuses, joined
from datacenter.store.store import Store
from datacenter.store.tables.partitions import DAY_MS
from datacenter.web.rendering import profile_of
from datacenter.web.responses import csv_cell
from datacenter.web.routes import PageRequest
from settings.profile import Profile
from wire.messages import STATES

PART: Final = 10_000
"""Minimum number of statuses in each part but the last; in Parquet, a part is a row group."""
FIXED: Final = ("run", "number", "at_ms", "state", "samples")
Form: TypeAlias = Literal["csv", "parquet"]
MEDIA: Final[dict[Form, str]] = {
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}


@dataclass(frozen=True)
class StatusExport:
    """The statuses of an instrument from `since_ms` until before `until_ms`, by its clock."""

    store: Store
    box: str
    instrument: str
    since_ms: int
    until_ms: int
    profile: Profile | None = None
    """Names and units of readings, for Parquet."""

    @classmethod
    def of_page(cls, page: PageRequest, since_ms: int, until_ms: int) -> StatusExport:
        """Return the export of the instrument that a request names."""
        assert page.resource is not None, "the row names an instrument"
        profile = profile_of(page.resource.model)
        return cls(page.store, page.names["box"], page.names["instrument"], since_ms, until_ms, profile)

    def response(self, form: Form) -> Response:
        """Return the file as a stream. Raises: StoreError if its columns cannot be read."""
        names = reading_names(self.store, self.box, self.instrument, self.since_ms, self.until_ms)
        parts = self.csv_parts(names) if form == "csv" else self.parquet_parts(names)
        headers = {"content-disposition": f'attachment; filename="{self.instrument}.{form}"'}
        return StreamingResponse(parts, 200, headers, MEDIA[form])

    def parts(self) -> Iterator[Statuses]:
        """Yield the statuses in chronological order. Raises: StoreError."""
        waiting: list[Statuses] = []
        for day in range(self.since_ms // DAY_MS, (self.until_ms - 1) // DAY_MS + 1):
            since_ms, until_ms = max(self.since_ms, day * DAY_MS), min(self.until_ms, (day + 1) * DAY_MS)
            statuses = history(self.store, self.box, self.instrument, since_ms, until_ms)
            waiting.append(statuses)
            if sum(map(len, waiting)) >= PART:
                yield _sorted_by_time(waiting)
                waiting = []
        yield _sorted_by_time(waiting)

    def csv_parts(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yield the CSV file (RFC 4180) with these readings, in parts. Raises: StoreError."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow([*FIXED, *names])
        for part in self.parts():
            for run, one in part.reports():
                cells = (run, one.number, one.at_ms, one.state, one.samples, *map(one.readings.get, names))
                writer.writerow([csv_cell(cell) for cell in cells])
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()

    def parquet_parts(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yield the Parquet file with these readings, in parts. Raises: StoreError."""
        import pyarrow as pa  # imported here, because the import takes longer than a page
        from pyarrow import parquet

        integer = pa.int64()
        types = {"at_ms": pa.timestamp("ms", "UTC"), "state": pa.dictionary(pa.int8(), pa.string())}
        fields = [pa.field(name, types.get(name, integer), nullable=False) for name in FIXED]
        fields += [pa.field(name, integer, metadata=self._metadata(name)) for name in names]
        schema = pa.schema(fields)
        sink = _Sink()
        with parquet.ParquetWriter(pa.PythonFile(sink, "w"), schema, compression="zstd") as writer:
            for part in self.parts():
                if len(part):
                    writer.write_table(pa.Table.from_arrays(_columns(part, names, schema), schema=schema))
                yield sink.taken()
        yield sink.taken()

    def _metadata(self, reading: str) -> dict[str, str] | None:
        channel = self.profile.channels.get(reading) if self.profile else None
        return {"text": channel.text, "unit": channel.unit} if channel else None


class _Sink(io.RawIOBase):
    """A buffer that keeps written bytes until they are taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        """Return the bytes written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _sorted_by_time(parts: Sequence[Statuses]) -> Statuses:
    statuses = joined(parts)
    return statuses.chosen(np.argsort(statuses.at_ms, kind="stable"))


def _columns(part: Statuses, names: Sequence[str], schema: Any) -> list[Any]:
    import pyarrow as pa

    states = pa.DictionaryArray.from_arrays(pa.array(part.state, pa.int8()), pa.array(STATES))
    fixed = {name: pa.array(getattr(part, name)) for name in FIXED if name != "state"} | {"state": states}
    columns = [fixed[name].cast(schema.field(name).type) for name in FIXED]
    for name in names:
        one = part.readings.get(name)
        column = pa.nulls(len(part), pa.int64()) if one is None else pa.array(one.values, mask=~one.present)
        columns.append(column)
    return columns
