"""Messages name the disk that is full, not the place at the other end; and the store and backbone in use."""

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from store_helpers import KEY, RECIPE, contents_of, contents_told, draw_video

from actiondiff import InputError
from actiondiff.store import FeatureStore, KeyNotFound, StoreNotWritable, StoreWriter, export_hdf5, import_features
from actiondiff.store import remote as remote_module
from actiondiff.store.remote import RemotePath


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A store of one video; the temporary folder is one of the test's own."""
    monkeypatch.setenv("ACTIONDIFF_CACHE", str(tmp_path / "cache"))
    url = f"memory://{secrets.token_hex(4)}/f.zarr"
    with StoreWriter(url, RECIPE) as writer:
        writer.add(draw_video("a"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return url


def full(*args: Any, **options: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names_the_temporary_folder(error: Exception, tmp_path: Path) -> bool:
    said = str(error)
    return f"{tmp_path}/tmp" in said and "disk is full" in said and "TMPDIR" in said and "memory://" not in said


def test_a_full_temporary_folder_is_named_where_a_part_is_prepared(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = StoreWriter(url, RECIPE)
    writer.add(draw_video("b"))
    with monkeypatch.context() as patches:
        patches.setattr("actiondiff.store.part.write_file", full)
        with pytest.raises(StoreNotWritable) as caught:
            writer.commit()
    assert names_the_temporary_folder(caught.value, tmp_path)
    writer.commit()
    assert contents_of(FeatureStore(url)) == contents_told([draw_video("a"), draw_video("b")])


def test_no_temporary_folder_at_all_is_told(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = StoreWriter(url, RECIPE)
    writer.add(draw_video("b"))
    with monkeypatch.context() as patches:
        patches.setattr(tempfile, "mkdtemp", full)
        with pytest.raises(StoreNotWritable) as caught:
            writer.commit()
    assert names_the_temporary_folder(caught.value, tmp_path)
    writer.commit()


def test_a_full_temporary_folder_is_named_where_an_export_is_prepared(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actiondiff.store.exporting._write", full)
    with pytest.raises(StoreNotWritable) as caught:
        export_hdf5(url, f"{url}.h5")
    assert names_the_temporary_folder(caught.value, tmp_path)


@pytest.mark.parametrize("source", ["f.h5", "npy"])
def test_a_full_temporary_folder_is_named_where_an_import_is_fetched(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (RemotePath(f"{url}-in/f.h5")).write_new(b"content")
    (RemotePath(f"{url}-in/npy/layer_9/a_mean.npy")).write_new(b"content")
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "get_file", full)
    with pytest.raises(StoreNotWritable) as caught:
        import_features(f"{url}-in/{source}", tmp_path / "s.zarr", 20)
    assert f"{tmp_path}/tmp" in str(caught.value)
    assert "TMPDIR" in str(caught.value)
    assert "logged in" not in str(caught.value)


@pytest.mark.parametrize("fault", [TypeError, AttributeError, NameError, AssertionError])
def test_a_fault_of_the_program_is_not_told_as_one_of_the_network(url: str, fault: type[Exception]) -> None:
    def work() -> None:
        with remote_module.asking(RemotePath(url)):
            raise fault("a fault of ours")

    with pytest.raises(fault, match="a fault of ours"):
        work()


@pytest.mark.parametrize(("code", "said"), [(errno.ENOSPC, "disk is full"), (errno.EMFILE, "too many files")])
def test_a_disk_at_the_other_end_and_a_limit_here_have_their_own_remedies(url: str, code: int, said: str) -> None:
    def work() -> None:
        with remote_module.asking(RemotePath(url), writing=True):
            raise OSError(code, os.strerror(code))

    with pytest.raises(StoreNotWritable, match=said) as caught:
        work()
    assert "logged in" not in str(caught.value)


def test_a_key_that_is_not_there_names_the_command_with_store_and_backbone(url: str, tmp_path: Path) -> None:
    with pytest.raises(KeyNotFound) as caught:
        FeatureStore(url).read("a", layer=1, timestep=5)
    assert f"actiondiff extract --layer 1 --t 5 --store {url} --backbone svd-tiny" in str(caught.value)
    with StoreWriter(tmp_path / "i.zarr", {"backbone": "imported"}) as writer:
        writer.add(draw_video("a"))
    with pytest.raises(KeyNotFound) as caught:
        FeatureStore(tmp_path / "i.zarr").load(["a"], layer=1, timestep=KEY.timestep)
    assert "--backbone" not in str(caught.value)


def test_what_is_not_at_the_other_end_is_still_bad_input(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        import_features(f"{url}-none.h5", tmp_path / "s.zarr")
