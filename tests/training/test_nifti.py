"""NIfTI files: axes of any scanner become the same, and a file that lies about itself takes no memory."""

from __future__ import annotations

import gzip
import io
import itertools
import struct
from typing import Any

import numpy as np
import pytest

nibabel = pytest.importorskip("nibabel", reason="the extra [volumes] is not installed")

from p2pfl.training.records.nifti import NotAVolume, nifti_bytes, parse_nifti  # noqa: E402

VALUES = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def raw(values: Any = VALUES, affine: Any = None, *, packed: bool = False, two: bool = False, **header: Any) -> bytes:
    """A NIfTI file's bytes. `header` is written over its fields."""
    kind = nibabel.Nifti2Image if two else nibabel.Nifti1Image
    image = kind(values, np.eye(4) if affine is None else affine)
    found = bytearray(image.to_bytes())
    fields = type(image.header)(bytes(found[: image.header.sizeof_hdr]), check=False)
    for name, value in header.items():
        fields[name] = value
    found[: image.header.sizeof_hdr] = fields.binaryblock
    return gzip.compress(bytes(found)) if packed else bytes(found)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("two", [False, True])
def test_the_voxels_are_those_that_the_reference_reads(packed: bool, two: bool) -> None:
    affine = np.diag([0.5, 0.7, 3.0, 1.0])
    found = parse_nifti(raw(affine=affine, packed=packed, two=two))
    assert found.values.dtype == np.float32
    assert np.array_equal(found.values, VALUES)
    assert found.spacing == pytest.approx((0.5, 0.7, 3.0))


def test_scaled_numbers_are_scaled_as_the_reference_does_it() -> None:
    data = raw(scl_slope=0.5, scl_inter=-3.0)
    image = nibabel.Nifti1Image.from_bytes(data)
    assert np.allclose(parse_nifti(data).values, image.get_fdata())


@pytest.mark.parametrize("axes", [*itertools.permutations(range(3))])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, 1)])
def test_axes_of_any_scanner_point_right_front_and_up(axes: tuple[int, ...], signs: tuple[int, ...]) -> None:
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for column, (row, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[row, column] = sign * (column + 1)
    found = parse_nifti(raw(affine=affine))
    reference = nibabel.as_closest_canonical(nibabel.Nifti1Image(VALUES, affine))
    assert np.array_equal(found.values, reference.get_fdata())
    assert found.spacing == pytest.approx(reference.header.get_zooms())
    mask = (found.values > 7).astype(np.uint8)
    written = nibabel.Nifti1Image.from_bytes(gzip.decompress(nifti_bytes(mask, found)))
    assert np.array_equal(written.get_fdata(), VALUES > 7), "a mask lies in the file's own grid"
    assert np.allclose(written.affine, affine)


def test_a_fourth_axis_of_one_is_left_out_and_others_are_contrasts() -> None:
    assert parse_nifti(raw(VALUES[..., None])).values.shape == (2, 3, 4)
    assert parse_nifti(raw(np.stack([VALUES, VALUES], 3))).values.shape == (2, 3, 4, 2)


DAMAGED = {
    "empty": b"",
    "text": b"no volume at all" * 100,
    "cut header": raw()[:200],
    "cut voxels": raw()[:-1],
    "cut compression": raw(packed=True)[:-20],
    "damaged compression": b"\x1f\x8b" + bytes(100),
    "no axes": raw(dim=[0] * 8),
    "too many axes": raw(dim=[9, 2, 3, 4, 1, 1, 1, 1]),
    "two axes": raw(dim=[2, 2, 3, 1, 1, 1, 1, 1]),
    "five axes": raw(dim=[5, 2, 3, 2, 1, 2, 1, 1]),
    "a negative side": raw(dim=[3, -2, 3, 4, 1, 1, 1, 1]),
    "huge sides": raw(dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]),
    "complex numbers": raw(datatype=32, bitpix=64),
    "colours": raw(datatype=128, bitpix=24),
    "unknown type": raw(datatype=999),
    "128 bits": raw(datatype=1536, bitpix=128),
    "an offset before the file": raw(vox_offset=-1000.0),
    "an offset that is none": raw(vox_offset=float("nan")),
    "an offset behind the file": raw(vox_offset=1e30),
    "an infinite offset of numbers": raw(scl_slope=1.0, scl_inter=float("inf")),
    "a scale that overflows": raw(scl_slope=3e38, scl_inter=0.0),
    "no voxel size": raw(sform_code=1, srow_x=[0.0] * 4),
    "axes in one plane": raw(sform_code=1, srow_x=[1.0, 0, 0, 0], srow_y=[1.0, 0, 0, 0], srow_z=[0, 0, 1.0, 0]),
    "an affine that is not finite": raw(sform_code=1, srow_x=[float("nan"), 0, 0, 0]),
    "NaN": raw(np.full((2, 2, 2), np.nan, np.float32)),
    "infinite": raw(np.full((2, 2, 2), np.inf, np.float64)),
    "beyond float32": raw(np.full((2, 2, 2), 1e300)),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_with_a_reason(name: str) -> None:
    with pytest.raises(NotAVolume, match=r"\w"):
        parse_nifti(DAMAGED[name])


def test_a_file_that_inflates_without_end_is_read_no_further_than_its_header_says() -> None:
    import tracemalloc

    held = raw()
    bomb = gzip.compress(held + bytes(1 << 26))
    tracemalloc.start()
    found = parse_nifti(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(found.values, VALUES)
    assert peak < 1 << 20


def test_what_is_announced_and_not_there_takes_no_memory() -> None:
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(NotAVolume, match="ends before"):
        parse_nifti(raw(dim=[3, 400, 400, 400, 1, 1, 1, 1], packed=True))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_more_voxels_than_allowed_are_refused_by_the_header_alone() -> None:
    with pytest.raises(NotAVolume, match="more than 23 voxels"):
        parse_nifti(raw(), most_voxels=23)
    assert parse_nifti(raw(), most_voxels=24).values.size == 24


def test_every_byte_of_a_header_may_be_anything() -> None:
    whole = raw(VALUES.astype(np.float32))
    for place, value in itertools.product(range(352), (0, 1, 127, 128, 255)):
        spoilt = bytearray(whole)
        spoilt[place] = value
        try:
            found = parse_nifti(bytes(spoilt))
        except NotAVolume:
            continue
        assert np.isfinite(found.values).all() and found.values.nbytes <= 1 << 20
    assert struct.unpack("<i", io.BytesIO(whole).read(4)) == (348,)
