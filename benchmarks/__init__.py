"""The framework against PyTorch, one command, one table: `python -m benchmarks`."""
