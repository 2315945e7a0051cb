"""What a bad input may end in, and the good data that the bad ones are made from."""

from types import SimpleNamespace

import numpy as np
import pytest

from zdckeras.data.particles import conditions_of
from zdckeras.data.showers import Showers

CLEAR = (ValueError, TypeError, OSError, ImportError, IndexError)
LONGEST = 600  # characters of a message
ALLOWED = 0.02  # share of bad inputs that may pass


def make(rows=6, detectors=("zn",)):
    rng = np.random.default_rng(1)
    pdg = np.resize([22, 2112, 310, -211, 3122, 2212], rows)
    momentum = np.column_stack([rng.normal(0.0, 0.2, (rows, 2)), rng.uniform(50.0, 2600.0, rows)])
    shapes = {"zn": (44, 44), "zp": (56, 30), "ecal": (30, 30)}
    responses = {name: rng.poisson(0.3, (rows, *shapes[name])).astype("uint16") for name in detectors}
    return Showers(conditions_of(pdg, momentum), pdg, responses, {"source": "a test"})


def outcome(call):
    """"" for a clear refusal, else what happened."""
    try:
        result = call()
    except CLEAR as error:
        said = str(error)
        if said and "\n" not in said and len(said) < LONGEST and "allow_pickle" not in said:
            return ""
        return f"unclear {type(error).__name__}: {said[:200]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]!r}"
    return f"accepted: {type(result).__name__}"


@pytest.fixture(scope="session")
def check():
    """Function of label -> call that asserts clear refusals, apart from the share that may pass."""

    def all_refused(calls):
        found = {label: said for label, call in calls.items() if (said := outcome(call))}
        unclear = {label: said for label, said in found.items() if not said.startswith("accepted")}
        assert not unclear, "\n".join(f"{label}: {said}" for label, said in unclear.items())
        assert len(found) <= ALLOWED * len(calls), "\n".join(f"{label}: {said}" for label, said in found.items())

    return SimpleNamespace(all=all_refused, make=make)
