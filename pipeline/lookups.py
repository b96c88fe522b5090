"""Lookups in a pipeline file: where they come from, and tables that are read for them alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipeline.agreement import tables_of
from pipeline.model import Dataset, Lookup, SourceBlock
from pipeline.names import split_name


def read_for_lookups(
    sources: Mapping[str, SourceBlock], lookups: Mapping[str, Lookup], datasets: Mapping[str, Dataset]
) -> tuple[dict[str, SourceBlock], frozenset[str]]:
    """The sources with the tables of lookups that their `tables` lack, and the names of the datasets that are read for lookups alone."""
    found = dict(sources)
    alone: set[str] = set()
    named = {(feed.source, feed.table) for dataset in datasets.values() for feed in dataset.feeds}
    for lookup in lookups.values():
        block = found.get(lookup.source)
        written = None if block is None else getattr(block.config, "tables", None)
        if block is not None and getattr(block.config, "for_lookups", False) and (lookup.source, lookup.table) not in named:
            alone.add(lookup.table)
        if block is None or written is None or tables_of(written).holds(split_name(lookup.table)):
            continue
        found[lookup.source] = replace(block, config=block.config.model_copy(update={"tables": [*written, lookup.table]}))
        if (lookup.source, lookup.table) not in named:
            alone.add(split_name(lookup.table)[-1])
    return found, frozenset(alone)
