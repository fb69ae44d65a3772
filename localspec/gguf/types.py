"""GGUF's type numbers: metadata values, ggml's tensor types with their block sizes, llama.cpp's file types."""

from __future__ import annotations

#: GGUF's types of metadata values.
UINT32, INT32, FLOAT32, STRING, ARRAY = 4, 5, 6, 8, 9

#: ggml tensor type → number (``enum ggml_type``), elements per block, bytes per block.
_TABLE = {
    "F32": (0, 1, 4), "F16": (1, 1, 2), "BF16": (30, 1, 2), "Q8_0": (8, 32, 34), "Q6_K": (14, 256, 210),
    "Q5_K": (13, 256, 176), "Q5_1": (7, 32, 24), "Q5_0": (6, 32, 22), "Q4_K": (12, 256, 144), "Q4_1": (3, 32, 20),
    "Q4_0": (2, 32, 18), "IQ4_NL": (20, 32, 18), "IQ4_XS": (23, 256, 136), "MXFP4": (39, 32, 17),
    "Q3_K": (11, 256, 110), "IQ3_S": (21, 256, 110), "IQ3_XXS": (18, 256, 98), "Q2_K": (10, 256, 84),
    "IQ2_S": (22, 256, 82), "IQ2_XS": (17, 256, 74), "IQ2_XXS": (16, 256, 66), "IQ1_M": (29, 256, 56),
    "IQ1_S": (19, 256, 50), "TQ2_0": (35, 256, 66), "TQ1_0": (34, 256, 54), "Q2_0": (42, 64, 18), "Q1_0": (41, 128, 18),
    "Q8_1": (9, 32, 36), "Q8_K": (15, 256, 292), "I8": (24, 1, 1), "I16": (25, 1, 2), "I32": (26, 1, 4),
    "I64": (27, 1, 8), "F64": (28, 1, 8), "NVFP4": (40, 64, 36),
}  # fmt: skip
#: Types in which llama.cpp does not store quantised weights.
_NOT_FOR_WEIGHTS = ("Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64", "NVFP4")

TYPE_NUMBERS = {name: number for name, (number, _, _) in _TABLE.items()}
TYPE_NAMES = {number: name for name, number in TYPE_NUMBERS.items()}
#: Type number → elements per block, bytes per block. Tensors of other types have no known size.
BLOCKS = {number: (elements, size) for number, elements, size in _TABLE.values()}
#: Types that a weight can be quantised to: name → number.
TENSOR_TYPES = {name: number for name, number in TYPE_NUMBERS.items() if name not in _NOT_FOR_WEIGHTS}

FLOATS = ("F32", "F16", "BF16")
FLOAT_NUMBERS = tuple(TYPE_NUMBERS[name] for name in FLOATS)
#: Types whose CPU kernels compute a row of a batch as they compute it alone.
EXACT_TYPES = ("Q4_0", "Q8_0")

#: llama.cpp's file types by name, as llama-quantize spells them, and their numbers (``enum llama_ftype``).
FILE_TYPES = {
    "F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q6_K": 18, "Q5_K_M": 17, "Q5_K_S": 16, "Q5_1": 9, "Q5_0": 8,
    "Q4_K_M": 15, "Q4_K_S": 14, "Q4_1": 3, "Q4_0": 2, "IQ4_NL": 25, "IQ4_XS": 30, "MXFP4_MOE": 38, "Q3_K_L": 13,
    "Q3_K_M": 12, "Q3_K_S": 11, "IQ3_M": 27, "IQ3_S": 26, "IQ3_XS": 22, "IQ3_XXS": 23, "Q2_K": 10, "Q2_K_S": 21,
    "IQ2_M": 29, "IQ2_S": 28, "IQ2_XS": 20, "IQ2_XXS": 19, "IQ1_M": 31, "IQ1_S": 24, "TQ2_0": 37, "TQ1_0": 36,
    "Q2_0": 41, "Q1_0": 40,
}  # fmt: skip
