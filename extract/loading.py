"""From a recipe and what the user said about weights to a backbone that runs."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from actiondiff.extract.backbone import BACKBONES, TINY_WEIGHTS, Backbone, BackboneSpec
from actiondiff.extract.errors import WeightsError
from actiondiff.extract.hub import HubPart, fetch_from_hub, find_weights
from actiondiff.extract.recipe import Recipe
from actiondiff.extract.transformer_weights import PREPROCESSING, STEM, TransformerWeights


@dataclass(frozen=True)
class WeightsOptions:
    """What the user said about weights, see :func:`actiondiff.extract.load_backbone`.

    Attributes:
        decoder: whether the U-Net's up blocks are wanted, too.
        batch: windows, each at a timestep, that go through the U-Net together; None chooses.
        compiled: whether the U-Net's blocks go through ``torch.compile``.
    """

    weights: Path | str | None = None
    weights_config: Path | None = None
    text_weights: Path | str | None = None
    offline: bool = False
    expected_sha256: str | None = None
    decoder: bool = False
    batch: int | None = None
    compiled: bool = False


def load_svd_backbone(spec: BackboneSpec, recipe: Recipe, options: WeightsOptions, device: torch.device) -> Backbone:
    """Stable Video Diffusion, published, tiny or random.

    Raises:
        InputError: a text tower of another width than the cross-attention's.
        WeightsNotFound, WeightsError: not to be had, or not those expected.
    """
    from actiondiff.extract.rewriting import compile_blocks, rewrite
    from actiondiff.extract.svd import SVDBackbone
    from actiondiff.extract.weights import RandomSource, WeightsSource, load_svd, svd_hub_parts

    half, pictures = recipe.precision != "float32", recipe.condition in ("middle", "per-frame")
    notice = _random_notice(recipe)
    if recipe.random_weights is not None:
        own = TINY_WEIGHTS if spec.hub_id is None else None
        source: WeightsSource | RandomSource = RandomSource(recipe.random_weights, options.weights_config or own)
    else:
        path = _find(spec, options, svd_hub_parts(half, pictures))
        source = WeightsSource(path, options.weights_config)
        # sdv2 with the tiny weights is as random as svd-tiny itself.
        notice = BACKBONES["svd-tiny"].notice if path.resolve() == TINY_WEIGHTS.resolve() else ""
    modules = load_svd(
        source,
        precision=getattr(torch, recipe.precision),
        vae_precision=getattr(torch, recipe.vae_precision),
        device=device,
        image_encoder=pictures,
        decoder=options.decoder,
    )
    _check_hash(options.expected_sha256, modules.weights_sha256, source.what, "--weights")
    _check_hash(recipe.decoder_sha256 or None, modules.decoder_sha256, f"the up blocks of {source.what}", "--weights")
    recipe = replace(recipe, weights_sha256=modules.weights_sha256, decoder_sha256=modules.decoder_sha256)
    text: Tensor | None = None
    if recipe.condition == "text":
        text, sha256 = _embed_labels(recipe, options, modules.unet.config.cross_attention_dim, device)
        recipe = replace(recipe, text_sha256=sha256)
    rewrite(modules.unet, temporal=spec.temporal)
    if options.compiled:
        compile_blocks(modules.unet, modules.vae.encoder)
    return SVDBackbone(recipe, modules, notice=notice, batch=options.batch, text=text)


def load_video_transformer(
    spec: BackboneSpec, recipe: Recipe, options: WeightsOptions, device: torch.device
) -> Backbone:
    """VideoMAE or V-JEPA 2, published or random.

    Raises:
        InputError: a size or window that the network cannot have.
        WeightsNotFound, WeightsError: not to be had, or not those expected.
    """
    from actiondiff.extract.video_transformer import VideoTransformerBackbone
    from actiondiff.extract.videomae import load_videomae
    from actiondiff.extract.vjepa2 import load_vjepa2

    if recipe.random_weights is not None:
        weights = TransformerWeights(None, options.weights_config, recipe.random_weights)
    else:
        part = HubPart("", STEM, recipe.precision != "float32", ("config.json", *PREPROCESSING))
        weights = TransformerWeights(_find(spec, options, [part]), options.weights_config)
    load = load_videomae if spec.family == "videomae" else load_vjepa2
    network = load(weights, recipe, getattr(torch, recipe.precision), device)
    _check_hash(options.expected_sha256, network.weights_sha256, weights.what, "--weights")
    recipe = replace(recipe, weights_sha256=network.weights_sha256)
    return VideoTransformerBackbone(recipe, network, notice=_random_notice(recipe))


def _find(spec: BackboneSpec, options: WeightsOptions, parts: list[HubPart]) -> Path:
    """Where the weights lie: what the user gave, else the table's repository, else what comes with the package."""
    fetch = partial(fetch_from_hub, parts=parts, offline=options.offline)
    if options.weights is not None:
        return find_weights(options.weights, fetch)
    return fetch(spec.hub_id) if spec.hub_id else TINY_WEIGHTS


def _embed_labels(recipe: Recipe, options: WeightsOptions, width: int, device: torch.device) -> tuple[Tensor, str]:
    from actiondiff.extract.text import TEXT_HUB_ID, TEXT_PART, TextWeights, embed_labels

    fetch = partial(fetch_from_hub, parts=[TEXT_PART], offline=options.offline)
    if options.text_weights is not None:
        weights = TextWeights(find_weights(options.text_weights, fetch, "--text-weights"))
    elif recipe.random_weights is not None:
        weights = TextWeights(None, recipe.random_weights, options.weights_config)
    elif BACKBONES[recipe.backbone].hub_id is None:  # svd-tiny needs no download: nothing of it is learned, nor this
        weights = TextWeights(None, config_folder=TINY_WEIGHTS)
    else:
        weights = TextWeights(fetch(TEXT_HUB_ID))
    tokens, sha256 = embed_labels(weights, recipe.labels, width, device)
    _check_hash(recipe.text_sha256 or None, sha256, str(weights.path), "--text-weights")
    return tokens, sha256


def _check_hash(expected: str | None, found: str, what: str, option: str) -> None:
    if expected not in (None, found):
        raise WeightsError(
            f"These features were made with weights {str(expected)[:12]}…; those in {what} are {found[:12]}…. "
            f"Give the same weights with {option}."
        )


def _random_notice(recipe: Recipe) -> str:
    if recipe.random_weights is None:
        return ""
    return (
        f"{recipe.backbone} has random weights (seed {recipe.random_weights}): nothing was learned; its numbers mean "
        "nothing but a control."
    )
