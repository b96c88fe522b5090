"""What the journal calls the values that changes are compared with."""

from __future__ import annotations

from pipeline.model import Pipeline


def kept_name(dataset: str) -> str:
    """What the values of one dataset are kept by."""
    return f"earlier:{dataset}"


def kept_names(pipeline: Pipeline) -> frozenset[str]:
    """What the journal may keep such values by."""
    return frozenset(kept_name(dataset.name) for dataset in pipeline.datasets.values() if dataset.contract is not None)
