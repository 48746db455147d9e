"""Baselines and label correlation of a transfer, against scikit-learn, scipy and numbers by hand."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from scipy.stats import t as student
from sklearn.naive_bayes import GaussianNB

from actiondiff.heads.baselines import naive_bayes, prior_guess
from actiondiff.heads.correlations import label_correlations, relations
from actiondiff.heads.data import LabelledFeatures
from actiondiff.heads.domains import split_domains
from actiondiff.heads.matrix import TransferResult
from actiondiff.heads.presets import FitConfig
from actiondiff.heads.transferring import transfer


def relabelled(data: LabelledFeatures, labels: list[tuple[str, ...]]) -> LabelledFeatures:
    return replace(data, labels=tuple(labels), multilabel=any(len(row) > 1 for row in labels))


def test_naive_bayes_decides_as_scikit_learn_does(drawn) -> None:
    train, test = drawn(45, signal=0.7), drawn(60, signal=0.7, start="t")
    means = [np.stack([array.mean(axis=0) for array in data.features]) for data in (train, test)]
    reference = GaussianNB().fit(means[0], [row[0] for row in train.labels])
    ours = naive_bayes(train, test)
    assert ours.best == tuple(reference.predict(means[1]))
    assert 0.4 < np.mean([best == row[0] for best, row in zip(ours.best, test.labels, strict=True)]) < 1


def test_naive_bayes_of_several_labels_ranks_as_one_classifier_a_class(drawn) -> None:
    rows = [("a",), ("a", "b"), ("c",), ("b", "c")] * 10
    train = relabelled(drawn(40), rows)
    test = relabelled(drawn(40, start="t"), rows)
    means = [np.stack([array.mean(axis=0) for array in data.features]) for data in (train, test)]
    ours = naive_bayes(train, test)
    for k, name in enumerate(train.classes):
        joint = GaussianNB().fit(means[0], [name in row for row in rows]).predict_joint_log_proba(means[1])
        np.testing.assert_array_equal(np.argsort(ours.scores_NK[:, k]), np.argsort(joint[:, 1] - joint[:, 0]))


def test_a_label_without_a_training_video_is_never_taken(drawn) -> None:
    train = relabelled(drawn(10), [("a",), ("b",)] * 5)
    assert set(naive_bayes(train, drawn(12, start="t")).best) <= {"a", "b"}
    one = train.subset([0, 1])
    assert np.isfinite(naive_bayes(one, drawn(12, start="t")).scores_NK).all(), "one video a class"


def test_guessing_by_shares(drawn) -> None:
    train = relabelled(drawn(4), [("a",), ("a",), ("a",), ("b",)])
    test = relabelled(drawn(4, start="t"), [("a",), ("b",), ("b",), ("b",)])
    assert prior_guess(train, test) == pytest.approx(0.75 * 0.25 + 0.25 * 0.75)
    several = relabelled(drawn(1), [("a", "b")])
    assert prior_guess(several, several) is None


def test_label_correlation_is_that_of_the_counts(bench) -> None:
    yard = bench.rows(20, ("a", "a", "a", "b", "c"), domain="yard")
    lawn = bench.rows(30, ("a", "b", "b", "b", "c"), domain="lawn")
    pond = bench.rows(9, ("a", "b", "c"), domain="pond")
    found = label_correlations(split_domains(bench.manifest(yard + lawn + pond), "domain"))
    expected = np.corrcoef([6, 18, 6], [12, 4, 4])[0, 1]
    np.testing.assert_allclose(found[[0, 2]][:, [0, 2]], [[1, expected], [expected, 1]])
    assert np.isnan(found[1]).all(), "pond has every label equally often"
    assert np.isnan(found[:, 1]).all()


def test_training_rows_are_set_against_test_rows_where_there_is_a_split(bench) -> None:
    rows = [
        {**row, "video_id": f"{domain}{split}{index}", "domain": domain, "split": split}
        for domain in ("x", "y")
        for split, labels in (("train", "aaabbc"), ("test", "abbbcc"))
        for index, row in enumerate(bench.rows(12, tuple(labels)))
    ]
    found = label_correlations(split_domains(bench.manifest(rows), "domain"))
    np.testing.assert_allclose(found, np.corrcoef([6, 4, 2], [2, 6, 4])[0, 1])


def test_relations_agree_with_scipy_and_leave_out_what_is_not_defined() -> None:
    rng = np.random.default_rng(0)
    values, labels = rng.random((5, 5)), rng.integers(0, 4, size=(5, 5)) / 4
    labels[2, 3] = np.nan
    everything, off = relations(values, labels)
    defined = ~np.isnan(labels)
    assert everything.count == 24
    assert everything.pearson == pytest.approx(pearsonr(values[defined], labels[defined]).statistic)
    assert everything.spearman == pytest.approx(spearmanr(values[defined], labels[defined]).statistic)
    outside = defined & ~np.eye(5, dtype=bool)
    assert (off.cells, off.count) == ("off the diagonal", 19)
    assert off.pearson == pytest.approx(pearsonr(values[outside], labels[outside]).statistic)
    assert relations(values, np.full((5, 5), np.nan))[0].pearson is None
    assert relations(np.ones((5, 5)), labels)[0].spearman is None, "a constant has no correlation"


@pytest.fixture
def unequal(bench, quick: FitConfig) -> TransferResult:
    """Three domains whose labels are not equally frequent, three seeds."""
    labels = {"yard": "aaabbc", "lawn": "abbbcc", "pond of a very long name indeed": "aabbbc"}
    rows = [row for name, letters in labels.items() for row in bench.rows(18, tuple(letters), domain=name)]
    manifest = bench.manifest(rows)
    return transfer(bench.of(manifest, signal=1.5), manifest, "domain", replace(quick, epochs=3), seeds=3, folds=2)


def test_the_interval_over_seeds_is_students(unequal: TransferResult) -> None:
    cells = np.array([row.accuracy for row in unequal.rows if (row.train, row.test) == ("lawn", "yard")])
    assert len(cells) == 3
    low, high = student.interval(0.95, 2, loc=cells.mean(), scale=cells.std(ddof=1) / np.sqrt(3))
    half = unequal.half_width("features", "linear")[0, 2]
    assert unequal.domains[0] == "lawn"
    assert unequal.domains[2] == "yard"
    assert half == pytest.approx((high - low) / 2)


def test_tables_hold_every_cell_with_its_baselines(unequal: TransferResult, tmp_path: Path) -> None:
    unequal.write(tmp_path / "out")
    assert (tmp_path / "out" / "correlation.png").stat().st_size > 10_000
    cells = list(csv.DictReader((tmp_path / "out" / "matrices.csv").open()))
    assert len(cells) == 9
    for cell in cells:
        place = unequal.domains.index(cell["train"]), unequal.domains.index(cell["test"])
        assert float(cell["mean"]) == pytest.approx(unequal.mean("features", "linear")[place])
        assert float(cell["naive_bayes"]) == pytest.approx(unequal.baseline("naive_bayes", "features")[place])
        assert float(cell["label_correlation"]) == pytest.approx(unequal.label_correlation[place])
    assert unequal.baseline("prior_guess")[2, 2] == pytest.approx((9**2 + 6**2 + 3**2) / 18**2, abs=0.02)
    related = list(csv.DictReader((tmp_path / "out" / "correlations.csv").open()))
    assert [row["cells"] for row in related] == ["all", "off the diagonal"]
    matrix = list(csv.reader((tmp_path / "out" / "label_correlation.csv").open()))
    assert matrix[0] == ["train", *unequal.domains]
    table = unequal.table()
    for said in ("naive Bayes", "label drawn by its share", "most frequent label", "chance", "Pearson", "Spearman"):
        assert said in table


def test_several_labels_have_no_guess_and_their_tables_no_column_of_it(bench, quick: FitConfig, tmp_path: Path) -> None:
    combinations = (("a",), ("a", "b"), ("c",), ("b", "c"))
    rows = bench.rows(16, domain="yard") + bench.rows(16, domain="lawn")
    manifest = bench.manifest([{**row, "labels": combinations[i % 4]} for i, row in enumerate(rows)])
    result = transfer(bench.of(manifest), manifest, "domain", replace(quick, epochs=2), folds=2, out=tmp_path / "out")
    assert {row.prior_guess for row in result.rows} == {None}
    assert "label drawn" not in result.table()
    assert all(0 <= row.naive_bayes <= 1 for row in result.rows)
    assert not np.isnan(result.label_correlation).any() or "no correlation with them is defined" in result.table()


def test_wide_matrices_are_told_by_their_means_on_the_terminal(unequal: TransferResult) -> None:
    many = tuple(f"place {index}" for index in range(12))
    [row, *_] = unequal.rows
    rows = tuple(replace(row, train=a, test=b, accuracy=0.75 if a == b else 0.25) for a in many for b in many)
    text = replace(unequal, rows=rows, domains=many, label_correlation=np.eye(12)).table()
    assert "0.750" in text
    assert "0.250" in text
    assert max(map(len, text.splitlines())) < 120
