"""Where a particle flies and where it meets a detector: slopes, impact and expected centre of its shower.

Each formula is written once, for NumPy arrays and for Keras tensors: `xp` is the module whose functions it calls,
`numpy` or `keras.ops`.
"""

from types import ModuleType
from typing import Any

import numpy as np

from zdckeras.data.detectors import Detector, get_detector
from zdckeras.data.particles import COLUMN, MOMENTUM_COLUMNS, VERTEX_COLUMNS

LEAST_MOMENTUM = 1e-6  # GeV; slower particles are treated as if they had it
ALONG_X = np.array([1.0, 0.0], "float32")  # magnets bend in this direction


def slopes(conditions: Any, xp: ModuleType = np) -> Any:
    """px / |pz| and py / |pz|, cut at +-1.

    Arguments:
        conditions: (B, 9), array or tensor.
        xp: `numpy` or `keras.ops`.

    Returns:
        (B, 2).

    Example:
        >>> slopes(np.array([[5.0, 0, 0, 0, 3.0, 9.0, -4.0, 0, 0]])).tolist()
        [[0.75, 1.0]]
    """
    momentum = conditions[:, MOMENTUM_COLUMNS]
    return xp.clip(momentum[:, :2] / xp.maximum(xp.abs(momentum[:, 2:]), LEAST_MOMENTUM), -1.0, 1.0)


def impact_from_centre(conditions: Any, detector: Detector | str, xp: ModuleType = np) -> Any:
    """Expected impact point on a detector's front face, from the detector's centre.

    (x, y) = v + (z_D - v_z) (p_x, p_y) / |p_z| + (q B / |p| - x_D, 0)

    Straight flight plus, for a charge q, the bend B of the magnets on the way. The sides A and C are treated alike:
    the particle flies towards the side that p_z points to. Decays in flight scatter around this point.

    Arguments:
        conditions: (B, 9), array or tensor.
        detector: `Detector` or its name, at the distance z_D and the place x_D.
        xp: `numpy` or `keras.ops`.

    Returns:
        (B, 2) [cm].

    Example:
        >>> proton = np.array([[2680.0, 0, 0, 0, 0, 0, 2680.0, 938.3, 1.0]])
        >>> impact_from_centre(proton, "zp").tolist(), impact_from_centre(proton, "zn").round(2).tolist()
        ([[0.0, 0.0]], [[24.35, 0.0]])
    """
    detector, vertex, momentum = get_detector(detector), conditions[:, VERTEX_COLUMNS], conditions[:, MOMENTUM_COLUMNS]
    pz, charge = momentum[:, 2:], conditions[:, COLUMN["charge"] : COLUMN["charge"] + 1]
    flight = detector.distance - xp.sign(pz) * vertex[:, 2:]
    point = vertex[:, :2] + momentum[:, :2] * flight / xp.maximum(xp.abs(pz), LEAST_MOMENTUM)
    size = xp.maximum(xp.sqrt(xp.sum(xp.square(momentum), axis=-1, keepdims=True)), LEAST_MOMENTUM)
    return point + xp.multiply(charge * detector.bend / size - detector.centre_x, ALONG_X)


def expected_impact(conditions: np.ndarray, detector: Detector | str) -> np.ndarray:
    """`impact_from_centre` from the beam axis, (N, 2) [cm].

    Example:
        >>> from zdckeras.data.particles import conditions_of
        >>> c = conditions_of(np.array([22, 2212]), np.array([[0.001, 0.0, -10.0], [0.0, 0.0, 2680.0]]))
        >>> expected_impact(c, "zp").round(2).tolist()
        [[1.13, 0.0], [24.35, 0.0]]
    """
    detector = get_detector(detector)
    return impact_from_centre(np.asarray(conditions, "float64"), detector) + (detector.centre_x, 0.0)


def expected_centre(conditions: Any, detector: Detector | str, depth: float, xp: ModuleType = np,
                    reach: float = 1.5) -> Any:
    """Where a shower's centre of gravity ought to be at the depth of its maximum, from the detector's centre.

    g_0 = b + d (p_x, p_y) / |p_z|, with b the impact, cut at `reach` half sizes, and d the depth. For a particle from
    the interaction point and no magnets that is the study's x = z tan(2 atan(e^-eta)) cos(phi), y with sin(phi), in
    the plane z = z_D + d.

    Arguments:
        conditions: (B, 9), array or tensor.
        detector: `Detector` or its name.
        depth: d behind the front face [cm].
        xp: `numpy` or `keras.ops`.
        reach: impacts further out than this many half sizes count as that far out.

    Returns:
        (B, 2) [cells].

    Source: ALICE FoCal study, "theory-inspired approach".

    Example:
        >>> pion = np.array([[10.0, 0, 0, 0, 0.5, 0, 10.0, 139.6, 1.0]])  # from the origin: 700 cm * 0.05 = 35 cm
        >>> expected_centre(pion, "focalh", 20.0).round(2).tolist()
        [[14.4, 0.0]]
    """
    detector = get_detector(detector)
    impact = within(impact_from_centre(conditions, detector, xp), detector, reach, xp)
    return (impact + depth * slopes(conditions, xp)) / detector.pitch


def within(point: Any, detector: Detector, reach: float, xp: ModuleType = np) -> Any:
    """Points (B, 2) [cm] from a detector's centre, cut at `reach` of its half sizes along either axis."""
    bound = reach * np.array(detector.half_size, "float32")
    return xp.clip(point, -bound, bound)
