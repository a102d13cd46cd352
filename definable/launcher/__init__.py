"""`make up`: the embedded database and broker, every process, and their supervision."""
