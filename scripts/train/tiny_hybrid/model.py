"""The architecture of Qwen3.5 at a small size, its prediction head, and the checkpoint of both.

The head is written after ``graph_mtp`` in llama.cpp's ``src/models/qwen35.cpp``; transformers has none. Tokenizer and
chat template are those of ``tiny``, so that the corpus fits. Every matrix row is a multiple of 32, as Q8_0 needs.
"""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import DynamicCache, PreTrainedTokenizerFast, Qwen3_5ForCausalLM, Qwen3_5TextConfig
from transformers.models.qwen3_5.modeling_qwen3_5 import (
    Qwen3_5DecoderLayer,
    Qwen3_5GatedDeltaNet,
    Qwen3_5RMSNorm,
    torch_chunk_gated_delta_rule,
)

from scripts.train.tiny_pair.model import CONTEXT, VOCAB, finish_configs

WIDTH = 128
#: Tokens of a chunk of the delta rule. transformers' 64 makes training on a CPU slow; the values are the same.
CHUNK = 16


def target_config() -> Qwen3_5TextConfig:
    """Three gated delta nets, and a layer of attention that rotates half of each head."""
    rope = {
        "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "mrope_section": [3, 3, 2],
        "mrope_interleaved": True,
    }  # fmt: skip
    return Qwen3_5TextConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=32,
        linear_value_head_dim=32, max_position_embeddings=CONTEXT, tie_word_embeddings=True, rope_parameters=rope,
    )  # fmt: skip


def build_target() -> Qwen3_5ForCausalLM:
    """A target with random weights."""
    model = Qwen3_5ForCausalLM(target_config())
    _initialise(model)
    return use_short_chunks(model)


def use_short_chunks(model: Qwen3_5ForCausalLM) -> Qwen3_5ForCausalLM:
    """Make the delta rule quick on a CPU."""
    for module in model.modules():
        if isinstance(module, Qwen3_5GatedDeltaNet):
            module.chunk_gated_delta_rule = functools.partial(torch_chunk_gated_delta_rule, chunk_size=CHUNK)
    return model


class Head(nn.Module):
    """A layer of attention over (embedding of a token, hidden row before it). Its row predicts the token after."""

    def __init__(self, config: Qwen3_5TextConfig) -> None:
        super().__init__()
        attention = copy.deepcopy(config)
        attention.layer_types = ["full_attention"]
        width, eps = config.hidden_size, config.rms_norm_eps
        self.pre_fc_norm_embedding = Qwen3_5RMSNorm(width, eps)
        self.pre_fc_norm_hidden = Qwen3_5RMSNorm(width, eps)
        self.fc = nn.Linear(2 * width, width, bias=False)
        self.layers = nn.ModuleList([Qwen3_5DecoderLayer(attention, 0)])
        self.norm = Qwen3_5RMSNorm(width, eps)
        _initialise(self)

    def forward(
        self, embedded: torch.Tensor, hidden: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor, cache: DynamicCache,
    ) -> torch.Tensor:  # fmt: skip
        """Hidden rows, for the target's output matrix. ``mask`` is over the keys in ``cache``, too."""
        both = torch.cat([self.pre_fc_norm_embedding(embedded), self.pre_fc_norm_hidden(hidden)], dim=-1)
        out = self.layers[0](self.fc(both), position_embeddings=rotation, attention_mask=mask, past_key_values=cache)
        return self.norm(out)


@torch.no_grad()
def _initialise(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            parameter.normal_(0.0, parameter.shape[1] ** -0.5)
        elif name.endswith("A_log"):
            parameter.uniform_(1.0, 16.0).log_()
        elif name.endswith("dt_bias"):  # decays of 0.2 to 0.999 a token
            parameter.uniform_(-5.0, -2.0)


def save_checkpoint(target: Qwen3_5ForCausalLM, head: Head, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Both models as Qwen's checkpoints have them: the head's tensors begin with ``mtp.``."""
    finish_configs(target, tokenizer)
    target.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights |= {f"mtp.{name}": value.contiguous() for name, value in head.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config |= {"mtp_num_hidden_layers": 1, "full_attention_interval": 4}
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def load_checkpoint(folder: Path) -> tuple[Qwen3_5ForCausalLM, Head]:
    target = Qwen3_5ForCausalLM.from_pretrained(folder, dtype="float32")
    head = Head(target.config)
    weights = load_file(folder / "model.safetensors")
    head.load_state_dict(
        {name.removeprefix("mtp."): value for name, value in weights.items() if name.startswith("mtp.")}
    )
    return use_short_chunks(target), head
