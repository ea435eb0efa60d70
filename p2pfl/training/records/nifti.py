"""A NIfTI file ► its voxels, with axes that point the same way at every hospital; bounded before memory is taken.

The header alone says how large a volume will be: it is read first, and no more is inflated than it announces. Voxels
are taken from the bytes here; nibabel, the reference, reads the header and knows what its affine means. Needs the extra
[volumes]. NIfTI-1 and NIfTI-2 (Cox et al. 2004; Hinds 2011), as .nii or .nii.gz.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors.scans import VolumesExtraMissing

MOST_VOXELS: Final = 1 << 27  # 512³: in float32 half a gigabyte
MOST_OFFSET: Final = 1 << 24  # bytes of extensions between the header and the voxels
HEADER_BYTES: Final = 540  # of NIfTI-2, the longer one
GZIP: Final = b"\x1f\x8b"
LEAST_SIDE: Final = 1e-3  # mm of a voxel
MOST_SIDE: Final = 1e3


class NotAVolume(ValueError):
    """The bytes are no volume that can be used. The message says why, and holds no voxel and no name."""


@dataclass(frozen=True, slots=True)
class Voxels:
    """A volume whose first axis goes to the right, the second to the front, the third up (RAS).

    values     (X, Y, Z) or (X, Y, Z, C) float32, finite
    spacing    mm of a voxel along each axis
    affine     (4, 4): voxels of the file ► mm, and `shape`, the file's own (X, Y, Z): to write a mask in the same grid
    """

    values: NDArray[np.float32]
    spacing: tuple[float, float, float]
    affine: NDArray[np.float64]
    shape: tuple[int, int, int]


def parse_nifti(raw: bytes, most_voxels: int = MOST_VOXELS) -> Voxels:
    """The volume in the bytes of a .nii or .nii.gz. Raises NotAVolume, VolumesExtraMissing."""
    head = _inflated(raw, HEADER_BYTES)
    header = _header(head)
    shape, offset, dtype = _layout(header, most_voxels)
    wanted = offset + math.prod(shape) * dtype.itemsize
    data = _inflated(raw, wanted)
    if len(data) < wanted:
        raise NotAVolume("it ends before its last voxel")
    held = np.frombuffer(data, dtype, math.prod(shape), offset).reshape(shape, order="F")
    with np.errstate(all="ignore"):
        values = held.astype(np.float32)
    slope, intercept = _scaling(header)
    if (slope, intercept) != (1.0, 0.0):
        with np.errstate(all="ignore"):  # what is not finite is told below
            values = values * np.float32(slope) + np.float32(intercept)
    if not np.isfinite(values).all():
        raise NotAVolume("a voxel is not a finite number")
    return _oriented(values, _affine(header))


def _inflated(raw: bytes, most: int) -> bytes:
    """The first `most` bytes of the file, whether or not it is compressed."""
    if not raw.startswith(GZIP):
        return raw[:most]
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(raw, most)
    except zlib.error:
        raise NotAVolume("its compression is damaged") from None


def _header(head: bytes) -> Any:
    try:
        import nibabel
    except ImportError:
        raise VolumesExtraMissing(evidence="no package called nibabel", package="nibabel") from None
    for kind in (nibabel.nifti1.Nifti1Header, nibabel.nifti2.Nifti2Header):
        if kind.may_contain_header(head):
            try:
                return kind.from_fileobj(BytesIO(head), check=True)
            except Exception as error:  # the library names no base of what a damaged header raises
                raise NotAVolume(f"its header: {type(error).__name__}") from None
    raise NotAVolume("it is no NIfTI file")


def _layout(header: Any, most_voxels: int) -> tuple[tuple[int, ...], int, np.dtype[Any]]:
    """(shape of three or four axes, offset of the voxels, their type), all within bounds."""
    try:
        sides = [int(one) for one in header["dim"][1 : 1 + max(0, min(7, int(header["dim"][0])))]]
        dtype, offset = np.dtype(header.get_data_dtype()), float(header["vox_offset"])
    except Exception as error:  # as above
        raise NotAVolume(f"its header: {type(error).__name__}") from None
    while len(sides) > 3 and sides[-1] == 1:
        sides.pop()
    if len(sides) not in (3, 4) or min(sides) < 1:
        raise NotAVolume(
            f"it has {len(sides)} axes, not three" if len(sides) not in (3, 4) else "a side is not above 0"
        )
    if math.prod(sides) > most_voxels:
        raise NotAVolume(f"it has more than {most_voxels} voxels")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise NotAVolume("its voxels are neither integers nor real numbers of up to 64 bits")
    if not (math.isfinite(offset) and 0 <= offset <= MOST_OFFSET and offset == int(offset)):
        raise NotAVolume("its voxels begin nowhere")
    return tuple(sides), int(offset), dtype


def _scaling(header: Any) -> tuple[float, float]:
    """(slope, intercept) of the numbers in the file."""
    try:
        slope, intercept = header.get_slope_inter()
    except Exception as error:  # as above
        raise NotAVolume(f"its scaling: {type(error).__name__}") from None
    return (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))


def _affine(header: Any) -> NDArray[np.float64]:
    try:
        with np.errstate(all="ignore"):
            affine = np.asarray(header.get_best_affine(), np.float64)
            sides = np.linalg.norm(affine[:3, :3], axis=0)
            volume = abs(float(np.linalg.det(affine[:3, :3])))
    except Exception as error:  # as above
        raise NotAVolume(f"its axes: {type(error).__name__}") from None
    if not (np.isfinite(affine).all() and (sides >= LEAST_SIDE).all() and (sides <= MOST_SIDE).all()):
        raise NotAVolume("its voxels have no size in mm")
    if not volume > 1e-3 * float(np.prod(sides)):
        raise NotAVolume("its axes lie in one plane")
    return affine


def _oriented(values: NDArray[np.float32], affine: NDArray[np.float64]) -> Voxels:
    """Axes swapped and turned round so that they go right, front, up, whatever the scanner's were."""
    from nibabel import orientations

    turn = orientations.io_orientation(affine)
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    spacing = [1.0, 1.0, 1.0]
    for axis, (goal, _) in enumerate(turn):
        spacing[int(goal)] = float(sides[axis])
    x, y, z = values.shape[:3]
    turned = np.ascontiguousarray(orientations.apply_orientation(values, turn))
    return Voxels(turned, (spacing[0], spacing[1], spacing[2]), affine, (x, y, z))


def nifti_bytes(mask: NDArray[np.uint8], like: Voxels) -> bytes:
    """A .nii.gz of `mask` (X, Y, Z), whose axes are those of `like.values`, in the grid of `like`'s own file."""
    import nibabel
    from nibabel import orientations

    turn = orientations.io_orientation(like.affine)
    back = orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], turn)
    image = nibabel.nifti1.Nifti1Image(orientations.apply_orientation(mask, back).astype(np.uint8), like.affine)
    raw = image.to_bytes()
    packed = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return packed.compress(raw) + packed.flush()
