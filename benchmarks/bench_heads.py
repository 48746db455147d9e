"""Ours beside the published trainer's way: seconds an epoch, and what both come to.

    make bench-heads          (or: python benchmarks/bench_heads.py --quick)

Both ways get the same drawn features: videos whose lengths are lognormal with mean near 40 and at most 150, 1280
channels. The published *way*, as it is described: one .npy file is read an item through a DataLoader, everything is
padded to 150 frames, float32, PyTorch's AdamW as it comes. Its loop is plain PyTorch, so Lightning's own cost stands
on our side only. Neither way blends videos (MixUp would cost the padded way more).
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from actiondiff.heads.data import LabelledFeatures
from actiondiff.heads.grid import heads_at_once, train_grid
from actiondiff.heads.metrics import measure
from actiondiff.heads.models import HeadConfig, TransformerHead, build_head
from actiondiff.heads.presets import FitConfig
from actiondiff.heads.ragged import Ragged
from actiondiff.heads.schedule import lr_factor, warmup_length
from actiondiff.heads.training import score, train_head
from actiondiff.store import FeatureKey

LONGEST = 150
LINEAR = {"head": "linear", "lr": 1e-4, "weight_decay": 1e-4}
TRANSFORMER = {"head": "transformer", "lr": 3e-5, "weight_decay": 1e-4}


@dataclass(frozen=True)
class Size:
    """How much is drawn and trained."""

    channels: int = 1280
    classes: int = 12
    many_classes: int = 140
    linear_videos: int = 640
    linear_epochs: int = 4
    transformer_videos: int = 256
    transformer_epochs: int = 1
    transformer_layers: int = 6
    grid_heads: int = 91
    grid_videos: int = 256
    grid_epochs: int = 2
    grid_alone: int = 3
    seeds: int = 5
    same_videos: int = 384
    same_epochs: int = 10
    same_transformer_layers: int = 1
    same_transformer_videos: int = 96
    same_transformer_epochs: int = 6


QUICK = Size(64, 12, 140, 256, 3, 32, 2, 2, 13, 64, 2, 2, 3, 96, 4, 1, 32, 3)


def draw(videos: int, size: Size, seed: int, signal: float = 0.12) -> LabelledFeatures:
    """Frames around a point of their class, drawn once, in noise of deviation 1; float16, as a store holds them."""
    points = np.random.default_rng(1234).normal(size=(size.classes, size.channels))
    rng, deviation = np.random.default_rng(seed), 0.6
    lengths = np.clip(rng.lognormal(np.log(40) - deviation**2 / 2, deviation, videos).round(), 2, LONGEST).astype(int)
    of_class = np.arange(videos) % size.classes
    rows = np.concatenate(
        [signal * points[k] + rng.normal(size=(n, size.channels)) for n, k in zip(lengths, of_class, strict=True)]
    )
    ragged = Ragged.of_offsets(rows.astype(np.float16), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    names = tuple(f"c{k:02d}" for k in range(size.classes))
    labels = tuple((names[k],) for k in of_class)
    ids = tuple(f"{seed}-{index}" for index in range(videos))
    return LabelledFeatures(ragged, labels, ids, ("",) * videos, names, False)


class Files(Dataset):
    """The published data set: one file read an item, padded to the longest there may be."""

    def __init__(self, data: LabelledFeatures, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.paths = [folder / f"{index}_mean.npy" for index in range(len(data))]
        for path, array in zip(self.paths, data.features, strict=True):
            np.save(path, array)
        self.targets, self.channels = torch.from_numpy(data.targets_NK), data.channels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        features = torch.from_numpy(np.load(self.paths[index]))[:LONGEST]
        padded = torch.zeros(LONGEST, self.channels)
        padded[: len(features)] = features
        return padded, torch.arange(LONGEST) < len(features), self.targets[index]


class PublishedLinear(nn.Module):
    """All frames, one after another, through one linear map."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.classifier = nn.Linear(LONGEST * config.channels, config.classes)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Logits."""
        return self.classifier(features.flatten(1))


