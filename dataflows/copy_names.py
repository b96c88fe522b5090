"""What copies are asked for by: a dataset, or, where several sources make up one, the dataset and the source.

A copy brings the rows of one source. A sink that waits for the copies of several has each source's changes from its own copy on.
"""

from __future__ import annotations

from dataflows.build import dataset_name
from pipeline.model import Pipeline


class CopyNames:
    """The names of the copies of a pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def of(self, dataset: str) -> tuple[str, ...]:
        """Of all copies that bring a dataset whole."""
        entry = self._pipeline.datasets.get(dataset)
        if entry is None or len(entry.feeds) < 2:
            return (dataset,)
        return tuple(f"{dataset} ({feed.source}.{feed.table})" for feed in entry.feeds)

    def at(self, source: str, table: str) -> str:
        """Of the copy of one table."""
        dataset = dataset_name(self._pipeline, source, table)
        return dataset if len(self.of(dataset)) == 1 else f"{dataset} ({source}.{table})"
