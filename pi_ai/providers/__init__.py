"""Who serves models: the built-in catalogue, the embedded local model, and what users register."""
