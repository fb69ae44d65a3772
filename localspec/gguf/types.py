"""Names and numbers of the types that GGUF files and their tensors have."""

#: llama.cpp's file types by name, as llama-quantize spells them, and their numbers (``enum llama_ftype``).
FILE_TYPES = {
    "F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q6_K": 18, "Q5_K_M": 17, "Q5_K_S": 16, "Q5_1": 9, "Q5_0": 8,
    "Q4_K_M": 15, "Q4_K_S": 14, "Q4_1": 3, "Q4_0": 2, "IQ4_NL": 25, "IQ4_XS": 30, "MXFP4_MOE": 38, "Q3_K_L": 13,
    "Q3_K_M": 12, "Q3_K_S": 11, "IQ3_M": 27, "IQ3_S": 26, "IQ3_XS": 22, "IQ3_XXS": 23, "Q2_K": 10, "Q2_K_S": 21,
    "IQ2_M": 29, "IQ2_S": 28, "IQ2_XS": 20, "IQ2_XXS": 19, "IQ1_M": 31, "IQ1_S": 24, "TQ2_0": 37, "TQ1_0": 36,
    "Q2_0": 41, "Q1_0": 40,
}  # fmt: skip

#: ggml's types of single tensors by name, and their numbers.
TENSOR_TYPES = {
    "F32": 0, "F16": 1, "BF16": 30, "Q8_0": 8, "Q6_K": 14, "Q5_K": 13, "Q5_1": 7, "Q5_0": 6, "Q4_K": 12, "Q4_1": 3,
    "Q4_0": 2, "IQ4_NL": 20, "IQ4_XS": 23, "MXFP4": 39, "Q3_K": 11, "IQ3_S": 21, "IQ3_XXS": 18, "Q2_K": 10,
    "IQ2_S": 22, "IQ2_XS": 17, "IQ2_XXS": 16, "IQ1_M": 29, "IQ1_S": 19, "TQ2_0": 35, "TQ1_0": 34, "Q2_0": 42,
    "Q1_0": 41,
}  # fmt: skip

FLOATS = ("F32", "F16", "BF16")
#: Types whose CPU kernels compute a row of a batch as they compute it alone.
EXACT_TYPES = ("Q4_0", "Q8_0")
