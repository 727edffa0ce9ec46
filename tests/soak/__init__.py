"""The soak run: thousands of requests while the model and the storage fail and workers are killed, and what is left."""
