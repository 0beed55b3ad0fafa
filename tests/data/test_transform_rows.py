"""Walks the table of transforms: oracles, the same picture whatever the batch, masks, refusals.

The traps of training kits that concern augmentation each have a test that names them.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from catalogue.transform_oracles import equalize
from catalogue.transform_row import FLOATS, INDEX, UNIT, H, Row, W
from catalogue.transforms import FED, ROWS
from tinydl_kernels import per_sample
from tinydl_kernels.cpu import threads
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from tinydl.data import transforms as t
from tinydl.data.transforms import Draws, Transform

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "-"))
BATCHES = {"uint8": UNIT, "float32": FLOATS}


def rows_with(field: str) -> Any:
    return pytest.mark.parametrize(
        "row", [row for row in ROWS if getattr(row, field)], ids=lambda row: row.name
    )


each_dtype = pytest.mark.parametrize("images", BATCHES.values(), ids=BATCHES.keys())
ENVIRONMENT = dict(os.environ)
"""Before a test's own folder is that of compiled kernels: another process need not compile again."""
NUMBERS = np.array([3, 2**32 - 1, 0, 70_000, 12, 5])
CALL: dict[str, Any] = {"index": NUMBERS, "epoch": 3, "seed": 2**64 - 5}


def named(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


@each_dtype
@every_row
def test_oracle(row: Row, images: np.ndarray) -> None:
    made = row.make()(images, **CALL)
    expected = row.oracle(images, Draws.of("oracle", len(images), **CALL))
    assert made.dtype == (np.float32 if row.floats else images.dtype)
    assert made.shape == expected.shape == row.shape(images.shape)
    rounded = made.dtype == np.uint8
    limit = row.levels if rounded else row.tolerance * max(1, abs(expected).max())
    far = abs(made - expected) > limit
    assert far.mean() <= row.off, abs(made - expected).max()


@each_dtype
@every_row
def test_nothing_is_written_to_what_came_in(row: Row, images: np.ndarray) -> None:
    images, masks = images.copy(), np.zeros((6, H, W), np.int64)
    before = images.copy()
    images.flags.writeable = masks.flags.writeable = False
    row.make()(images, masks, **CALL)
    np.testing.assert_array_equal(images, before)


def made_of_parts(row: Row, images: np.ndarray, masks: np.ndarray, parts: list[Any]) -> Any:
    """By sample of the whole batch."""
    found: dict[int, Any] = {}
    for part in parts:
        rows = np.arange(len(images))[part]
        made = row.make()(images[part], masks[part], **(CALL | {"index": NUMBERS[part]}))
        found |= {n: (image, mask) for n, image, mask in zip(rows, *made, strict=True)}
    return [np.stack([found[n][k] for n in range(len(images))]) for k in range(2)]


@each_dtype
@every_row
def test_the_same_bits_whatever_the_batch_the_order_and_the_threads(row: Row, images: np.ndarray) -> None:
    """Trap: pictures that depend on the worker or on the batch that a sample is in."""
    masks = UNIT[:, 0]
    whole = row.make()(images, masks, **CALL)
    before = threads.get_num_threads()
    try:
        for count, parts in (
            (1, [[k] for k in range(6)]),
            (3, [[5, 1], [4, 0, 2, 3]]),
            (2, [slice(None, None, -1)]),
        ):
            threads.set_num_threads(count)
            for a, b in zip(made_of_parts(row, images, masks, parts), whole, strict=True):
                assert a.tobytes() == b.tobytes()
    finally:
        threads.set_num_threads(before)


def digests() -> dict[str, str]:
    """Of every row's pictures: what another process must make too."""
    found = {}
    for row in ROWS:
        bits = hashlib.sha256()
        for images in BATCHES.values():
            for part in row.make()(images, UNIT[:, 0], **CALL):
                bits.update(part.tobytes())
        found[row.name] = bits.hexdigest()
    return found


def test_the_same_bits_in_another_process() -> None:
    code = "import sys; sys.path[:0] = sys.argv[1:]\nimport test_transform_rows as t; print(t.digests())"
    paths = [os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__))]
    other = subprocess.run(
        [sys.executable, "-c", code, *paths],
        env=ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert other.returncode == 0, other.stderr
    assert other.stdout.strip() == str(digests())


@rows_with("p")
def test_trap_numbers_drawn_or_p_ignored_at_p_0(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """p = 0 is the identity, draws nothing, and needs no numbers of samples."""

    def drawn(*args: Any) -> None:
        raise AssertionError("drawn at p = 0")

    monkeypatch.setattr(per_sample, "uniform", drawn)
    monkeypatch.setattr(per_sample, "normal", drawn)
    masks = np.zeros((6, H, W), np.int64)
    assert row.make(p=0)(FLOATS) is FLOATS
    images, same = row.make(p=0.0)(FLOATS, masks)
    assert images is FLOATS
    np.testing.assert_array_equal(same, masks)


@rows_with("p")
def test_trap_p_1_is_always_and_p_a_half_sometimes(row: Row) -> None:
    images = np.repeat(UNIT, 20, 0)
    call = {"index": np.arange(120), "epoch": 0}
    some = row.make(p=0.5)(images, **call)
    rate = (some != images).reshape(120, -1).any(1).mean()
    assert 0.2 < rate < 0.7  # a policy's choice may be to do nothing
    always = row.make(p=1.0)(images, **call)
    assert (always != images).reshape(120, -1).any(1).mean() > 0.75


@rows_with("draws")
def test_trap_one_random_parameter_for_the_whole_batch(row: Row) -> None:
    images = np.repeat(UNIT[:1], 24, 0)
    made = row.make()(images, index=np.arange(24), epoch=0)
    assert len({sample.tobytes() for sample in made}) >= 2


@rows_with("draws")
def test_trap_the_same_augmentation_in_every_epoch_or_under_every_seed(row: Row) -> None:
    images, index = np.repeat(UNIT, 4, 0), np.arange(24)
    calls = [{"epoch": 0}, {"epoch": 1}, {"epoch": 0, "seed": 1}]
    made = [row.make()(images, index=index, **call).tobytes() for call in calls]
    assert len(set(made)) == 3
    with pytest.raises(ShapeError, match="index: expected the numbers of the samples, since it draws"):
        row.make()(images, epoch=0)
    with pytest.raises(ShapeError, match="epoch: expected a number, since it draws at random; got None"):
        row.make()(images, index=index)


LABELS = np.array([7, 40, 200])
FILL = 99


@every_row
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.int16])
def test_trap_masks_interpolated_into_new_labels(row: Row, dtype: Any) -> None:
    """A mask never gains a label but the one that is asked for."""
    masks = LABELS[np.random.default_rng(0).integers(0, 3, (6, 2, H, W))].astype(dtype)
    images, found = row.make()(FLOATS, masks, **CALL)
    assert found.dtype == dtype
    assert set(np.unique(found)) <= {*LABELS.tolist(), 0}
    np.testing.assert_array_equal(images, row.make()(FLOATS, **CALL))
    planes = row.make()(FLOATS, masks[:, 0], **CALL)[1]
    np.testing.assert_array_equal(planes, found[:, 0])
    if not row.moves:
        np.testing.assert_array_equal(found, masks)


