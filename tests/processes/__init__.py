"""The whole bus as real processes, and what befalls them."""
