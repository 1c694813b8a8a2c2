"""Views of images in training: drawn anew by step, the same for an auditor, none in evaluation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.build_model import build_model
from clicooper_hpc.models.image_input import ImageInput
from clicooper_hpc.models.layer_randomness import has_layer_randomness, seed_layer_randomness
from clicooper_hpc.models.row_independence import RowPlacement, keeps_row_independence
from clicooper_hpc.models.segmentable import check_segmentable

IMAGES = torch.arange(1.0, 1 + 6 * 3 * 8 * 8).reshape(6, 3, 8, 8)


def views(step: int, images: Tensor = IMAGES, *, shift: int = 2, mirror: bool = True) -> Tensor:
    layer = ImageInput(3, (0.0,), (1.0,), shift=shift, mirror=mirror).train()
    seed_layer_randomness(0, step, 0, 0, "cpu")
    shown: Tensor = layer(images)
    return shown


def all_views(image: Tensor, shift: int, *, mirror: bool) -> list[Tensor]:
    """Every view there may be, by slices instead of indices."""
    _, height, width = image.shape
    padded = nn.functional.pad(image, [shift] * 4)
    moved = [
        padded[:, down : down + height, right : right + width]
        for down in range(2 * shift + 1)
        for right in range(2 * shift + 1)
    ]
    return moved + [view.flip(-1) for view in moved] if mirror else moved


@pytest.mark.parametrize(("shift", "mirror"), [(2, True), (2, False), (0, True)])
def test_a_view_is_the_image_moved_or_mirrored_and_all_of_them_occur(
    shift: int, mirror: bool
) -> None:
    seen = set()
    for step in range(60):
        for image, view in zip(IMAGES, views(step, shift=shift, mirror=mirror), strict=True):
            among = all_views(image, shift, mirror=mirror)
            found = [number for number, one in enumerate(among) if torch.equal(one, view)]
            assert found
            seen.add(found[0])
    assert len(seen) == (2 * shift + 1) ** 2 * (2 if mirror else 1)


def test_steps_differ_and_a_replayed_step_does_not() -> None:
    assert torch.equal(views(3), views(3))
    assert not torch.equal(views(3), views(4))


def test_the_view_of_a_row_does_not_depend_on_what_its_batch_mates_are() -> None:
    def placed(batch: Tensor) -> Tensor:
        return views(7, batch)

    others = torch.cat([IMAGES[:3], -IMAGES[3:]])
    placements = [RowPlacement(others, range(3), range(3))]
    assert keeps_row_independence(placed, views(7), placements, same=torch.equal)


def test_in_evaluation_it_only_scales() -> None:
    layer = ImageInput(3, (1.0, 2.0, 3.0), (2.0,), shift=2, mirror=True).eval()
    expected = (IMAGES - torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1)) / 2
    assert torch.equal(layer(IMAGES), expected)
    assert not list(layer.state_dict())


@pytest.mark.parametrize(("shift", "mirror"), [(0, False), (1, False), (0, True)])
def test_a_segment_seeds_it_where_it_draws(shift: int, mirror: bool) -> None:
    options = {"width": 8, "shift": shift, "mirror": mirror}
    model = build_model("resnet11", input_shape=(3, 32, 32), outputs=4, seed=0, options=options)
    check_segmentable(model)
    assert has_layer_randomness(model[0]) == (shift > 0 or mirror)
    assert not any(has_layer_randomness(layer) for layer in list(model)[1:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": [0.1, 0.2]}, r"mean.*list of one number or of 3, one per channel"),
        ({"std": [0.0]}, r"std.*holds 0.0, which is no number above 0.0"),
        ({"std": [True]}, r"std.*holds True"),
        ({"mean": ["a"]}, r"mean.*holds 'a'"),
        ({"mean": 0.5}, r"mean.*list of one number"),
        ({"mean": [float("nan")]}, r"mean.*holds nan"),
        ({"shift": 32}, r"shift.*a shift of 32 moves maps of 32 x 32 out of sight"),
        ({"shift": -1}, r"shift.*at least 0"),
        ({"mirror": 1}, r"mirror.*true or false"),
        ({"width": 0}, r"width.*at least 1"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_model("resnet11", input_shape=(3, 32, 32), outputs=4, seed=0, options=options)
