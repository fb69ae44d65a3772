"""Random checkpoints and what transformers computes from them: the references of the converter's tests.

Layout, one folder per checkpoint, ``tests/gguf_convert/reference/<family>_<size>/`` (``gemma4_26b_a4b``, ``qwen3``, …):

- ``config.json``, ``model.safetensors`` (or shards with an index), ``tokenizer.json``, ``tokenizer_config.json`` and
  what else the real checkpoint has: a complete Hugging Face folder, BF16, narrow, under 300 KB in all but for good
  reason. JSON is written without indentation. Norms, scalars, biases and router scales are random.
- ``expected.npz``, what transformers computes in F32 from the same (BF16) weights:

  | key | shape | meaning |
  |---|---|---|
  | ``label`` | text | the row of the table, such as ``Gemma 4 26B-A4B`` |
  | ``tokens`` | (200,) int | token ids of varied text, with BOS where the model wants it |
  | ``positions`` | (p,) int | positions whose rows are stored, below and beyond a sliding window |
  | ``logits`` | (p, vocabulary) F32 | transformers as it is |
  | ``logits_ggml`` | (p, vocabulary) F32 | optional: with what is known to differ as llama.cpp has it (see below) |
  | ``hidden``, ``hidden_ggml`` | (p, width) F32 | optional: rows after the last norm |

  and for an assistant, in place of ``positions`` to ``hidden``:

  | key | shape | meaning |
  |---|---|---|
  | ``target`` | text | the name of the target's folder |
  | ``lengths`` | (k,) int | drafts start behind the first so many tokens |
  | ``next`` | (k,) int | the target's greedy token there |
  | ``drafts``, ``draft_logits`` | (k, n), (k, n, vocabulary) | transformers as it is |
  | ``drafts_ggml``, ``draft_logits_ggml`` | the same | with what is known to differ as llama.cpp has it |

What is known to differ: ggml's CPU backend looks GELU up in a table of half-precision values, and transformers'
assistant sees two more keys of a sliding window than its target does. ``tests/helpers/parity.py`` converts a
folder of this layout, runs llama.cpp on it and compares; ``scripts/convert/parity.py`` prints the table over all.
"""
