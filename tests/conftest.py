"""What several rooms' tests share: golden values, drawn clips, a fake backbone."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from fakes import GOLDEN, FakeBackbone, draw_frames
from PIL import Image

from actiondiff.cli import cli
from actiondiff.manifests import Manifest, Video, write_video


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Networks of tests are so small that a second thread costs more than it gives."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _scheduled_as_before() -> Iterator[None]:
    """What one test's libraries do to the priority of this thread must not starve the processes of the next."""
    ask = getattr(os, "sched_getscheduler", lambda _: None)
    before = ask(0)
    yield
    assert ask(0) == before


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """Features of the published implementation with the weights of svd-tiny."""
    with np.load(GOLDEN / "features.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def golden_clip(golden, tmp_path_factory) -> Path:
    """The golden frames as a folder of PNGs, in a manifest's folder structure."""
    folder = tmp_path_factory.mktemp("golden") / "clips" / "drawn" / "golden"
    folder.mkdir(parents=True)
    for index, frame in enumerate(golden["frames"]):
        Image.fromarray(frame).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def fake_backbone() -> FakeBackbone:
    return FakeBackbone()


@pytest.fixture
def clips(tmp_path) -> Manifest:
    """Six short videos of 5 to 70 frames."""
    lengths = (5, 12, 26, 40, 61, 70)
    for index, frames in enumerate(lengths):
        path = tmp_path / "clips" / f"{index}.mp4"
        path.parent.mkdir(exist_ok=True)
        write_video(path, draw_frames(frames, seed=index), 25)
    rows = tuple(Video(f"v{index}", f"clips/{index}.mp4", ("ab"[index % 2],)) for index in range(len(lengths)))
    return Manifest(rows, tmp_path)


@pytest.fixture
def actiondiff(monkeypatch):
    """Run the command line in this process, in a folder; the result has exit_code, stdout, stderr."""

    def run(*arguments: object, cwd: Path | None = None) -> Result:
        if cwd is not None:
            monkeypatch.chdir(cwd)
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])

    return run
