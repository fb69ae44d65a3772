"""Which drafters go with which architecture: the registry that pairing, loading and the page of drafters read.

From llama.cpp's ``src/models`` (graphs of prediction heads) and ``src/llama-arch.cpp`` (recurrent architectures, and
those whose states it takes back).
"""

from __future__ import annotations

#: Architectures whose prediction heads llama.cpp computes, and True where several make a chain.
HEADS: dict[str, bool] = {
    "bailingmoe3": False, "cohere2moe": False, "deepseek2": False, "deepseek32": False, "deepseek4": False,
    "glm-dsa": False, "glm4moe": False, "glm5-next": False, "hy_v3": False, "mimo2": False, "nemotron_h_moe": False,
    "qwen35": False, "qwen35moe": False, "qwen3next": False, "step35": True,
}  # fmt: skip
#: Recurrent and hybrid architectures of which llama.cpp takes back a few tokens of a pass.
TAKES_BACK = (
    "bailingmoe3", "deepseek4", "glm5-next", "kimi-k3", "lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe", "qwen35",
    "qwen35moe", "qwen4exp",
)  # fmt: skip
#: Other recurrent and hybrid architectures: drafts need a checkpoint.
CHECKPOINTS_ONLY = (
    "arwkv7", "falcon-h1", "granitehybrid", "jamba", "kimi-linear", "mamba", "mamba2", "minimax-01", "plamo2",
    "qwen3next", "rwkv6", "rwkv6qwen2", "rwkv7",
)  # fmt: skip
#: Architectures of which llama.cpp gives the inputs of layers, which EAGLE-3 heads read.
LAYER_INPUTS = (
    "bailingmoe3", "deepseek4", "gemma4", "gpt-oss", "hunyuan_vl", "lfm2", "llama", "mimo2", "minimax-01", "minimax-m2",
    "muse-glimmer", "nanbeige", "nemotron_h", "qwen3", "qwen35", "qwen35moe", "qwen3moe", "qwen3next", "qwen4exp",
)  # fmt: skip
#: Architectures that have separate assistants.
ASSISTED = ("gemma4",)

_COLUMNS = ("lookup", "smaller model", "heads (`mtp`)", "assistant (`mtp`)", "EAGLE-3", "takes back")


def table() -> str:
    """Return the table of drafter kinds by architecture, in Markdown, for the documentation."""
    rows = [("every other decoder", *_cells(""))]
    known = sorted({*HEADS, *TAKES_BACK, *CHECKPOINTS_ONLY, *ASSISTED, *LAYER_INPUTS})
    rows += [(f"`{name}`", *_cells(name)) for name in known]
    lines = [f"| architecture | {' | '.join(_COLUMNS)} |", "|---" * (1 + len(_COLUMNS)) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _cells(architecture: str) -> tuple[str, ...]:
    heads = "–" if architecture not in HEADS else "a chain" if HEADS[architecture] else "yes"
    back = "all"
    if architecture in TAKES_BACK:
        back = "4 tokens, else a checkpoint"
    elif architecture in CHECKPOINTS_ONLY:
        back = "by checkpoints"
    return "yes", "yes", heads, *("yes" if architecture in kind else "–" for kind in (ASSISTED, LAYER_INPUTS)), back