@pytest.mark.parametrize("name", ["RandomAffine", "RandomPerspective", "ElasticTransform", "RandAugment"])
def test_the_fill_of_masks_is_an_option(name: str) -> None:
    masks = np.full((6, H, W), 7)
    found = named(name).make(mask_fill=FILL)(FLOATS, masks, **CALL)[1]
    assert set(np.unique(found)) == {7, FILL}


@rows_with("moves")
def test_masks_move_with_their_images(row: Row) -> None:
    """An image is its own mask: by the nearest pixel, both become the same, unless colors change too."""
    transform = row.make(interpolation="nearest") if row.interpolates else row.make()
    images, masks = transform(UNIT, UNIT.astype(np.int32), **CALL)
    assert images.shape == masks.shape
    assert (masks.shape != UNIT.shape) or (masks != UNIT).any()
    if not row.recolors:
        np.testing.assert_array_equal(images, masks)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [pytest.param(*bad, id=f"{row.name}-{k}") for row in [*ROWS, *FED] for k, bad in enumerate(row.bad)],
)
def test_refused_by_name(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


@every_row
@pytest.mark.parametrize(
    ("arguments", "call", "error", "message"),
    [
        (
            (FLOATS.astype(np.float64),),
            INDEX,
            DtypeError,
            "images: expected an array of uint8 or float32, got",
        ),
        (([1],), INDEX, DtypeError, "images: expected an array of uint8 or float32, got list"),
        ((FLOATS[0],), INDEX, ShapeError, "images: expected (N, C, H, W), got (3, 17, 16)"),
        ((FLOATS[..., :0],), INDEX, ShapeError, "images: expected at least one pixel, got (6, 3, 17, 0)"),
        ((UNIT, FLOATS), INDEX, DtypeError, "masks: expected an array of whole numbers or bool, got float32"),
        (
            (UNIT, UNIT[:5]),
            INDEX,
            ShapeError,
            "masks: expected (6, 17, 16) or (6, K, 17, 16), got (5, 3, 17, 16)",
        ),
        (
            (UNIT,),
            INDEX | {"index": range(5)},
            ShapeError,
            "index: expected one for each sample (6,), got (5,)",
        ),
        ((UNIT,), INDEX | {"index": [0.5] * 6}, DtypeError, "index: expected whole numbers, got float64"),
        (
            (UNIT,),
            INDEX | {"index": np.arange(6) - 1},
            ShapeError,
            "index: expected 0 to 2**32 - 1, got -1 to 4",
        ),
        ((UNIT,), INDEX | {"epoch": -1}, ShapeError, "epoch: expected 0 to 2**32 - 1, got -1"),
        (
            (UNIT,),
            INDEX | {"seed": 2**64},
            ShapeError,
            "seed: expected 0 to 2**64 - 1, got 18446744073709551616",
        ),
    ],
)
def test_arguments_of_a_call_are_refused_by_name(row: Row, arguments, call, error, message) -> None:
    with pytest.raises(error) as caught:
        row.make()(*arguments, **call)
    assert f"{row.name.split()[0]}: {message}" in str(caught.value)


@each_dtype
@every_row
def test_no_samples(row: Row, images: np.ndarray) -> None:
    made = row.make()(images[:0], index=np.arange(0), epoch=0)
    assert made.shape == (0, *row.shape(images.shape)[1:])


@every_row
def test_a_transform_says_what_it_is(row: Row) -> None:
    transform = row.make()
    assert isinstance(transform, Transform)
    assert repr(transform).startswith(row.name.split()[0] + "(")
    assert "\n" not in repr(transform)


@every_row
def test_a_transform_can_be_sent_to_another_process(row: Row) -> None:
    again = pickle.loads(pickle.dumps(row.make()))
    np.testing.assert_array_equal(again(UNIT, **CALL), row.make()(UNIT, **CALL))


def test_an_erased_part_of_a_mask_is_an_option() -> None:
    images, masks = np.full((6, 1, H, W), 200, np.uint8), np.full((6, H, W), 7)
    for transform in (t.RandomErasing(1.0, mask_value=FILL), t.Cutout(5, mask_value=FILL)):
        erased, labels = transform(images, masks, **CALL)
        np.testing.assert_array_equal(labels == FILL, erased[:, 0] == 0)
        assert set(np.unique(labels)) == {7, FILL}


def test_trap_two_sign_conventions_of_rotation() -> None:
    """One: counter-clockwise as the picture is seen, as np.rot90, for every transform that turns."""
    square = UNIT[:, :, :W]
    expected = np.rot90(square, 1, (2, 3))
    for transform in (t.RandomRotation((90, 90)), t.RandomAffine((90, 90)), t.RandomAffine((-270, -270))):
        made, masks = transform(square, square, **CALL)
        np.testing.assert_array_equal(made, expected)
        np.testing.assert_array_equal(masks, expected)


def test_equalized_histograms_of_larger_images() -> None:
    """Where a step of the table is several pixels."""
    images = (np.random.default_rng(1).normal(90, 30, (2, 2, 40, 30)).clip(0, 255)).astype(np.uint8)
    images[0, 0] = 3
    made = t.RandomEqualize(1.0)(images)
    np.testing.assert_array_equal(made, np.stack([equalize(image) for image in images]))
    assert made[1].std() > 60


def test_alternating_flips_show_both_sides_in_two_epochs() -> None:
    images, index = np.repeat(UNIT, 20, 0), np.arange(120)
    flip = t.AlternatingHorizontalFlip()
    first, second, third = (flip(images, index=index, epoch=epoch) for epoch in range(3))
    np.testing.assert_array_equal(first, second[..., ::-1])
    np.testing.assert_array_equal(first, third)
    assert 0.3 < (first != images).reshape(120, -1).any(1).mean() < 0.7


def test_neighbours_that_move_pixels_are_sampled_once() -> None:
    """There and back again is the picture itself, though a part of it left the frame on the way."""
    there, back = t.RandomAffine((30, 30)), t.RandomAffine((-30, -30))
    np.testing.assert_allclose(t.Compose([there, back])(FLOATS, **CALL), FLOATS, atol=1e-5)
    twice = back(there(FLOATS, **CALL), **CALL)
    assert abs(twice - FLOATS).max() > 0.3
    other = t.RandomAffine((-30, -30), fill=1)
    two_runs = t.Compose([there, other])(FLOATS, **CALL)
    np.testing.assert_array_equal(two_runs, other(there(FLOATS, **CALL), **CALL))


def test_what_stands_in_a_pipeline_draws_for_itself() -> None:
    """Twice the same transform does not draw the same twice, and nobody's draws depend on another's p."""
    erase = t.Cutout(3)
    once, twice = t.Compose([erase])(FLOATS, **CALL), t.Compose([erase, erase])(FLOATS, **CALL)
    assert (once != twice).any()
    alone = t.Compose([t.RandomInvert(0.0), erase])(FLOATS, **CALL)
    np.testing.assert_array_equal(alone, t.Compose([t.GaussianNoise(p=0), erase])(FLOATS, **CALL))


def test_a_transform_of_ones_own() -> None:
    class Darker(Transform):
        p = 0.5

        def change(self, images, masks, draws):
            return images * draws.uniform(0.5, 1).astype(np.float32).reshape(-1, 1, 1, 1), masks

    made = t.Compose([Darker(), t.RandomHorizontalFlip()])(FLOATS, **CALL)
    assert (made <= 1).all()
    with pytest.raises(NotImplementedError, match="Transform: expected a method change"):
        Transform()(FLOATS)
