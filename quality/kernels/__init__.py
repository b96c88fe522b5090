"""The expectations of Great Expectations as kernels over whole Arrow columns."""

from quality.kernels.errors import BadExpectation, UnknownExpectation
from quality.kernels.registry import compile_expectation
from quality.kernels.rule import RowKernel
from quality.kernels.verdict import RowVerdict, SetVerdict
from quality.kernels.whole import SetKernel

__all__ = ["BadExpectation", "RowKernel", "RowVerdict", "SetKernel", "SetVerdict", "UnknownExpectation", "compile_expectation"]
