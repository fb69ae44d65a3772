"""The question of exact_rows.py for experts, at the real widths of Gemma 4 26B-A4B with fewer layers and experts.

    python -m scripts.check.exact_rows_experts [--threads 1] [--experts 16] [--lengths 100 600] [--drafts 2]

Slow: four files of some 300 million weights are made and probed (five minutes on two loaded cores).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import gguf_convert
from scripts.check import exact_rows  # before tiny_checkpoint, which it makes importable
from tests.helpers import tiny_checkpoint as tiny

LAYERS = ["sliding_attention", "full_attention"]
#: The widths of 26B-A4B, which has 30 layers and takes 8 of 128 experts.
WIDTHS = {
    "vocab_size": 8192, "hidden_size": 2816, "intermediate_size": 2112, "moe_intermediate_size": 704,
    "top_k_experts": 8, "num_attention_heads": 16, "num_key_value_heads": 8, "num_global_key_value_heads": 2,
    "head_dim": 256, "global_head_dim": 512, "sliding_window": 512, "max_position_embeddings": 4096,
}  # fmt: skip
WAYS: dict[str, dict[str, Any]] = {
    "convert --exact": {"exact": True},
    "convert --exact --type Q8_0": {"exact": True, "type": "Q8_0"},
    "Q4_0 (routers F32)": {"type": "Q4_0"},
    "Q4_K_M": {"type": "Q4_K_M"},
}


def write_checkpoint(folder: Path, experts: int) -> None:
    """Random BF16 matrices scaled to keep activations near 1, written tensor by tensor."""
    config = tiny.text_config(
        **WIDTHS,
        num_experts=experts,
        enable_moe_block=True,
        attention_k_eq_v=True,
        num_hidden_layers=len(LAYERS),
        layer_types=LAYERS,
        num_kv_shared_layers=0,
        use_double_wide_mlp=False,
        hidden_size_per_layer_input=0,
        vocab_size_per_layer_input=0,
    )
    width, vocab = config["hidden_size"], config["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, width), "model.norm.weight": (width,)}
    for index in range(len(LAYERS)):
        layer = tiny._layer_shapes(config, index)
        shapes |= {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
    tiny.write(folder, config, weights={}, vocabulary=exact_rows.vocabulary(vocab))
    exact_rows.write_tensors(folder, shapes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--experts", type=int, default=16)
    parser.add_argument("--lengths", type=int, nargs="+", default=[100, 600])
    parser.add_argument("--drafts", type=int, default=2)
    arguments = parser.parse_args()
    print("| file | tokens before | drafts with all rows equal | largest difference of a logit |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_checkpoint(folder / "in", arguments.experts)
        for label, options in WAYS.items():
            gguf_convert.convert(folder / "in", folder / "probe.gguf", force=True, **options)
            exact_rows.report(label, folder / "probe.gguf", arguments)


if __name__ == "__main__":
    main()