class PublishedTransformer(TransformerHead):
    """The same network, every layer computed for every token."""

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Logits."""
        tokens = torch.cat([self.cls_token.expand(len(features), -1, -1), features], dim=1)
        padding = torch.cat([torch.zeros_like(mask[:, :1]), ~mask], dim=1)
        return self.classifier(self.encoder(tokens + self.positions_TC, src_key_padding_mask=padding)[:, 0])


@dataclass(frozen=True)
class Outcome:
    """What a training came to."""

    seconds: list[float]
    loss: float
    accuracy: float

    @property
    def epoch_seconds(self) -> float:
        """Median; without the first epoch, which also pays for what comes once, where there are more."""
        return statistics.median(self.seconds[1:] or self.seconds)


def published(files: Files, test: LabelledFeatures, config: FitConfig, workers: int, device: str) -> Outcome:
    """Train the published way and test on the same head."""
    torch.manual_seed(config.seed)
    shape = HeadConfig(config.head, test.channels, len(test.classes), LONGEST, config.layers, config.attention_heads)
    head = (PublishedLinear if config.head == "linear" else PublishedTransformer)(shape).to(device)
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    loader = DataLoader(files, config.batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    total = config.epochs * len(loader)
    warmup = warmup_length(config.warmup_epochs, config.epochs, len(loader))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, warmup, total))
    seconds, losses = [], [0.0]
    for _ in range(config.epochs):
        begin, losses = time.perf_counter(), []
        for features, mask, targets in loader:
            loss = functional.cross_entropy(head(features.to(device), mask.to(device)), targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        seconds.append(time.perf_counter() - begin)
    same = build_head(shape)  # the weights of both heads have the same names
    same.load_state_dict(head.cpu().state_dict())
    accuracy = measure(score(same, test, "cross-entropy")).accuracy or 0.0
    return Outcome(seconds, statistics.fmean(losses), accuracy)


def ours(train: LabelledFeatures, test: LabelledFeatures, config: FitConfig, device: str) -> Outcome:
    """Train and test with what `actiondiff fit` calls."""
    ends = [time.perf_counter()]
    done = train_head(train, None, config, device=device, progress=lambda *_: ends.append(time.perf_counter()))
    accuracy = measure(score(done.head, test, "cross-entropy")).accuracy or 0.0
    return Outcome(np.diff(ends).tolist(), done.history[-1]["loss"], accuracy)


def settings(values: dict, epochs: int, **more: object) -> FitConfig:
    """Without MixUp and standardisation, in float32, frames up to the longest."""
    fixed = {"standardize": False, "max_length": LONGEST, "precision": "float32"}
    return FitConfig(**{**values, **fixed, **more}, epochs=epochs)


@contextmanager
def drawn(videos: int, size: Size) -> Iterator[tuple[LabelledFeatures, LabelledFeatures, Files]]:
    """Training and test videos, and the training videos as files."""
    train, test = draw(videos, size, 0), draw(192, size, 1)
    with tempfile.TemporaryDirectory() as folder:
        yield train, test, Files(train, Path(folder) / "layer_9")


def speed(size: Size, workers: int, device: str) -> dict:
    """Seconds an epoch of the linear head and the transformer, both ways."""
    results = {}
    layers = size.transformer_layers
    many = replace(size, classes=size.many_classes)
    for name, values, own, videos, epochs, goal in (
        ("linear", LINEAR, many, size.linear_videos, size.linear_epochs, 10),
        ("linear", LINEAR, size, size.linear_videos, size.linear_epochs, 10),
        ("transformer", TRANSFORMER | {"layers": layers}, size, size.transformer_videos, size.transformer_epochs, 3),
    ):
        config = settings(values, epochs)
        with drawn(videos, own) as (train, test, files):
            theirs = published(files, test, config, workers, device)
            mine = ours(train, test, config, device)
        ratio = theirs.epoch_seconds / mine.epoch_seconds
        print(f"{name:12} {own.classes:3} classes, {videos} videos: published {theirs.epoch_seconds:8.3f} s an epoch, "
              f"ours {mine.epoch_seconds:8.3f} s, {ratio:.1f} times (goal {goal})", flush=True)  # fmt: skip
        results[f"{name}, {own.classes} classes"] = {
            "published_s": theirs.epoch_seconds,
            "ours_s": mine.epoch_seconds,
            "ratio": ratio,
        }
    return results


def grid(size: Size, workers: int, device: str) -> dict:
    """All linear heads of a grid at once beside one after another: some are timed, the rest counted from them."""
    config, heads = settings(LINEAR, size.grid_epochs), size.grid_heads
    keys = [FeatureKey(1 + number, 0) for number in range(heads)]
    with drawn(size.grid_videos, size) as (train, test, files):
        noise = np.random.default_rng(2)
        sets = {key: _other(train, noise) for key in keys}
        fit = _seconds(lambda: train_head(train, None, config, device=device), size.grid_alone)
        whole = _seconds(lambda: published(files, test, config, workers, device), size.grid_alone)
        many = min(heads, heads_at_once(train, config, device))

        def together() -> None:
            for at in range(0, heads, many):
                train_grid({key: sets[key] for key in keys[at : at + many]}, None, config, device=device)

        at_once = _seconds(together, 1)
    print(f"{heads} linear heads, {size.grid_videos} videos, {size.grid_epochs} epochs: at once {at_once:.1f} s "
          f"({many} at a time); one after another, ours {heads * fit:.1f} s, {heads * fit / at_once:.1f} times; "
          f"published {heads * whole:.1f} s, {heads * whole / at_once:.1f} times (goal 10)", flush=True)  # fmt: skip
    return {"at_once_s": at_once, "alone_ours_s": heads * fit, "alone_published_s": heads * whole}


def _other(data: LabelledFeatures, rng: np.random.Generator) -> LabelledFeatures:
    rows = data.ragged.rows_RC
    rolled = np.roll(rows, int(rng.integers(1, rows.shape[1])), axis=1)
    made = Ragged(rolled, data.ragged.starts_N, data.ragged.lengths_N)
    return LabelledFeatures(made, data.labels, data.video_ids, data.groups, data.classes, False)


def _seconds(work: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def same(size: Size, workers: int, device: str) -> dict:
    """Final loss and test accuracy of both ways over several seeds."""
    results = {}
    for name, values, videos, epochs in (
        ("linear", LINEAR, size.same_videos, size.same_epochs),
        (
            "transformer",
            TRANSFORMER | {"layers": size.same_transformer_layers, "lr": 1e-4},
            size.same_transformer_videos,
            size.same_transformer_epochs,
        ),
    ):
        both: dict[str, list[Outcome]] = {"published": [], "ours": []}
        with drawn(videos, size) as (train, test, files):
            for seed in range(size.seeds):
                config = settings(values, epochs, seed=seed)
                both["published"].append(published(files, test, config, workers, device))
                both["ours"].append(ours(train, test, config, device))
        for way, outcomes in both.items():
            told = []
            for what in ("loss", "accuracy"):
                numbers = [getattr(outcome, what) for outcome in outcomes]
                told.append(f"{what} {statistics.fmean(numbers):.3f} ± {statistics.pstdev(numbers):.3f}")
                results[f"{name} {way} {what}"] = numbers
            print(f"{name:12} {way:10} after {epochs} epochs, {size.seeds} seeds: {', '.join(told)}", flush=True)
    return results


def main() -> None:
    """Run and print everything; `--json FILE` keeps the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="narrow and short: to see that it runs")
    parser.add_argument("--workers", type=int, default=0, help="DataLoader workers of the published way")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=("speed", "grid", "same"), help="one part of it")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else Size()
    print(f"{size}, {torch.get_num_threads()} threads, {arguments.workers} workers, {arguments.device}")
    result = {
        part.__name__: part(size, arguments.workers, arguments.device)
        for part in (speed, grid, same)
        if arguments.only in (None, part.__name__)
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
