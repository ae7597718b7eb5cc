"""tito: the engine of TinyTorch. It turns the course into notebooks, checks and a package."""

__version__ = "0.1.0"
