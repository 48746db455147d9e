"""The hub behind --weights: ids, variants, shards, what is said where nothing is to be had. Without any network."""

import fnmatch
import json
import shutil
from pathlib import Path
from unittest import mock

import huggingface_hub
import pytest
import torch
from fakes import GOLDEN
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from actiondiff.extract import WeightsError, WeightsNotFound, load_backbone
from actiondiff.extract.backbone import TINY_WEIGHTS
from actiondiff.extract.hub import HubPart, fetch_from_hub, is_hub_id
from actiondiff.extract.tensors import key_report, tensor_files
from actiondiff.extract.weights import svd_hub_parts

UNET = "unet/diffusion_pytorch_model"
SMALL = {"size_hw": (64, 64), "device": "cpu"}


class FakeHub:
    """Stands where huggingface_hub's snapshot_download does: repositories as folders, a cache, a network or none."""

    def __init__(self, root: Path) -> None:
        self.repositories: dict[str, Path] = {}
        self.cache = root / "cache"
        self.online = True
        self.asked: list[str] = []
        self.refusal: Exception | None = None

    def snapshot_download(self, hub_id, *, allow_patterns, local_files_only):
        self.asked.append(hub_id)
        cached = self.cache / hub_id.replace("/", "--")
        if local_files_only or not self.online:
            if not cached.exists():
                raise LocalEntryNotFoundError("not cached")
            return str(cached)
        if self.refusal:
            raise self.refusal
        repository = self.repositories[hub_id]
        for path in sorted(p for p in repository.rglob("*") if p.is_file()):
            name = path.relative_to(repository).as_posix()
            if any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns):
                (cached / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, cached / name)
        cached.mkdir(parents=True, exist_ok=True)
        return str(cached)

    def cached(self, hub_id):
        folder = self.cache / hub_id.replace("/", "--")
        return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    fake = FakeHub(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake


def refusal(kind):
    """An error of huggingface_hub, which always comes with the response that it tells of."""
    return kind("refused", response=mock.MagicMock(status_code=401, headers={}))


@pytest.fixture
def repository(tmp_path):
    """The tiny weights as a repository, with files around them that must not be fetched."""
    folder = shutil.copytree(TINY_WEIGHTS, tmp_path / "repository")
    for name in ("svd_xt.safetensors", f"{UNET}.bin", "unet/notes.txt", "image_encoder/pytorch_model.bin"):
        (folder / name).write_bytes(b"not wanted")
    return folder


def into_shards(path, *, fp16=False, variant_last=False):
    """One file as three shards, as large repositories keep them."""
    tensors = load_file(path)
    path.unlink()
    names = sorted(tensors)
    for number in range(3):
        stem = path.name.removesuffix(".safetensors")
        shard = f"-{number + 1:05}-of-00003"
        variant = (f"{shard}.fp16" if variant_last else f".fp16{shard}") if fp16 else shard
        part = {name: tensors[name].half() if fp16 else tensors[name] for name in names[number::3]}
        save_file(part, path.with_name(f"{stem}{variant}.safetensors"))


def test_a_hub_id_is_fetched_and_only_the_files_in_use(hub, repository):
    hub.repositories["user/svd-copy"] = repository
    backbone = load_backbone("svd-xt", weights="user/svd-copy", **SMALL)
    assert backbone.recipe.weights_sha256 == load_backbone("svd-tiny", **SMALL).recipe.weights_sha256
    assert hub.cached("user/svd-copy") == {
        f"{part}/{name}"
        for part, stem in (
            ("unet", "diffusion_pytorch_model"),
            ("vae", "diffusion_pytorch_model"),
            ("image_encoder", "model"),
        )
        for name in ("config.json", f"{stem}.safetensors")
    }


def test_a_local_path_of_the_same_name_goes_first(hub, repository, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(repository, tmp_path / "user" / "svd-copy")
    load_backbone("svd-xt", weights="user/svd-copy", condition="none", **SMALL)
    assert hub.asked == []


@pytest.mark.parametrize(
    "weights",
    ["./user/svd", "../user/svd", "/user/svd", "user/../svd", "user/..", "../..no", "a/b/c", "user/svd.safetensors",
     "user//svd", "user/.svd", "~/svd", "svd", "user\\svd", "user/svd.ckpt", "user/..%2fsvd"],
)  # fmt: skip
def test_what_is_no_hub_id_never_reaches_the_network(weights, hub):
    with pytest.raises(WeightsNotFound, match="or a hub id such as user/repository"):
        load_backbone("svd-xt", weights=weights, **SMALL)
    with pytest.raises(WeightsNotFound, match="form user/repository"):
        fetch_from_hub(weights, [])
    assert hub.asked == []


@given(st.text("ab./-_~\\%", max_size=12))
def test_no_hub_id_climbs_out_of_a_folder(text):
    if is_hub_id(text):
        assert Path("/cache", text).resolve().parent.parent == Path("/cache")
        assert ".." not in text


def test_a_gated_repository_names_the_page_and_the_command(hub):
    hub.refusal = refusal(GatedRepoError)
    with pytest.raises(WeightsNotFound) as caught:
        load_backbone("svd-xt", **SMALL)
    message = str(caught.value)
    assert "Visit the page of stabilityai/stable-video-diffusion-img2vid-xt" in message
    assert "`hf auth login`" in message
    assert "http" not in message


def test_a_missing_repository_is_told_from_a_gated_one(hub):
    hub.refusal = refusal(RepositoryNotFoundError)
    with pytest.raises(WeightsNotFound, match="The hub has no user/svd-copi that you may see") as caught:
        load_backbone("vjepa2", weights="user/svd-copi", **SMALL)
    assert "there is no local path user/svd-copi" in str(caught.value)


@pytest.mark.parametrize("failure", [ConnectionError("down"), HfHubHTTPError])
def test_no_network_says_so(hub, failure):
    hub.refusal = failure if isinstance(failure, Exception) else refusal(failure)
    with pytest.raises(
        WeightsNotFound, match=r"nor could they be fetched.*`hf download facebook/vjepa2-vitl-fpc64-256`"
    ):
        load_backbone("vjepa2", **SMALL)


def test_offline_takes_the_cache_and_never_fetches(hub, repository):
    hub.repositories["user/svd-copy"] = repository
    with pytest.raises(WeightsNotFound, match=r"--offline forbids to fetch them. Run `hf download user/svd-copy`"):
        load_backbone("svd-xt", weights="user/svd-copy", offline=True, **SMALL)
    load_backbone("svd-xt", weights="user/svd-copy", condition="none", **SMALL)
    hub.refusal = AssertionError("offline")
    load_backbone("svd-xt", weights="user/svd-copy", condition="none", offline=True, **SMALL)
    with pytest.raises(WeightsNotFound, match=r"has no image_encoder/model\.safetensors in the local cache"):
        load_backbone("svd-xt", weights="user/svd-copy", offline=True, **SMALL)


def test_the_command_hands_offline_on(hub, clips, tmp_path, actiondiff):
    clips.write(tmp_path / "manifest.csv")
    result = actiondiff("extract", "--backbone", "videomae", "--offline", "--device", "cpu", cwd=tmp_path)
    assert result.exit_code == 2
    assert "MCG-NJU/videomae-base are not in the local cache, and --offline forbids" in result.stderr


def test_the_half_precision_variant_is_preferred_and_the_other_taken_where_it_lacks(hub, repository):
    whole = load_file(repository / f"{UNET}.safetensors")
    save_file({name: tensor.half() for name, tensor in whole.items()}, repository / f"{UNET}.fp16.safetensors")
    hub.repositories["user/both"] = repository
    load_backbone("svd-xt", weights="user/both", precision="bfloat16", **SMALL)
    fetched = hub.cached("user/both")
    assert f"{UNET}.fp16.safetensors" in fetched
    assert f"{UNET}.safetensors" not in fetched
    assert "image_encoder/model.safetensors" in fetched, "there is no variant of this one"
    assert "vae/diffusion_pytorch_model.safetensors" in fetched

    (repository / f"{UNET}.safetensors").unlink()
    hub.repositories["user/half"] = repository
    backbone = load_backbone("svd-xt", weights="user/half", **SMALL)
    assert f"{UNET}.fp16.safetensors" in hub.cached("user/half")
    weight = backbone._modules.unet.conv_in.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, whole["conv_in.weight"].half().float())


@pytest.mark.parametrize("variant_last", [False, True])
def test_shards_are_fetched_and_read(hub, repository, variant_last):
    sha256 = load_backbone("svd-xt", weights=repository, **SMALL).recipe.weights_sha256
    into_shards(repository / "image_encoder" / "model.safetensors")
    half = shutil.copytree(repository, repository.with_name("half"))
    into_shards(half / f"{UNET}.safetensors", fp16=True, variant_last=variant_last)
    into_shards(repository / f"{UNET}.safetensors")
    hub.repositories |= {"user/shards": repository, "user/half": half}
    assert load_backbone("svd-xt", weights="user/shards", **SMALL).recipe.weights_sha256 == sha256
    assert load_backbone("svd-xt", weights="user/half", precision="float16", **SMALL).recipe.precision == "float16"
    next((repository / "unet").glob("*-00002-*")).unlink()
    with pytest.raises(WeightsNotFound, match="not one whole set"):
        load_backbone("svd-xt", weights=repository, **SMALL)


def test_a_shard_index_is_not_followed_out_of_the_folder(repository, tmp_path):
    """Which shards there are is read from their own names; an index that names other files is not believed."""
    save_file({"conv_in.weight": torch.zeros(1)}, tmp_path / "elsewhere.safetensors")
    index = {"weight_map": {"conv_in.weight": "../../elsewhere.safetensors"}}
    (repository / f"{UNET}.safetensors.index.json").write_text(json.dumps(index))
    assert tensor_files(repository / "unet", "diffusion_pytorch_model", False) == [repository / f"{UNET}.safetensors"]
    load_backbone("svd-xt", weights=repository, condition="none", **SMALL)


def test_a_repository_of_pickles_is_refused(hub, tmp_path):
    folder = tmp_path / "pickles"
    (folder / "unet").mkdir(parents=True)
    for name in ("model.bin", "config.json", "pytorch_model.bin"):
        (folder / name).write_text("{}")
    hub.repositories["user/pickles"] = folder
    with pytest.raises(WeightsNotFound, match=r"has no \./model.safetensors there; pickled weights .* never read"):
        load_backbone("videomae", weights="user/pickles", **SMALL)
    assert not any(name.endswith(".bin") for name in hub.cached("user/pickles"))


def test_what_is_fetched_for_svd_is_the_vae_in_full_precision_and_the_encoder_only_if_it_is_used():
    assert svd_hub_parts(True, False) == [
        HubPart("unet", "diffusion_pytorch_model", True), HubPart("vae", "diffusion_pytorch_model")
    ]  # fmt: skip
    assert svd_hub_parts(False, True)[-1] == HubPart("image_encoder", "model", False)


def test_keys_that_a_single_file_lacks_or_has_too_many_are_listed(tmp_path):
    tensors = load_file(GOLDEN / "svd_xt_tiny.safetensors")
    prefix = "model.diffusion_model."
    lacking = {
        n: t
        for n, t in tensors.items()
        if not n.startswith((f"{prefix}middle_block.1.time_stack", f"{prefix}input_blocks.0"))
    }
    save_file(lacking, tmp_path / "lacking.safetensors")
    with pytest.raises(WeightsError) as caught:
        load_backbone("svd-xt", weights=tmp_path / "lacking.safetensors", weights_config=TINY_WEIGHTS, **SMALL)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("The tensors of unet of ")
    assert any(line.endswith(" missing:") for line in lines)
    assert "    conv_in.weight" in lines
    assert any("mid_block.attentions.0.temporal_transformer_blocks" in line for line in lines)

    strange = tensors | {f"{prefix}middle_block.9.lora.weight": torch.zeros(1), f"{prefix}what": torch.zeros(1)}
    save_file(strange, tmp_path / "strange.safetensors")
    with pytest.raises(WeightsError, match="2 unexpected:") as caught:
        load_backbone("svd-xt", weights=tmp_path / "strange.safetensors", weights_config=TINY_WEIGHTS, **SMALL)
    assert f"    {prefix}what" in str(caught.value).splitlines()


def test_a_key_report_groups_what_differs_in_numbers_only_and_stays_readable():
    missing = [f"down.{i}.res.{j}.weight" for i in range(4) for j in range(3)] + ["conv.bias"]
    report = key_report("unet", missing, [f"kind{letter}" for letter in "abcdefghijklmnop"])
    assert "  13 missing:\n    down.0.res.0.weight and 11 like it (down.#.res.#.weight)\n    conv.bias" in report
    assert "  16 unexpected:" in report
    assert "    and 4 more kinds" in report
