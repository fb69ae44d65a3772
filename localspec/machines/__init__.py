"""Other machines that hold layers of a model, through llama.cpp's RPC."""
