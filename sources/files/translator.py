"""From the records of a file to a batch of changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import structlog

from journal.batch import ChangeBatch, Defect, Op, Payload, Payloads
from journal.schema import Column, TableSchema
from journal.types import parse_type
from sources.base import SourceContext
from sources.declared import declared_records
from sources.files.config import FilesConfig
from sources.files.folder import Found
from sources.records.base import Decoded
from sources.records.files import FileRecords, make_reader
from sources.records.lines import broken

log = structlog.get_logger("sluice.files")

_MOST_NAMES = 100  # of unknown fields: they come from outside, and each is a line in the log and a metric


class Translator:
    """Makes batches of the records of one source's files. For one thread, but for `unknown`.

    reader   reads a file
    packed   whether files may be compressed, by their name: parquet is by itself
    schema   what the batches look like
    unknown  field that records have and the schema lacks -> records it was in
    """

    def __init__(self, config: FilesConfig, context: SourceContext) -> None:
        """Raises Refused where nothing says which columns there are, ConfigError for columns that cannot be read."""
        self._source = context.name
        records = declared_records(config.schema_, config.paths, context.name, context)
        self.packed = config.format != "parquet"
        self.reader = make_reader(config.format, records, config.decoding, config.record)
        columns = [Column(one.name, str(parse_type(one.type)), nullable=not one.required) for one in self.reader.schema.fields]
        self.schema = TableSchema(context.tables.get(context.name, context.name), tuple(columns), records.key)
        self.unknown: Counter[str] = Counter()

    def batch(self, records: FileRecords, number: int, file: Found, sink: str | None = None) -> ChangeBatch:
        """One row for each record, in order; `number` is the file's."""
        if sink is None:
            self._note(records.decoded.extra)
        return self._made(records.decoded, records.numbers, records.payloads, number, file, sink)

    def rest(self, number: int, place: int, file: Found, why: str) -> ChangeBatch:
        """One row that stands for all that cannot be read any more of a file, from `place` on."""
        nothing = tuple(pa.nulls(1, pa.string()) for _ in self.schema.columns)
        decoded = Decoded(nothing, np.full(1, Op.INSERT, np.uint8), (Defect(0, None, broken(why), b""),))
        return self._made(decoded, np.array([place], np.int64), [Payload(None, b"")], number, file, None)

    def _made(
        self,
        decoded: Decoded,
        places: np.ndarray[tuple[int], np.dtype[np.int64]],
        payloads: Sequence[Payload],
        number: int,
        file: Found,
        sink: str | None,
    ) -> ChangeBatch:
        n = len(decoded)
        return ChangeBatch(
            schema=self.schema,
            source=self._source,
            table=self._source,
            op=decoded.op,
            lsn=np.full(n, number, np.int64),
            nth=places,
            time=np.full(n, max(0, file.modified // 1000), np.int64),
            ordinal=np.zeros(n, np.int64),
            columns=decoded.columns,
            defects=decoded.defects,
            sink=sink,
            payloads=Payloads(payloads, np.arange(n, dtype=np.int64)),
        )

    def _note(self, extra: Counter[str]) -> None:
        for name, count in extra.items():
            if name not in self.unknown:
                if len(self.unknown) >= _MOST_NAMES:
                    continue
                log.warning("records have a field that the schema lacks", source=self._source, field=name)
            self.unknown = self.unknown + Counter({name: count})
