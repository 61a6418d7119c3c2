"""From what a user names (heads, a merged or a released checkpoint, a base) to what an engine is told to load."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from autodeco.bundled import resolve_model
from autodeco.checkpoint import load_heads, merge, save_heads
from autodeco.checkpoint.heads import find_heads
from autodeco.checkpoint.layout import CONFIG, HEADS_CONFIG, Layout, detect_layout
from autodeco.checkpoint.model import recorded_base, warn_of_other_base
from autodeco.checkpoint.source import Source, read_json
from autodeco.errors import CheckpointError


@dataclass(frozen=True)
class ServedModel:
    """What to serve.

    Attributes:
        path: folder or hub id of the weights that the engine loads.
        revision: their hub revision.
        heads: folder of the heads, where they are not in ``path``.
        architecture: of the base model, where heads are apart; else ``None``.
        name: under which clients ask for it.
        prompt_summary: whether the heads see a summary of the prompt, for which an engine has to be set up.
    """

    path: str
    revision: str | None
    heads: Path | None
    architecture: str | None
    name: str
    prompt_summary: bool = False


def has_heads(model: str) -> bool:
    """Whether a model's checkpoint holds decoding heads.

    Raises:
        ModelNotFoundError: there is no such model.
    """
    return detect_layout(Source.open(resolve_model(model))) is not Layout.BASE


def check_vllm(model: str, heads: str | None = None, revision: str | None = None, *, on_cpu: bool) -> None:
    """Checks, before an engine is started, that vLLM can serve the heads of a model, or those given for it.

    Args:
        model: heads, a merged or a released checkpoint, or, with ``heads``, a base model.
        heads: heads for ``model``.
        revision: hub revision of ``model``.
        on_cpu: whether the engine runs on CPUs.

    Raises:
        ModelNotFoundError: there is no such model.
        CheckpointError: it cannot, or there are no heads.
    """
    found = find_heads(Source.open(model, revision) if heads is None else Source.open(heads))
    if not found.config.prompt_summary:
        return
    reason = None
    if not on_cpu:
        reason = "which the plug-in gives them on CPUs alone"
    elif found.config.adapter_sha256 is not None:
        reason = "and an adapter, which vLLM gets merged into the base; merged checkpoints cannot hold such heads"
    if reason is not None:
        raise CheckpointError(
            f"{found.label}: these heads see a summary of the prompt (prompt_summary is true), {reason}. Use them with "
            f"Transformers: --engine transformers, or AutoDecoForCausalLM.from_pretrained. For vLLM, train heads "
            f"{'with prompt_summary: false' if not on_cpu else 'without an adapter'}."
        )


def served_model(
    model: str, *, heads: str | None = None, base: str | None = None, revision: str | None = None, scratch: Path
) -> ServedModel:
    """Finds out what to serve.

    Args:
        model: heads, a merged or released checkpoint, or, with ``heads``, a base model.
        heads: heads for ``model``.
        base: base model, instead of the one that heads record.
        revision: hub revision of ``model``.
        scratch: an empty folder that lives as long as the server, for heads that have to be rewritten.

    Raises:
        ModelNotFoundError: something was not found.
        CheckpointError: there are no heads, or two kinds of them.
    """
    source = Source.open(model, revision)
    layout = detect_layout(source)
    name = Path(model).name if Path(model).is_dir() else model
    if layout is Layout.BASE:
        if heads is None:
            raise CheckpointError(f"'{model}' is a plain base model. Name its heads, too: --heads FOLDER.")
        return _apart(model, revision, Source.open(heads), name, scratch)
    if heads is not None:
        raise CheckpointError(
            f"'{model}' has heads of its own ({layout}). Give a plain base model, or leave --heads out."
        )
    if layout.has_base_weights:
        if base is not None:
            raise CheckpointError(f"'{model}' holds its base model ({layout}). Leave --base out, or split it first.")
        return ServedModel(str(source.folder or model), revision, None, None, name)
    found = find_heads(source)
    if base is not None:
        warn_of_other_base(found, base)
    return _apart(base or recorded_base(found), found.config.base_model_revision, source, name, scratch)


def with_adapter_folded(served: ServedModel, scratch: Path, dtype: str = "auto") -> ServedModel:
    """What an engine that knows no adapter beside heads is to load: a merged checkpoint where heads have one.

    Args:
        served: of :func:`served_model`.
        scratch: an empty folder that lives as long as the server; the merged checkpoint, as large as the base, goes
            there.
        dtype: that the engine will run in; the sums of weights and adapter are rounded to it, not to the base's own.

    Raises:
        ConfigError: there is no such ``dtype``.
        CheckpointError: the adapter is missing or damaged, or belongs to another base.
        MissingDependencyError: PEFT is not installed.
        RunFolderError: the disk has no room for it.
    """
    found = None if served.heads is None else find_heads(Source.open(served.heads))
    if found is None or found.config.adapter_sha256 is None:
        return served
    recorded = found.base_name is not None and resolve_model(found.base_name) == served.path
    base = None if recorded else served.path
    merge(base, found.source.name, scratch / "merged", base_revision=served.revision, dtype=dtype)
    return replace(served, path=str(scratch / "merged"), revision=None, heads=None, architecture=None)


def _apart(base: str, revision: str | None, heads: Source, name: str, scratch: Path) -> ServedModel:
    path = resolve_model(base)
    base_source = Source.open(path, revision)
    architectures = read_json(base_source.need(CONFIG)).get("architectures") or []
    if len(architectures) != 1:
        raise CheckpointError(
            f"{base_source.label(CONFIG)}: 'architectures' must name one class, found {architectures}."
        )
    fetched = heads.fetched(weights=True)
    folder = fetched.folder
    if folder is None or not (folder / HEADS_CONFIG).exists():  # of the authors' layout
        folder = scratch / "heads"
        save_heads(load_heads(heads.name, heads.revision), folder)
    summary = find_heads(heads).config.prompt_summary
    return ServedModel(path, revision, folder.absolute(), architectures[0], name, summary)
