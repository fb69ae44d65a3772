"""Chat templates for models whose files have none: the published turns of their families, without tools."""

from __future__ import annotations

from typing import NamedTuple


class BuiltinTemplate(NamedTuple):
    """A template, and the token that opens its turns, which tells models that know them."""

    opening: str
    source: str


#: An empty thought tells the larger models not to think. Thoughts are left out of the history.
_GEMMA_4 = r"""
{{- bos_token -}}
{%- set has_system = messages and messages[0].role in ['system', 'developer'] -%}
{%- if enable_thinking or has_system -%}
    {{- '<|turn>system\n' -}}
    {%- if enable_thinking -%}{{- '<|think|>\n' -}}{%- endif -%}
    {%- if has_system -%}{{- messages[0].content | trim -}}{%- endif -%}
    {{- '<turn|>\n' -}}
{%- endif -%}
{%- for message in (messages[1:] if has_system else messages) -%}
    {%- if message.role == 'assistant' -%}
        {%- set reply = namespace(text='') -%}
        {%- for part in message.content.split('<channel|>') -%}
            {%- set reply.text = reply.text + part.split('<|channel>')[0] -%}
        {%- endfor -%}
        {{- '<|turn>model\n' + reply.text | trim + '<turn|>\n' -}}
    {%- else -%}
        {{- '<|turn>' + message.role + '\n' + message.content | trim + '<turn|>\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|turn>model\n' -}}
    {%- if not enable_thinking -%}{{- '<|channel>thought\n<channel|>' -}}{%- endif -%}
{%- endif -%}
"""

#: Gemma 1 to 3 have no system turn: its text begins the next turn.
_GEMMA_3 = r"""
{{- bos_token -}}
{%- set system = namespace(text='') -%}
{%- for message in messages -%}
    {%- if message.role in ['system', 'developer'] -%}
        {%- set system.text = system.text + message.content + '\n\n' -%}
    {%- else -%}
        {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\n' + system.text -}}
        {{- message.content | trim + '<end_of_turn>\n' -}}
        {%- set system.text = '' -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\n' -}}{%- endif -%}
"""

_CHATML = r"""
{%- for message in messages -%}
    {{- '<|im_start|>' + ('system' if message.role == 'developer' else message.role) + '\n' -}}
    {{- message.content + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}
"""

_LLAMA_3 = r"""
{{- bos_token -}}
{%- for message in messages -%}
    {%- set role = 'system' if message.role == 'developer' else message.role -%}
    {{- '<|start_header_id|>' + role + '<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}
"""

#: The templates of each name; of several the first is used whose opening is a token of the model.
BUILTIN: dict[str, tuple[BuiltinTemplate, ...]] = {
    "gemma": (BuiltinTemplate("<|turn>", _GEMMA_4), BuiltinTemplate("<start_of_turn>", _GEMMA_3)),
    "chatml": (BuiltinTemplate("<|im_start|>", _CHATML),),
    "llama3": (BuiltinTemplate("<|start_header_id|>", _LLAMA_3),),
}
