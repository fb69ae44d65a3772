#!/usr/bin/env python3
"""Write the small hybrid model at the sizes of Qwen3.5 0.8B. It says the same and costs what the large one does.

    python -m scripts.train.tiny_hybrid.widen --work tiny-hybrid --type Q4_0

So acceptance is real, and so are times. Widths, heads, layers and tokens are filled up with zeros; norms are scaled for
what zeros do to a mean. Tokens without a text get a logit far below all others, by a channel that is the same for every
token.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Weights = dict[str, torch.Tensor]
#: Sizes of Qwen3.5 0.8B; it has 24 layers and 248,320 tokens.
WIDTH, FORWARD = 1024, 3584
HEADS, KV_HEADS, HEAD = 8, 2, 256
LINEAR_HEADS, LINEAR_HEAD = 16, 128
#: Value of the channel that is the same for every token, where layers read it and behind the last norm.
_SAME, _SAME_OUT = 0.02, 0.5
#: Logit of a token without a text.
_NEVER = -100.0


class Widened:
    """Tensors of a small checkpoint (``small``, with its configuration) at the large sizes."""

    def __init__(self, small: Weights, config: dict[str, int], layers: int, tokens: int) -> None:
        self.small, self.width = small, config["hidden_size"]
        self.all_layers, self.tokens = layers, tokens
        self.heads, self.kv_heads, self.head = (
            config[name] for name in ("num_attention_heads", "num_key_value_heads", "head_dim")
        )
        self.keys, self.values, self.linear = (
            config[name] for name in ("linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim")
        )
        self.layers = config["num_hidden_layers"]

    def all(self) -> Weights:
        made = {"model.embed_tokens.weight": self._embedding()}
        for i in range(self.all_layers):
            made |= self._layer(f"model.layers.{i}.", f"model.layers.{i % self.layers}.", used=i < self.layers)
        made["model.norm.weight"] = self._norm(self.small["model.norm.weight"], _SAME_OUT / _SAME)
        made |= self._layer("mtp.layers.0.", "mtp.layers.0.", used=True)
        for name in ("mtp.pre_fc_norm_embedding.weight", "mtp.pre_fc_norm_hidden.weight"):
            made[name] = self._norm(self.small[name], 1.0 if "embedding" in name else 0.0)
        fc = self.small["mtp.fc.weight"]
        wide = padded(fc[:, : self.width], WIDTH, 2 * WIDTH)
        wide[: self.width, WIDTH : WIDTH + self.width] = fc[:, self.width :]
        wide[self.width, self.width] = _SAME
        made["mtp.fc.weight"] = wide
        made["mtp.norm.weight"] = self._norm(self.small["mtp.norm.weight"], _SAME_OUT / _SAME)
        return {name: value.to(torch.float16).contiguous() for name, value in made.items()}

    def _embedding(self) -> torch.Tensor:
        small = self.small["model.embed_tokens.weight"]
        made = padded(small, self.tokens, WIDTH)
        made[: len(small), self.width] = _SAME
        made[len(small) :, self.width] = _NEVER / _SAME_OUT
        return made

    def _norm(self, weight: torch.Tensor, same: float) -> torch.Tensor:
        """A norm whose input is mostly zeros: the mean of squares is smaller."""
        made = torch.full((WIDTH,), -1.0)
        made[: self.width] = (1 + weight) * (self.width / WIDTH) ** 0.5 - 1
        made[self.width] = same - 1
        return made

    def _layer(self, name: str, source: str, *, used: bool) -> Weights:
        """One that adds nothing if it is not ``used``."""
        small = {key.removeprefix(source): value for key, value in self.small.items() if key.startswith(source)}
        made = {
            key: self._norm(small[key], 0.0) for key in ("input_layernorm.weight", "post_attention_layernorm.weight")
        }
        made |= {
            f"mlp.{key}.weight": padded(small[f"mlp.{key}.weight"], FORWARD, WIDTH) for key in ("gate_proj", "up_proj")
        }
        made["mlp.down_proj.weight"] = padded(small["mlp.down_proj.weight"], WIDTH, FORWARD)
        made |= self._attention(small) if "self_attn.q_proj.weight" in small else self._net(small)
        for key in ("mlp.down_proj", "self_attn.o_proj", "linear_attn.out_proj"):
            if not used and f"{key}.weight" in made:
                made[f"{key}.weight"].zero_()
        return {name + key: value for key, value in made.items()}

    def _attention(self, small: Weights) -> Weights:
        """Query heads stay with the keys that they read. A head's scale goes with its size."""
        share = self.heads // self.kv_heads
        queries = [i // share * (HEADS // KV_HEADS) + i % share for i in range(self.heads)]
        shrunk = (self.head / HEAD) ** 0.5
        gated = small["self_attn.q_proj.weight"].reshape(self.heads, 2, self.head, self.width)
        wide = torch.zeros(HEADS, 2, HEAD, WIDTH)
        wide[queries, :, : self.head, : self.width] = gated
        out = torch.zeros(WIDTH, HEADS, HEAD)
        out[: self.width, queries, : self.head] = small["self_attn.o_proj.weight"].reshape(
            self.width, self.heads, self.head
        )
        made = {"self_attn.q_proj.weight": wide.reshape(-1, WIDTH), "self_attn.o_proj.weight": out.reshape(WIDTH, -1)}
        for key in "kv":
            rows = small[f"self_attn.{key}_proj.weight"].reshape(self.kv_heads, self.head, self.width)
            made[f"self_attn.{key}_proj.weight"] = in_heads(rows, range(self.kv_heads), KV_HEADS, HEAD)
        for key, scale in (("q", 1.0), ("k", shrunk)):
            weight = torch.full((HEAD,), -1.0)
            weight[: self.head] = (1 + small[f"self_attn.{key}_norm.weight"]) * scale - 1
            made[f"self_attn.{key}_norm.weight"] = weight
        return made

    def _net(self, small: Weights) -> Weights:
        """Each head of values gets keys of its own."""
        small = {key.removeprefix("linear_attn."): value for key, value in small.items()}
        share, values = self.values // self.keys, range(self.values)
        keys = [i // share for i in values]
        made = {}
        for key, columns in (("in_proj_qkv.weight", WIDTH), ("conv1d.weight", small["conv1d.weight"].shape[-1])):
            parts = (
                small[key]
                .reshape(-1, small[key].shape[-1])
                .split([self.keys * self.linear] * 2 + [self.values * self.linear])
            )
            rows = [part.reshape(-1, self.linear, part.shape[-1]) for part in parts]
            rows = [rows[0][keys], rows[1][keys], rows[2]]
            wide = torch.cat([in_heads(part, values, LINEAR_HEADS, LINEAR_HEAD, columns) for part in rows])
            made[key] = wide.reshape(len(wide), *([1] if "conv" in key else []), columns)
        made["in_proj_z.weight"] = in_heads(
            small["in_proj_z.weight"].reshape(-1, self.linear, self.width), values, LINEAR_HEADS, LINEAR_HEAD
        )
        for key in ("in_proj_a.weight", "in_proj_b.weight"):
            made[key] = padded(small[key], LINEAR_HEADS, WIDTH)
        for key in ("A_log", "dt_bias"):
            made[key] = torch.zeros(LINEAR_HEADS)
            made[key][: self.values] = small[key]
        made["norm.weight"] = torch.zeros(LINEAR_HEAD)
        made["norm.weight"][: self.linear] = small["norm.weight"] * (self.linear / LINEAR_HEAD) ** 0.5
        out = torch.zeros(WIDTH, LINEAR_HEADS, LINEAR_HEAD)
        out[: self.width, : self.values, : self.linear] = small["out_proj.weight"].reshape(
            self.width, self.values, self.linear
        )
        made["out_proj.weight"] = out.reshape(WIDTH, -1)
        return {f"linear_attn.{key}": value for key, value in made.items()}


def padded(matrix: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    made = torch.zeros(rows, columns)
    made[: matrix.shape[0], : matrix.shape[1]] = matrix
    return made


def in_heads(rows: torch.Tensor, places: range, heads: int, size: int, columns: int = WIDTH) -> torch.Tensor:
    """``rows`` (heads, values, inputs) at the ``places`` of a matrix of ``heads`` heads of ``size`` rows."""
    made = torch.zeros(heads, size, columns)
    made[list(places), : rows.shape[1], : rows.shape[2]] = rows
    return made.reshape(heads * size, columns)


def write(source: Path, folder: Path, layers: int, tokens: int) -> None:
    config = json.loads((source / "config.json").read_text())
    small = {name: value.float() for name, value in load_file(source / "model.safetensors").items()}
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
    save_file(Widened(small, config, layers, tokens).all(), folder / "model.safetensors", metadata={"format": "pt"})
    rope = {**config["rope_parameters"]}
    rope["partial_rotary_factor"] *= config["head_dim"] / HEAD
    changes = {
        "hidden_size": WIDTH, "intermediate_size": FORWARD, "num_hidden_layers": layers, "vocab_size": tokens,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "rope_parameters": rope,
        "linear_num_key_heads": LINEAR_HEADS, "linear_num_value_heads": LINEAR_HEADS,
        "linear_key_head_dim": LINEAR_HEAD, "linear_value_head_dim": LINEAR_HEAD, "rms_norm_eps": 1e-7,
        "layer_types": [("full" if i % 4 == 3 else "linear") + "_attention" for i in range(layers)],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**config, **changes}, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("tiny-hybrid"), help="the folder of train_tiny_hybrid")
    parser.add_argument("--type", default="Q4_0", help="tensor type of the GGUF file")
    parser.add_argument("--convert-python", default=sys.executable, help="a Python that has localspec installed")
    parser.add_argument("--layers", type=int, default=24, help="a multiple of 4")
    parser.add_argument("--tokens", type=int, default=248320)
    args = parser.parse_args()
    folder = args.work / f"wide-{args.layers}-{args.tokens}"
    file = Path(f"{folder}-{args.type}.gguf")
    write(args.work / "checkpoint", folder, args.layers, args.tokens)
    command = [args.convert_python, "-m", "gguf_convert", folder, "-o", file, "--type", args.type, "--force"]
    subprocess.run([str(part) for part in command], check=True)


if __name__ == "__main__":
    main()
