"""The two architectures, the tokenizer and the chat template of the pair ``tiny``.

Both configurations keep every matrix row and every head a multiple of 32, so that Q8_0 and Q4_0 apply to all of them,
and the layers that own K/V end in (sliding, full), where llama.cpp looks for the caches that later layers share.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Gemma4AssistantConfig, Gemma4AssistantForCausalLM, Gemma4TextConfig, PreTrainedTokenizerFast
from transformers.models.gemma4 import Gemma4ForCausalLM

VOCAB = 2048
CONTEXT = 4096
SLIDING_WINDOW = 96
TURN_END = "<turn|>"
SPECIAL_TOKENS = [
    "<pad>", "<eos>", "<bos>", "<unk>", "<mask>",
    "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>',
    "<|think|>", "<|channel>", "<channel|>", "<|turn>", TURN_END,
]  # fmt: skip

# Gemma 4's turn and channel format. Unlike the 31B template, no empty thought channel opens an answer, so that the
# prompt of the next turn extends the text already in the cache.
CHAT_TEMPLATE = """\
{%- macro strip_thinking(text) -%}
    {%- set ns = namespace(result='') -%}
    {%- for part in text.split('<channel|>') -%}
        {%- set ns.result = ns.result + part.split('<|channel>')[0] -%}
    {%- endfor -%}
    {{- ns.result | trim -}}
{%- endmacro -%}
{%- macro render(content, role) -%}
    {%- set ns = namespace(text='') -%}
    {%- if content is string -%}
        {%- set ns.text = content -%}
    {%- else -%}
        {%- for item in content or [] if item['type'] == 'text' -%}
            {%- set ns.text = ns.text + item['text'] -%}
        {%- endfor -%}
    {%- endif -%}
    {{- strip_thinking(ns.text) if role == 'model' else ns.text | trim -}}
{%- endmacro -%}
{{- bos_token -}}
{%- set thinking = enable_thinking is defined and enable_thinking -%}
{%- set has_system = messages and messages[0]['role'] in ['system', 'developer'] -%}
{%- if thinking or has_system -%}
    {{- '<|turn>system\\n' -}}
    {%- if thinking -%}{{- '<|think|>\\n' -}}{%- endif -%}
    {%- if has_system -%}{{- render(messages[0]['content'], 'system') -}}{%- endif -%}
    {{- '<turn|>\\n' -}}
{%- endif -%}
{%- for message in (messages[1:] if has_system else messages) -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{- '<|turn>' + role + '\\n' + render(message['content'], role) + '<turn|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|turn>model\\n' -}}{%- endif -%}
"""


def make_tokenizer(texts: Iterable[str], vocab_size: int = VOCAB) -> PreTrainedTokenizerFast:
    """Train BPE over U+2581 with byte fallback on ``texts``.

    Merges are learned inside words only: llama.cpp cuts Gemma 4 text at newlines alone and transformers not at
    all, so a merge across a newline would make the two disagree.
    """
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    word = Regex(r"▁?\p{L}+|\p{N}|[^▁\p{L}\p{N}]|▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(word, "isolated")
    byte_tokens = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS + byte_tokens,
        initial_alphabet=["\n", "▁", *(chr(code) for code in range(33, 127))],
        limit_alphabet=128,
        min_frequency=1,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    state = tokenizer.to_str()
    fresh = Tokenizer.from_str(_without_byte_specials(state, set(byte_tokens)))
    fresh.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    fresh.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    fresh.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=fresh, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>", pad_token="<pad>",
        mask_token="<mask>", chat_template=CHAT_TEMPLATE, model_max_length=CONTEXT, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def _without_byte_specials(state: str, byte_tokens: set[str]) -> str:
    """Byte tokens must get their ids from the trainer, but typed text such as ``<0x41>`` must not match them."""
    tree = json.loads(state)
    tree["added_tokens"] = [token for token in tree["added_tokens"] if token["content"] not in byte_tokens]
    return json.dumps(tree, ensure_ascii=False)


def _text_config(**changes: object) -> Gemma4TextConfig:
    return Gemma4TextConfig(
        vocab_size=VOCAB, num_attention_heads=4, num_key_value_heads=2, head_dim=32, global_head_dim=64,
        sliding_window=SLIDING_WINDOW, max_position_embeddings=CONTEXT, **changes,
    )  # fmt: skip


def target_config() -> Gemma4TextConfig:
    """Six layers, (sliding, sliding, full) twice; the second half reads the first's K/V and has a double-wide MLP."""
    return _text_config(
        hidden_size=192, intermediate_size=320, num_hidden_layers=6, num_kv_shared_layers=3,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2, use_double_wide_mlp=True,
        vocab_size_per_layer_input=VOCAB, hidden_size_per_layer_input=32, final_logit_softcapping=30.0,
    )  # fmt: skip


def assistant_config(target: Gemma4TextConfig) -> Gemma4AssistantConfig:
    """Two layers of width 128 without K/V of their own: they read the target's last sliding and last full caches."""
    text = _text_config(
        hidden_size=128, intermediate_size=384, num_hidden_layers=2, num_kv_shared_layers=2,
        layer_types=["sliding_attention", "full_attention"], vocab_size_per_layer_input=0,
        hidden_size_per_layer_input=0,
    )  # fmt: skip
    return Gemma4AssistantConfig(text_config=text, backbone_hidden_size=target.hidden_size)


def build_target() -> Gemma4ForCausalLM:
    """A target with random weights, scaled so that attention starts soft and each block starts near the identity."""
    model = Gemma4ForCausalLM(target_config())
    _initialise(model)
    return model


def build_assistant(target: Gemma4TextConfig) -> Gemma4AssistantForCausalLM:
    model = Gemma4AssistantForCausalLM(assistant_config(target))
    _initialise(model)
    return model


@torch.no_grad()
def _initialise(model: torch.nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if "q_norm" in name or "k_norm" in name:
            # Gemma 4 scales attention by 1: the norms carry what is usually 1/sqrt(head_dim).
            parameter.fill_((1.5 / parameter.shape[0] ** 0.5) ** 0.5)
        elif "post_" in name and "norm" in name:
            parameter.fill_(0.3)
        elif parameter.ndim == 2:
            parameter.normal_(0.0, parameter.shape[1] ** -0.5)


def finish_configs(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast) -> None:
    """Token ids that transformers' generate needs: generation ends at <eos> or at the end of a turn."""
    turn_end = tokenizer.convert_tokens_to_ids(TURN_END)
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, turn_end]
