"""The row of module 17: 256 tokens written one by one with a key-value cache, a single text.

A GPT 128 wide with 4 layers, 4 heads and 512 words. Both sides have a preallocated cache and take
the likeliest token; what is timed is one whole text. "best" is PyTorch in inference mode, which
leaves out what no_grad still keeps track of.
"""

from collections.abc import Callable

from benchmarks.networks import HEADS, LAYERS, WIDTH, Run, repeat, torch_block

TOKENS, VOCABULARY = 256, 512


def decode_ours() -> Run:
    """Cached decoding as module 17 writes it."""
    from tinytorch.core.tensor import manual_seed
    from tinytorch.nn import kvcache
    from tinytorch.nn.transformer import GPT, GPTConfig

    manual_seed(0)
    model = GPT(GPTConfig(VOCABULARY, TOKENS, dim=WIDTH, heads=HEADS, layers=LAYERS)).eval()

    def text() -> None:
        cache, token = kvcache.KVCache.for_model(model), 1
        for _ in range(TOKENS):
            logits = kvcache.decode(model, [[token]], cache)
            token = int(logits.data[0, -1].argmax())

    return repeat(text)


def decode_torch(inference: bool = False) -> Run:
    """The same network in PyTorch, eager, with its own attention on views of the cache."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    embed, place = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(TOKENS, WIDTH)
    blocks = nn.ModuleList([torch_block() for _ in range(LAYERS)]).eval()
    norm, head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)
    head.weight = embed.weight
    shape = (LAYERS, 1, HEADS, TOKENS, WIDTH // HEADS)

    def text() -> None:
        with torch.inference_mode() if inference else torch.no_grad():
            keys, values = torch.zeros(shape), torch.zeros(shape)
            token = torch.tensor([[1]])
            for start in range(TOKENS):
                x = embed(token) + place.weight[start : start + 1]
                for block, k, v in zip(blocks, keys, values, strict=True):
                    x = block(x, k, v, start)
                token = head(norm(x))[:, -1].argmax(dim=-1, keepdim=True)

    return repeat(text)


WORK: dict[str, dict[str, Callable[[], Run]]] = {
    "cached decode": {
        "ours": decode_ours,
        "torch": decode_torch,
        "best": lambda: decode_torch(inference=True),
    },
}
