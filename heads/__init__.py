"""Heads: features to labels. Names are loaded when asked for, so that importing this costs nothing."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actiondiff.heads.batch import Batch, collate, pad
    from actiondiff.heads.data import LabelledFeatures, choose_key, load_features
    from actiondiff.heads.evaluation import Evaluation, evaluate, predict
    from actiondiff.heads.fitting import FitResult, fit
    from actiondiff.heads.matrix import TransferResult, TransferRow
    from actiondiff.heads.metrics import Metrics, Predictions, measure, write_predictions
    from actiondiff.heads.models import AttentiveHead, HeadConfig, LinearHead, MLPHead, TransformerHead, build_head
    from actiondiff.heads.presets import PRESETS, FitConfig, configure
    from actiondiff.heads.ragged import Ragged
    from actiondiff.heads.runs import Run, RunConfig, RunError
    from actiondiff.heads.sweep_table import SweepRow, SweepTable
    from actiondiff.heads.sweeping import SweepResult, sweep
    from actiondiff.heads.training import Placement, TrainedHead, score, train_head
    from actiondiff.heads.transferring import transfer

_HOMES = {
    "batch": ("Batch", "collate", "pad"),
    "data": ("LabelledFeatures", "choose_key", "load_features"),
    "evaluation": ("Evaluation", "evaluate", "predict"),
    "fitting": ("FitResult", "fit"),
    "matrix": ("TransferResult", "TransferRow"),
    "metrics": ("Metrics", "Predictions", "measure", "write_predictions"),
    "models": ("AttentiveHead", "HeadConfig", "LinearHead", "MLPHead", "TransformerHead", "build_head"),
    "presets": ("PRESETS", "FitConfig", "configure"),
    "ragged": ("Ragged",),
    "runs": ("Run", "RunConfig", "RunError"),
    "sweep_table": ("SweepRow", "SweepTable"),
    "sweeping": ("SweepResult", "sweep"),
    "training": ("Placement", "TrainedHead", "score", "train_head"),
    "transferring": ("transfer",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "PRESETS",
    "AttentiveHead",
    "Batch",
    "Evaluation",
    "FitConfig",
    "FitResult",
    "HeadConfig",
    "LabelledFeatures",
    "LinearHead",
    "MLPHead",
    "Metrics",
    "Placement",
    "Predictions",
    "Ragged",
    "Run",
    "RunConfig",
    "RunError",
    "SweepResult",
    "SweepRow",
    "SweepTable",
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
    "load_features",
    "measure",
    "pad",
    "predict",
    "score",
    "sweep",
    "train_head",
    "transfer",
    "write_predictions",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
