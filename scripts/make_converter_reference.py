#!/usr/bin/env python3
"""Write tests/gguf_convert/reference: small random checkpoints, and what transformers computes from them.

    python scripts/make_converter_reference.py            # needs torch==2.13.0, transformers==5.12.1

Three checkpoints in bfloat16: ``ple`` (per-layer embeddings, shared K/V, double-wide MLP, softcap), ``assistant``
for it, and ``k_eq_v`` (V = K in full layers, other K/V head counts there, saved in shards under the names of a
multimodal model). ``expected.npz`` holds token ids, logits at positions below and above the sliding window, hidden
rows, greedy drafts with their logits, and tokenised texts, so that the tests compare without torch. Norms and
layer scalars are random so that a wrong mapping shows.
"""

from __future__ import annotations

import copy
import glob
import json
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    Gemma4AssistantConfig,
    Gemma4AssistantForCausalLM,
    Gemma4TextConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.gemma4 import Gemma4ForCausalLM

OUT = Path(__file__).parent.parent / "tests" / "gguf_convert" / "reference"
VOCAB, WINDOW, TOKENS, DRAFTS = 512, 64, 200, 6
POSITIONS = [0, 5, 40, 62, 63, 64, 65, 66, 127, 128, 150, 199]
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|turn>", "<turn|>", "<|channel>", "<channel|>"]
TEXTS = [
    "Hello, world!",
    " two  spaces   and more ",
    "def f(x):\n    return x\n\n\nprint(f(1))\n",
    "naïve café — “quoted” … 数学 🎉 \x00\x7f",
    "<|turn>user\nWhy?<turn|>\n<|turn>model\n<|channel>thought\n<channel|>Because.<turn|>",
    "\n",
    "\t\ttabs\r\nand\rreturns",
]
TEMPLATE = "{{ bos_token }}{% for m in messages %}<|turn>{{ m['role'] }}\n{{ m['content'] }}<turn|>\n{% endfor %}"


