"""Run transformers behind pictures and sounds: logits of a target, and first drafts of its assistant.

Targets and assistants are those of the stored references, pictures and sounds are read by the stored encoders.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.models.gemma4_unified_assistant import Gemma4UnifiedAssistantForCausalLM

from scripts.convert.reference.gemma4_run import draft, use_gelu_of_ggml
from scripts.convert.reference.projector_run import embed_sound, patches_of, pixels_of_gemma3, sound_features
from tests.helpers.media_prompt import PICTURE, SOUND, TARGETS, make_prompt
from tests.helpers.paths import PROJECTORS, REFERENCE

_PARTS = ("vision_config", "audio_config", "mm_tokens_per_image")


def load_target(name: str) -> Any:
    """The text model of a reference with the encoders of another, in F32."""
    text, encoders = REFERENCE / name, PROJECTORS / TARGETS[name]
    config, other = (json.loads((folder / "config.json").read_text()) for folder in (text, encoders))
    config |= {part: other[part] for part in _PARTS if part in other}
    tensors: dict[str, torch.Tensor] = {}
    for path in text.glob("*.safetensors"):
        tensors |= {key: value for key, value in load_file(path).items() if "language_model" in key}
    tensors |= load_file(encoders / "model.safetensors")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        save_file(tensors, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        kind = getattr(transformers, config["architectures"][0])
        model, loading = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    if loading["missing_keys"] - {"lm_head.weight"} or loading["unexpected_keys"]:
        raise ValueError(f"{name}: {loading}")
    return model.eval()


def load_assistant(name: str) -> Any:
    """None where the target has no assistant of its own."""
    folder = REFERENCE / f"{name}_assistant"
    if not folder.exists():
        return None
    kind = Gemma4UnifiedAssistantForCausalLM if "12b" in name else transformers.Gemma4AssistantForCausalLM
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    model.config.use_ordered_embeddings = False  # the whole vocabulary head, as llama.cpp computes it
    return model


def media_inputs(model: Any, tokens: np.ndarray, seen: list[np.ndarray], heard: np.ndarray, *, cut: bool) -> Any:
    """Arguments of ``forward``. ``cut``: see :func:`embed_sound`."""
    config, gemma3 = model.config, type(model).__name__.startswith("Gemma3")
    image = config.image_token_index if gemma3 else config.image_token_id
    ids = np.where(tokens == PICTURE, image, tokens)
    kinds = torch.tensor((tokens == PICTURE).astype(np.int64))[None]
    if gemma3:
        pixels = torch.cat([pixels_of_gemma3(model, picture) for picture in seen])
        return {"input_ids": torch.tensor(ids)[None], "pixel_values": pixels, "token_type_ids": kinds}
    patches, places = zip(*(patches_of(model, picture) for picture in seen), strict=True)
    found: dict[str, Any] = {
        "pixel_values": torch.nn.utils.rnn.pad_sequence(patches, batch_first=True),
        "image_position_ids": torch.nn.utils.rnn.pad_sequence(places, batch_first=True, padding_value=-1),
        "mm_token_type_ids": kinds,
    }
    if (tokens == SOUND).any():
        ids = np.where(tokens == SOUND, config.audio_token_id, ids)
        found["input_features"] = sound_features(model, heard, cut=cut)
        found["input_features_mask"] = torch.ones(found["input_features"].shape[:2], dtype=torch.bool)
    return {"input_ids": torch.tensor(ids)[None], **found}


def llama_cpp_masks(tokens: np.ndarray, config: Any, *, full: bool) -> dict[str, torch.Tensor]:
    """Keys that llama.cpp lets a query see. ``full``: pictures see themselves in full layers as well.

    In transformers they always do, and beyond the sliding window.
    """
    picture = tokens == PICTURE
    span = np.where(picture, np.cumsum(np.diff(picture, prepend=False) & picture), -np.arange(1, len(tokens) + 1))
    distance = np.arange(len(tokens))[:, None] - np.arange(len(tokens))[None]
    both = span[:, None] == span[None] if config.use_bidirectional_attention else distance == 0
    causal = torch.tensor(distance >= 0)
    either = torch.tensor((distance >= 0) | both)
    near = torch.tensor(distance < config.sliding_window)
    found = {"full_attention": either if full else causal, "sliding_attention": either & near}
    return {name: mask[None, None] for name, mask in found.items()}


def behind_media(name: str, tries: int = 40, gap: float = 0.2) -> dict[str, Any]:
    """The arrays of a reference: as transformers is, and with what is known to differ as llama.cpp has it.

    The texts are those of the first seed whose drafts are no near-ties: two implementations would choose by chance.
    """
    target, assistant = load_target(name), load_assistant(name)
    for seed in range(tries):
        found = _compute(name, target, assistant, seed)
        best = np.sort(found.get("draft_logits_ggml", np.array([[0.0, gap]])), -1)
        if (best[..., -1] - best[..., -2]).min() >= gap:
            label = str(np.load(REFERENCE / name / "expected.npz")["label"])
            return {"label": label, **found}
        target, assistant = load_target(name), load_assistant(name)  # with their own GELU
    raise ValueError(f"{name}: {tries} prompts have drafts that are near-ties")


@torch.no_grad()
def _compute(name: str, target: Any, assistant: Any, seed: int) -> dict[str, Any]:
    hears = getattr(target.config, "audio_config", None) is not None
    text, found = target.config.get_text_config(), dict[str, Any]()
    sizes = {SOUND: lambda sound: len(embed_sound(target, sound))}
    if "gemma3" in name:
        sizes[PICTURE] = lambda _: target.config.mm_tokens_per_image
        text.use_bidirectional_attention = True
    tokens, positions, seen, heard = make_prompt(text.vocab_size, sizes, hears=hears, seed=seed)
    for suffix in ("", "_ggml"):
        same = bool(suffix)
        for model in (target, assistant) if same else ():
            if model is not None:
                use_gelu_of_ggml(model)
        inputs = media_inputs(target, tokens, seen, heard, cut=same)
        if same:
            inputs["attention_mask"] = llama_cpp_masks(tokens, text, full="gemma3" in name)
        wanted = {"return_shared_kv_states": True} if assistant is not None else {}
        out = target(**inputs, output_hidden_states=True, **wanted)
        found[f"logits{suffix}"] = out.logits[0, positions].numpy()
        if assistant is not None:
            next_token, drafts, logits = draft(target, assistant, out, len(tokens), trim=same)
            found |= {f"drafts{suffix}": np.array([drafts]), f"draft_logits{suffix}": logits[None], "next": next_token}
    return {"tokens": tokens, "positions": positions, **found}
