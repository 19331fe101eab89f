"""Questions over records: activity by operation, differences, series of metrics, summaries.

Public is what `__all__` names. Imports the models and `render.format`; knows nothing of terminals or
of the command line. Each name is loaded when it is first asked for (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimp_otel.lazy_exports import export_lazily

if TYPE_CHECKING:
    from rimp_otel.analysis.activity import Activity as Activity
    from rimp_otel.analysis.activity import ActivityLimits as ActivityLimits
    from rimp_otel.analysis.activity import Failure as Failure
    from rimp_otel.analysis.activity import FailureCount as FailureCount
    from rimp_otel.analysis.activity import Operation as Operation
    from rimp_otel.analysis.activity import OperationStats as OperationStats
    from rimp_otel.analysis.diff import CallChange as CallChange
    from rimp_otel.analysis.diff import Differences as Differences
    from rimp_otel.analysis.diff import DurationChange as DurationChange
    from rimp_otel.analysis.diff import ErrorRateChange as ErrorRateChange
    from rimp_otel.analysis.diff import NewFailure as NewFailure
    from rimp_otel.analysis.diff import diff_operations as diff_operations
    from rimp_otel.analysis.errors import ErrorCollection as ErrorCollection
    from rimp_otel.analysis.errors import ErrorKind as ErrorKind
    from rimp_otel.analysis.errors import ErrorSummary as ErrorSummary
    from rimp_otel.analysis.metrics import CombinedSeries as CombinedSeries
    from rimp_otel.analysis.metrics import Distribution as Distribution
    from rimp_otel.analysis.metrics import MetricSeries as MetricSeries
    from rimp_otel.analysis.metrics import ValueRange as ValueRange
    from rimp_otel.analysis.metrics import combine_series as combine_series
    from rimp_otel.analysis.metrics import metric_series as metric_series
    from rimp_otel.analysis.summaries import TraceSummary as TraceSummary
    from rimp_otel.analysis.summaries import summarize_traces as summarize_traces

export_lazily(
    __name__,
    {
        "Activity": "rimp_otel.analysis.activity",
        "ActivityLimits": "rimp_otel.analysis.activity",
        "CallChange": "rimp_otel.analysis.diff",
        "CombinedSeries": "rimp_otel.analysis.metrics",
        "Differences": "rimp_otel.analysis.diff",
        "Distribution": "rimp_otel.analysis.metrics",
        "DurationChange": "rimp_otel.analysis.diff",
        "ErrorCollection": "rimp_otel.analysis.errors",
        "ErrorKind": "rimp_otel.analysis.errors",
        "ErrorRateChange": "rimp_otel.analysis.diff",
        "ErrorSummary": "rimp_otel.analysis.errors",
        "Failure": "rimp_otel.analysis.activity",
        "FailureCount": "rimp_otel.analysis.activity",
        "MetricSeries": "rimp_otel.analysis.metrics",
        "NewFailure": "rimp_otel.analysis.diff",
        "Operation": "rimp_otel.analysis.activity",
        "OperationStats": "rimp_otel.analysis.activity",
        "TraceSummary": "rimp_otel.analysis.summaries",
        "ValueRange": "rimp_otel.analysis.metrics",
        "combine_series": "rimp_otel.analysis.metrics",
        "diff_operations": "rimp_otel.analysis.diff",
        "metric_series": "rimp_otel.analysis.metrics",
        "summarize_traces": "rimp_otel.analysis.summaries",
    },
)
