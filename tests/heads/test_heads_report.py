"""The report: what is on the page, that names are escaped, and how a real browser shows it."""

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import browser
import numpy as np
import pytest

from actiondiff import InputError
from actiondiff.heads.fitting import fit
from actiondiff.heads.metrics import Predictions
from actiondiff.heads.presets import FitConfig
from actiondiff.heads.report import Picture, Report, write_report
from actiondiff.heads.report_runs import hardest
from actiondiff.heads.transferring import transfer

HOSTILE = "<script>alert('x')</script> & \"quotes\" 'n' {{ 7*7 }} </style>"
YARD = "yard_of_a_long_name_without_a_blank"
PIXEL = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\x00\x00\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,"
    b"\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)


PLANTED = {("out", 9, 20): 0.9, ("val", 3, 20): 0.8, ("out", 3, 20): 0.5}


def write_sweep(folder: Path, parts: tuple[str, ...] = ("in", "out")) -> Path:
    folder.mkdir()
    with (folder / "sweep.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["head", "layer", "timestep", "seed", "part", "accuracy"])
        for part in parts:
            for layer in (3, 9):
                for timestep in (0, 20):
                    value = PLANTED.get((part, layer, timestep), 0.3)
                    writer.writerows(["linear", layer, timestep, seed, part, value] for seed in (0, 1))
    return folder


@pytest.fixture
def folders(bench, quick: FitConfig, tmp_path: Path) -> list[Path]:
    """A run, a transfer and a sweep, with a label, a domain and folder names that would break a careless page."""
    labels = ("walk", HOSTILE.replace(";", ","), "a very long name of an action " * 4 + "end")
    rows = [row for place in (YARD, "lawn & <b>pond</b>") for row in bench.rows(18, labels, domain=place)]
    manifest = bench.manifest([{**row, "video_id": f"v{i}/<i>{i}</i>"} for i, row in enumerate(rows)])
    signal = {label: index for index, label in enumerate(manifest.classes)}
    drawn = {}
    for video in manifest:
        drawn[video.video_id] = bench.draw(("abc"[signal[video.labels[0]]],), signal=1.0)
    store = bench.store(drawn)
    wheres = {"train": f"domain={YARD}", "tests": ["domain=lawn & <b>pond</b>"]}
    fit(store, manifest, quick, out=tmp_path / "run <1>", **wheres)
    transfer(store, manifest, "domain", replace(quick, epochs=2), folds=2, seeds=2, out=tmp_path / "transfer")
    return [tmp_path / "run <1>", tmp_path / "transfer", write_sweep(tmp_path / "sweep")]


def picture(video_id: str) -> Picture | None:
    return Picture(PIXEL, "image/gif", 1, 1) if video_id.startswith("v2") else None


class Tags(HTMLParser):
    """Tags of a page with their attributes, and that every one is closed."""

    VOID = frozenset({"meta", "link", "img", "br", "line", "path", "polyline", "circle"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_holds_everything_and_is_whole(folders: list[Path], tmp_path: Path) -> None:
    report = write_report(folders, tmp_path / "deep" / "report.html", thumbnail=picture, draws=20)
    assert (report.runs, report.transfers, report.sweeps) == (1, 1, 1)
    assert report.pictures > 0
    page = report.path.read_text()
    tags = Tags(page)
    assert tags.open == []
    names = [tag for tag, _ in tags.seen]
    assert not {"script", "iframe", "object", "embed", "form"} & set(names)
    for said in ("accuracy", "mAP macro", "Calibration", "Hardest examples", "Recipe", "naive Bayes", "weight_decay"):
        assert said in page
    addresses = [
        value for _, attrs in tags.seen for name, value in attrs.items() if name in ("src", "href", "xlink:href")
    ]
    assert all((value or "").startswith(("#", "data:")) for value in addresses)
    assert not re.search(r"url\(|@import", page)
    assert "default-src 'none'" in page
    assert report.to_dict()["size_bytes"] == len(page.encode())


def test_names_are_escaped(folders: list[Path], tmp_path: Path) -> None:
    page = write_report(folders, tmp_path / "report.html", title=HOSTILE, draws=20).path.read_text()
    assert "alert" in page
    assert "<script" not in page
    assert "<b>pond" not in page
    assert "<i>1" not in page
    assert "{{ 7*7 }}" in page, "names are no templates"


def test_tables_have_headers_pictures_have_words_and_regions_have_names(folders: list[Path], tmp_path: Path) -> None:
    tags = Tags(write_report(folders, tmp_path / "report.html", thumbnail=picture, draws=20).path.read_text())
    heads = [attrs.get("scope") for tag, attrs in tags.seen if tag == "th"]
    assert heads
    assert set(heads) == {"col", "row"}
    assert all(attrs.get("alt") for tag, attrs in tags.seen if tag == "img")
    assert all(attrs.get("aria-label") for tag, attrs in tags.seen if tag == "svg")
    regions = [attrs for _, attrs in tags.seen if attrs.get("class") == "scroll"]
    assert all(attrs.get("aria-label") and attrs.get("tabindex") == "0" for attrs in regions)
    ids = [attrs["id"] for _, attrs in tags.seen if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["aria-labelledby"] for _, attrs in tags.seen if "aria-labelledby" in attrs} <= set(ids)


def test_the_highest_layer_of_each_timestep_is_marked_where_there_is_no_validation(tmp_path: Path) -> None:
    page = write_report([write_sweep(tmp_path / "sweep")], tmp_path / "report.html").path.read_text()
    assert "mean over 2 seeds" in page
    assert "which chooses nothing" in page
    assert page.count('class="strong">0.900') == 2, "in its cell, and in the last row"


def test_validation_chooses_the_layer_that_is_marked_in_test_maps(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep", ("val", "out"))
    page = write_report([folder], tmp_path / "report.html").path.read_text()
    assert page.count('class="strong">0.500') == 2, "the test part's value where validation is highest"
    assert 'class="strong">0.900' not in page, "not the test part's own highest"
    assert '<th scope="row">chosen</th>' in page


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is none"):
        write_report([tmp_path / "empty"], tmp_path / "report.html")
    (tmp_path / "empty" / "sweep.csv").write_text("layer,score\n1,2\n")
    with pytest.raises(InputError, match="has layer, score"):
        write_report([tmp_path / "empty"], tmp_path / "report.html")
    (tmp_path / "empty" / "transfer.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        write_report([tmp_path / "empty"], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_run_without_a_test_part_says_that_its_numbers_flatter(bench, quick: FitConfig, tmp_path: Path) -> None:
    manifest = bench.manifest(bench.rows(30))
    fit(bench.of(manifest), manifest, quick, out=tmp_path / "run")
    page = write_report([tmp_path / "run"], tmp_path / "report.html", draws=20).path.read_text()
    assert "this part chose the epoch: flattered" in page


def test_the_hardest_are_those_whose_label_falls_furthest_behind() -> None:
    scores = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.99, 0.01, 0.0], [0.5, 0.3, 0.2]])
    labels = (("a",), ("b",), ("b",), ("new",))
    predictions = Predictions(tuple("wxyz"), labels, ("a", "b", "c"), scores, False)
    assert hardest(predictions, 5) == [2, 3, 1], "w is right; z has a label that the head does not know"
    assert hardest(predictions, 1) == [2]
    several = Predictions(("x", "y"), (("a", "b"), ("a",)), ("a", "b", "c"), scores[:2], True)
    assert hardest(several, 5) == []


@pytest.fixture
def large(tmp_path: Path, folders: list[Path], bench, quick: FitConfig) -> Callable[[], Report]:
    """A page with everything and with a run of 140 classes with long names."""
    names = tuple(f"action number {index} of some animal or other" for index in range(140))
    manifest = bench.manifest(bench.rows(280, names, split="train") + bench.rows(280, names, split="test"))
    drawn = {video.video_id: bench.rng.normal(size=(3, 8)).astype(np.float32) for video in manifest}
    fit(bench.store(drawn, "many.zarr"), manifest, replace(quick, epochs=1, val_fraction=0.0), out=tmp_path / "many")
    return lambda: write_report([*folders, tmp_path / "many"], tmp_path / "report.html", thumbnail=picture, draws=20)


@pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium here: apt-get install chromium")
def test_in_a_browser_nothing_is_loaded_and_nothing_sticks_out(large: Callable[[], Report], tmp_path: Path) -> None:
    page = large().path
    for width, dark in ((390, False), (1280, False), (390, True)):
        seen = browser.look(page, tmp_path, width, 900, dark)
        assert seen.content <= seen.width, f"no scrolling sideways at {width}"
        assert seen.clipped == [], "no name runs into the next cell"
        assert seen.loose == [], "only tables that scroll by themselves are wider than the page"
        assert (seen.scripts, seen.unnamed, seen.loaded, seen.requests) == (0, 0, [], ())
        assert all(size == 1 for size, _ in seen.pictures), "pictures are shown"
        assert "Hardest examples" in seen.text
        assert HOSTILE in seen.text
        ink, paper = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (seen.ink, seen.paper))
        assert (ink > paper) == dark, "light on dark where the reader asks for it"


@pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium here: apt-get install chromium")
def test_the_browser_test_would_see_a_request_and_something_too_wide(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text('<img src="http://tracker.example/x.png"><p style="width:900px">wide</p>')
    seen = browser.look(page, tmp_path, 390, 900)
    assert seen.requests == ("http://tracker.example/x.png",)
    assert seen.content > seen.width
    assert len(seen.loose) == 1
    assert seen.unnamed == 1


@pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium here: apt-get install chromium")
def test_screenshots_at_two_widths(large: Callable[[], Report], tmp_path: Path) -> None:
    from PIL import Image

    page = large().path
    for width in (390, 1280):
        shot = tmp_path / f"{width}.png"
        browser.screenshot(page, shot, tmp_path, width, 900)
        with Image.open(shot) as image:
            pixels = np.asarray(image.convert("L"))
        assert pixels.shape[1] == max(width, 390)
        assert 0.005 < (pixels < 100).mean() < 0.5, "words on paper"
