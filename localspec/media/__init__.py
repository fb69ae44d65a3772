"""Pictures and sounds in prompts: their files, their place in a message, and their cells. Without llama.cpp."""
