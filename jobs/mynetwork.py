"""A network of your own for jobs/custom-model.toml: any function that returns an `nn.Sequential`.

Its children are the layers the network may be cut between. Use GroupNorm or LayerNorm, not
BatchNorm: a row's result must not depend on its batch mates or on the size of a micro-batch.
"""

from torch import nn


class Residual(nn.Module):
    """Two layers and a way around them: one layer as far as cutting is concerned."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
        )

    def forward(self, rows):
        """Add what the two layers make of ``rows`` to them."""
        return rows + self.body(rows)


def network(*, input_shape: tuple[int, ...], outputs: int, width: int = 64, blocks: int = 4):
    """Return the network for rows of ``input_shape`` and ``outputs`` sub-labels."""
    (features,) = input_shape
    return nn.Sequential(
        nn.Linear(features, width),
        *[Residual(width) for _ in range(blocks)],
        nn.LayerNorm(width),
        nn.Linear(width, outputs),
    )
