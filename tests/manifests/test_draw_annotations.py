"""Drawn data sets are read by the same commands as the published ones, with every part that recipes ask for."""

from pathlib import Path

import pytest

from actiondiff.manifests import Manifest, animal_kingdom, charades_ego, draw_dataset, ucf_hmdb
from actiondiff.manifests.animal_kingdom import UNSEEN_SPECIES


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    for dataset in ("animal-kingdom", "charades-ego", "ucf-hmdb"):
        draw_dataset(dataset, folder / dataset)
    return folder


def labels(manifest: Manifest) -> set[str]:
    return {label for video in manifest for label in video.labels}


def test_animal_kingdom_has_nine_classes_of_animals_and_every_label_in_both_parts(drawn):
    folder = drawn / "animal-kingdom"
    built = animal_kingdom(folder / "AR_metadata.xlsx", folder)
    assert not built.missing
    assert not built.extra
    assert labels(built.manifest.where("split=train")) == labels(built.manifest.where("split=test"))
    assert any(len(video.labels) > 1 for video in built.manifest)
    unseen = animal_kingdom(folder / "AR_metadata.xlsx", folder, unseen_species=True).manifest
    for split, names in UNSEEN_SPECIES.items():
        part = unseen.where(f"split={split}")
        assert {video.domain for video in part} == set(names.values())
        assert len(labels(part)) == 3
    for domain in {video.domain for video in unseen}:
        assert len({video.group for video in unseen.where(f"domain={domain}")}) == 2, "folds need two groups"


def test_charades_ego_has_pairs_of_both_views_and_videos_of_two_actions(drawn):
    folder = drawn / "charades-ego"
    files = [[folder / "CharadesEgo_v1_train.csv"], [folder / "CharadesEgo_v1_test.csv"]]
    built = charades_ego(*files, folder / "Charades_v1_classes.txt", folder)
    assert not built.missing
    parts = {(video.domain, video.split) for video in built.manifest}
    assert parts == {(view, split) for view in ("1st", "3rd") for split in ("train", "test")}
    assert all(len(labels(built.manifest.where(f"domain={view},split={split}"))) == 4 for view, split in parts)
    assert {len(video.labels) for video in built.manifest} == {0, 1, 2}


def test_ucf_and_hmdb_have_twelve_classes_in_every_part(drawn):
    folder = drawn / "ucf-hmdb"
    built = ucf_hmdb(folder, folder, lists=folder)
    assert not built.missing
    for domain in ("ucf", "hmdb"):
        for split in ("train", "test"):
            assert len(labels(built.manifest.where(f"domain={domain},split={split}"))) == 12


def test_the_same_seed_draws_the_same_bytes(drawn, tmp_path):
    draw_dataset("charades-ego", tmp_path)
    for path in sorted((drawn / "charades-ego").rglob("*.mp4")):
        assert path.read_bytes() == (tmp_path / path.relative_to(drawn / "charades-ego")).read_bytes()
