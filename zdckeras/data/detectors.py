"""Calorimeters and their read-out: size, pitch, position, and the five channels under each named convention."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from zdckeras.mapped import in_blocks

CONVENTIONS = ("papers", "proton-paper", "o2")
CHANNEL_COUNT = 5  # sums of a response that are read out


@dataclass(frozen=True)
class Detector:
    """A calorimeter seen from the interaction point.

    Arguments:
        name: key in `DETECTORS`.
        shape: cells along (x, y); the first axis of every response is x.
        pitch: cell size along both axes [cm].
        distance: interaction point to front face [cm].
        centre_x: transverse position of the detector's centre [cm] (y is 0).
        fibre_radius: radius of the one active fibre in each cell [cm]; 0 where cells are not single fibres.
        length: depth along the beam [cm].
        bend: displacement times momentum of a unit charge that the magnets on the way cause along x [cm GeV], such
            that a proton of the beam (2680 GeV) arrives at the centre of ZP.
        unit: of a response: "photons" (whole counts) or "MeV" (energy deposited in the active material).

    Example:
        >>> get_detector("zn").shape, round(get_detector("zp").half_size[0], 2)
        ((44, 44), 11.2)
    """

    name: str
    shape: tuple
    pitch: float
    distance: float
    centre_x: float
    fibre_radius: float
    length: float
    bend: float = 0.0
    unit: str = "photons"

    @property
    def half_size(self) -> tuple[float, float]:
        """Half width along x and y [cm]."""
        return tuple(n * self.pitch / 2 for n in self.shape)

    @property
    def cells(self) -> int:
        """Number of cells, D."""
        return self.shape[0] * self.shape[1]


# Sizes and positions: AliceO2 ZDCBase/Geometry.h (mean of A and C side for the distance).
DETECTORS = {
    "zn": Detector("zn", (44, 44), 0.16, 11260.6, 0.0, 0.01825, 100.0, 24.35 * 2680.0),
    "zp": Detector("zp", (56, 30), 0.4, 11252.6, 24.35, 0.0275, 150.0, 24.35 * 2680.0),
    # 66 layers of 2 mm lead and 4 mm scintillator, cells of 2 cm (arXiv:1812.01319), at the place of LHCb's.
    "ecal": Detector("ecal", (30, 30), 2.0, 1250.0, 0.0, 0.0, 39.6, unit="MeV"),
    # A stand-in for ALICE's FoCal-H: 90 cm wide, 7 m from the interaction point, copper with scintillating fibres.
    "focalh": Detector("focalh", (36, 36), 2.5, 700.0, 0.0, 0.05, 110.0, unit="MeV"),
}


def get_detector(name: Detector | str) -> Detector:
    """Look a detector up by name, whatever the case.

    Arguments:
        name: "zn", "zp", ...; a `Detector` passes through.

    Returns:
        The `Detector`.

    Raises:
        ValueError: for an unknown name, listing the known ones.

    Example:
        >>> get_detector("ZN").cells
        1936
    """
    if isinstance(name, Detector):
        return name
    try:
        return DETECTORS[str(name).lower()]
    except KeyError:
        raise ValueError(f"Unknown detector {name!r}; expected one of {', '.join(DETECTORS)}.") from None


@cache
def channel_masks(shape: tuple[int, int], convention: str = "papers") -> np.ndarray:
    """Masks M_k that define the channel sums S_k = sum_ij M_k[i, j] R[i, j], k = 1..5.

    Arguments:
        shape: cells along (x, y) of the response.
        convention: "papers" (even cells in four quadrants, odd cells are channel 5; the neutron study),
            "proton-paper" (odd cells in four quadrants starting from the lower left, even cells are
            channel 5; the proton study), or "o2" (odd cells are the four towers, even cells the common
            channel; AliceO2 FastSimToHits: 2x2 towers for a square image, four strips in x otherwise).

    Returns:
        Boolean array (5, *shape), read-only: the masks are disjoint and cover every cell.

    Raises:
        ValueError: for an unknown convention, or a shape that is not two whole numbers above 0.

    Example:
        >>> channel_masks((44, 44)).sum(axis=(1, 2)).tolist()
        [242, 242, 242, 242, 968]
    """
    if np.shape(shape) != (2,) or not all(isinstance(n, (int, np.integer)) and n > 0 for n in shape):
        raise ValueError(f"Expected a shape (nx, ny) of whole numbers above 0, received {shape!r}.")
    x, y = np.indices(shape)
    odd = (x + y) % 2 == 1
    low_x, low_y = x < shape[0] // 2, y < shape[1] // 2
    quadrants = np.stack([low_x & low_y, low_x & ~low_y, ~low_x & low_y, ~low_x & ~low_y])
    if convention == "papers":
        masks = np.concatenate([quadrants & ~odd, odd[None]])
    elif convention == "proton-paper":
        masks = np.concatenate([quadrants[[2, 3, 0, 1]] & odd, ~odd[None]])
    elif convention == "o2":
        if shape[0] == shape[1]:
            towers = quadrants[[0, 2, 1, 3]]
        else:
            towers = np.stack([(x * 4) // shape[0] == k for k in range(4)])
        masks = np.concatenate([towers & odd, ~odd[None]])
    else:
        raise ValueError(f"Unknown channel convention {convention!r}; expected one of {', '.join(CONVENTIONS)}.")
    masks.flags.writeable = False
    return masks


def flat_masks(shape: tuple[int, int], convention: str = "papers") -> np.ndarray:
    """`channel_masks` with the cells row by row, (5, nx ny) float32, as factors of products.

    Example:
        >>> flat_masks((2, 2)).tolist()
        [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]]
    """
    return channel_masks(shape, convention).reshape(CHANNEL_COUNT, -1).astype("float32")


def channel_sums(responses: np.ndarray, convention: str = "papers") -> np.ndarray:
    """The five channel sums S_k of each response.

    Arguments:
        responses: (N, nx, ny) photon counts.
        convention: see `channel_masks`.

    Returns:
        Array (N, 5), float64.

    Raises:
        ValueError: if `responses` is not three-dimensional.

    Example:
        >>> channel_sums(np.ones((1, 4, 4))).tolist()
        [[2.0, 2.0, 2.0, 2.0, 8.0]]
    """
    responses = np.asarray(responses)
    if responses.ndim != 3:
        raise ValueError(f"Expected responses of shape (N, nx, ny), received {responses.shape}.")
    masks = flat_masks(responses.shape[1:], convention).T.astype("float64")
    flat, sums = responses.reshape(len(responses), -1), np.empty((len(responses), CHANNEL_COUNT))
    for rows, block in in_blocks(flat):  # of which a copy in float64 is made
        sums[rows] = block @ masks
    return sums
