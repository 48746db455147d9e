"""Heads: features to labels. Names are loaded when asked for, so that importing this costs nothing."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actiondiff.heads.batch import Batch, collate, pad
    from actiondiff.heads.bootstrap import Difference, intervals
    from actiondiff.heads.comparing import Comparison
    from actiondiff.heads.data import LabelledFeatures, choose_key, load_features
    from actiondiff.heads.evaluation import Evaluation, evaluate, predict, told_of_length
    from actiondiff.heads.fitting import FitResult, fit
    from actiondiff.heads.matrix import TransferResult, TransferRow
    from actiondiff.heads.metrics import Interval, Metrics, Predictions, measure, write_predictions
    from actiondiff.heads.models import AttentiveHead, HeadConfig, LinearHead, MLPHead, TransformerHead, build_head
    from actiondiff.heads.presets import PRESETS, FitConfig, configure
    from actiondiff.heads.ragged import Ragged
    from actiondiff.heads.reading import Reading, read_result
    from actiondiff.heads.report import Picture, Report, write_report
    from actiondiff.heads.runs import Run, RunConfig, RunError
    from actiondiff.heads.sweep_table import SweepRow, SweepTable
    from actiondiff.heads.sweeping import SweepResult, sweep
    from actiondiff.heads.timeline import Bout, Timeline, TimelineSettings, predict_over_time, predict_timelines
    from actiondiff.heads.timeline_files import timelines_text, write_timelines
    from actiondiff.heads.training import Placement, TrainedHead, score, train_head
    from actiondiff.heads.transferring import transfer

_HOMES = {
    "batch": ("Batch", "collate", "pad"),
    "bootstrap": ("Difference", "intervals"),
    "comparing": ("Comparison",),
    "data": ("LabelledFeatures", "choose_key", "load_features"),
    "evaluation": ("Evaluation", "evaluate", "predict", "told_of_length"),
    "fitting": ("FitResult", "fit"),
    "matrix": ("TransferResult", "TransferRow"),
    "metrics": ("Interval", "Metrics", "Predictions", "measure", "write_predictions"),
    "models": ("AttentiveHead", "HeadConfig", "LinearHead", "MLPHead", "TransformerHead", "build_head"),
    "presets": ("PRESETS", "FitConfig", "configure"),
    "ragged": ("Ragged",),
    "reading": ("Reading", "read_result"),
    "report": ("Picture", "Report", "write_report"),
    "runs": ("Run", "RunConfig", "RunError"),
    "sweep_table": ("SweepRow", "SweepTable"),
    "sweeping": ("SweepResult", "sweep"),
    "timeline": ("Bout", "Timeline", "TimelineSettings", "predict_over_time", "predict_timelines"),
    "timeline_files": ("timelines_text", "write_timelines"),
    "training": ("Placement", "TrainedHead", "score", "train_head"),
    "transferring": ("transfer",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "PRESETS",
    "AttentiveHead",
    "Batch",
    "Bout",
    "Comparison",
    "Difference",
    "Evaluation",
    "FitConfig",
    "FitResult",
    "HeadConfig",
    "Interval",
    "LabelledFeatures",
    "LinearHead",
    "MLPHead",
    "Metrics",
    "Picture",
    "Placement",
    "Predictions",
    "Ragged",
    "Reading",
    "Report",
    "Run",
    "RunConfig",
    "RunError",
    "SweepResult",
    "SweepRow",
    "SweepTable",
    "Timeline",
    "TimelineSettings",
    "TrainedHead",
    "TransferResult",
    "TransferRow",
    "TransformerHead",
    "build_head",
    "choose_key",
    "collate",
    "configure",
    "evaluate",
    "fit",
    "intervals",
    "load_features",
    "measure",
    "pad",
    "predict",
    "predict_over_time",
    "predict_timelines",
    "read_result",
    "score",
    "sweep",
    "timelines_text",
    "told_of_length",
    "train_head",
    "transfer",
    "write_predictions",
    "write_report",
    "write_timelines",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