def make_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    # newlines are never merged with other text, as in Gemma's own vocabulary
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - 8,
        special_tokens=SPECIAL + [f"<0x{i:02X}>" for i in range(256)],
        limit_alphabet=80,
        show_progress=False,
    )
    sources = sorted(glob.glob(os.path.join(os.path.dirname(os.__file__), "*.py")))[:20]
    texts = [Path(name).read_text(encoding="utf-8", errors="ignore") for name in sources]
    tokenizer.train_from_iterator((line for text in texts for line in text.splitlines(keepends=True)), trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.add_tokens([AddedToken("print", special=False, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        chat_template=TEMPLATE,
    )


def text_config(**changes) -> Gemma4TextConfig:
    shared = {
        "vocab_size": VOCAB,
        "head_dim": 32,
        "global_head_dim": 64,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "sliding_window": WINDOW,
        "max_position_embeddings": 1024,
        "initializer_range": 0.1,
    }
    return Gemma4TextConfig(**{**shared, **changes})


def make_target() -> Gemma4ForCausalLM:
    layers = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    return Gemma4ForCausalLM(
        text_config(
            hidden_size=64,
            intermediate_size=64,
            num_hidden_layers=5,
            layer_types=layers,
            num_kv_shared_layers=2,
            use_double_wide_mlp=True,
            vocab_size_per_layer_input=VOCAB,
            hidden_size_per_layer_input=32,
            final_logit_softcapping=30.0,
        )
    )


def make_assistant() -> Gemma4AssistantForCausalLM:
    text = text_config(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        layer_types=["sliding_attention", "full_attention"],
        num_kv_shared_layers=2,
        vocab_size_per_layer_input=0,
        hidden_size_per_layer_input=0,
    )
    return Gemma4AssistantForCausalLM(Gemma4AssistantConfig(text_config=text, backbone_hidden_size=64))


def make_k_eq_v() -> Gemma4ForCausalLM:
    return Gemma4ForCausalLM(
        text_config(
            hidden_size=32,
            intermediate_size=64,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_global_key_value_heads=1,
            attention_k_eq_v=True,
            num_hidden_layers=4,
            layer_types=["sliding_attention", "full_attention"] * 2,
            vocab_size_per_layer_input=0,
            hidden_size_per_layer_input=0,
        )
    )


def shake(model: torch.nn.Module, damping: float) -> None:
    """Randomise what initialises to one, and round everything to bfloat16, the type of the checkpoint.

    ``damping`` scales what layers add to the residual: an undamped random assistant, fed its own output, makes
    rounding errors grow fivefold with each draft.
    """
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "norm" in name or "layer_scalar" in name:
            tensor.data = (1 + 0.2 * torch.randn_like(tensor)) * (damping if ".post_" in name else 1.0)
        if tensor.is_floating_point() and "inv_freq" not in name and "embed_scale" not in name:
            tensor.data = tensor.data.to(torch.bfloat16).to(torch.float32)


def save(model, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def shard_as_multimodal(folder: Path) -> None:
    """Rename to the names of ``Gemma4ForConditionalGeneration`` and split into two files with an index."""
    config = json.loads((folder / "config.json").read_text())
    wrapped = {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "model_type": "gemma4",
        "text_config": config,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(wrapped, indent=2) + "\n")
    tensors = {
        name.replace("model.", "model.language_model.", 1): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    tensors["model.vision_tower.patch_embedder.input_proj.weight"] = torch.zeros(4, 4, dtype=torch.bfloat16)
    (folder / "model.safetensors").unlink()
    weight_map = {}
    names = sorted(tensors)
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        shard = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / shard)
        weight_map.update(dict.fromkeys(part, shard))
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index) + "\n")


class GeluOfGgml(torch.nn.Module):
    """tanh GELU as ggml computes it on a CPU: looked up in a table of half-precision values (ggml_vec_gelu_f32)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rounded = torch.nn.functional.gelu(x.half().float(), approximate="tanh").half().float()
        return torch.where(x <= -10, torch.zeros_like(x), torch.where(x >= 10, x, rounded))


def use_gelu_of_ggml(model: torch.nn.Module) -> None:
    for module in model.modules():
        if hasattr(module, "act_fn"):
            module.act_fn = GeluOfGgml()


@torch.no_grad()
def run(target, assistant, ids: list[int], trim: bool) -> dict[str, np.ndarray]:
    """Logits and hidden rows of the target, then greedy drafts as ``SinglePositionMultiTokenCandidateGenerator``.

    transformers lets a sliding layer of an assistant see keys up to ``WINDOW + 1`` positions back, two more than
    one of the target (``sliding_window_bidirectional_overlay`` counts ``<=``, from the position before).
    llama.cpp uses one rule for both; ``trim`` does so here.
    """
    out = target(torch.tensor([ids]), output_hidden_states=True, return_shared_kv_states=True)
    results = {"logits": out.logits[0, POSITIONS].numpy(), "hidden": out.hidden_states[-1][0, POSITIONS].numpy()}
    if assistant is None:
        return results
    for length in (50, len(ids)):
        out = target(torch.tensor([ids[:length]]), output_hidden_states=True, return_shared_kv_states=True)
        token = out.logits[:, -1:].argmax(-1)
        hidden = out.hidden_states[-1][:, -1:]
        first, tokens, logits = int(token), [], []
        shared = dict(out.shared_kv_states)
        if trim:
            shared["sliding_attention"] = tuple(x[:, :, 1 - WINDOW :] for x in shared["sliding_attention"])
        for _ in range(DRAFTS):
            step = assistant(
                inputs_embeds=torch.cat([target.get_input_embeddings()(token), hidden], dim=-1),
                attention_mask=torch.ones(1, length + 1, dtype=torch.long),
                position_ids=torch.tensor([[length]]),
                shared_kv_states=shared,
                use_cache=False,
            )
            token, hidden = step.logits.argmax(-1), step.last_hidden_state
            tokens.append(int(token))
            logits.append(step.logits[0, 0].numpy())
        results[f"next_{length}"] = np.array(first)
        results[f"drafts_{length}"] = np.array(tokens)
        results[f"draft_logits_{length}"] = np.stack(logits)
    return results


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    tokenizer = make_tokenizer()
    target, assistant, k_eq_v = make_target(), make_assistant(), make_k_eq_v()
    for name, model in {"ple": target, "assistant": assistant, "k_eq_v": k_eq_v}.items():
        model.eval()
        model.set_attn_implementation("eager")
        shake(model, 0.3 if model is assistant else 1.0)
        save(model, tokenizer, OUT / name)
    shard_as_multimodal(OUT / "k_eq_v")
    ids = [2, *np.random.RandomState(0).randint(265, len(tokenizer), size=TOKENS - 1).tolist()]
    expected = {"ids": np.array(ids), "positions": np.array(POSITIONS)}
    for suffix in ("", "_ggml"):
        for name, model, drafter in (("ple", target, assistant), ("k_eq_v", k_eq_v, None)):
            results = run(model, drafter, ids, trim=suffix == "_ggml")
            expected.update({f"{name}_{key}{suffix}": value for key, value in results.items()})
        for model in (target, assistant, k_eq_v):
            use_gelu_of_ggml(model)
    np.savez_compressed(OUT / "expected.npz", **expected)
    texts = [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False)} for text in TEXTS]
    (OUT / "texts.json").write_text(json.dumps(texts, indent=1) + "\n")


if __name__ == "__main__":
    main()
