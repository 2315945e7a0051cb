"""Several trainings of one row: mean and deviation over them, and what may be concluded from that."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import t

from zdckeras.metrics.channels import ALL
from zdckeras.metrics.report import with_error

LEAST_TRAININGS = 3  # of a row, before anything is concluded
SUMMARY = {name: lambda s, name=name: s["metrics"][ALL][name][0] for name in ("WS", "MAE", "RMSE")}  # of a `score`
SUMMARY |= {"AUC": lambda s: s["auc"]}
SUMMARY |= {name: lambda s, name=name: s["shapes"][name]["distance"] for name in ("width", "lit", "core", "parity")}


def by_row(trainings: Mapping[str, Any]) -> dict[str, list]:
    """What belongs to several trainings of a row, together.

    Arguments:
        trainings: "<row>, seed <k>" -> anything; a name without a seed is a row of its own.

    Returns:
        Row -> list over its trainings, in their order.

    Example:
        >>> by_row({"floor": 1, "GAN, seed 0": 2, "GAN, seed 1": 3})
        {'floor': [1], 'GAN': [2, 3]}
    """
    rows = {}
    for name, value in trainings.items():
        rows.setdefault(name.split(", seed ")[0], []).append(value)
    return rows


def values_by_row(scores: Mapping[str, dict], name: str = "WS") -> dict[str, list[float]]:
    """A number over all species of every training, by row, for `ordering`.

    Arguments:
        scores: "<row>, seed <k>" -> score.
        name: of a column of `SUMMARY`.

    Example:
        >>> values_by_row({f"GAN, seed {k}": {"metrics": {"all": {"WS": [9.0 + k, 0.1]}}} for k in range(2)})
        {'GAN': [9.0, 10.0]}
    """
    return by_row({row: SUMMARY[name](result) for row, result in scores.items()})


def of_seed(rows: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What belongs to rows, under the names that one training of each has: "<row>, seed <k>"; `by_row` goes back.

    Example:
        >>> of_seed({"GAN": 2}, 0)
        {'GAN, seed 0': 2}
    """
    return {f"{name}, seed {seed}": value for name, value in rows.items()}


def over_seeds(scores: Mapping[str, Any], columns: Mapping[str, Callable] = SUMMARY, title: str = "",
               digits: int = 3) -> list[list[str]]:
    """Lines of a table of models trained several times: mean ± sample deviation over trainings.

    Arguments:
        scores: "<row>, seed <k>" -> score; a name without a seed is a row of its own.
        columns: heading -> function of a score that gives a number; by default WS, MAE, RMSE [photons], AUC and four
            distances of shapes. Words, and a whole number that is the same in all trainings, stay as they are.
        title: what stands over the names of rows.
        digits: of numbers, behind the point.

    Returns:
        Header and one line for each row, as lists of words.

    Example:
        >>> columns = {"AUC": lambda s: s["auc"], "weights": lambda s: 1269}
        >>> lines = over_seeds({"GAN, seed 0": {"auc": 0.9}, "GAN, seed 1": {"auc": 0.7}}, columns)
        >>> print("; ".join(" ".join(line) for line in lines))
         runs AUC weights; GAN 2 0.800 ± 0.141 1,269
    """
    lines = [[title, "runs", *columns]]
    for row, results in by_row(scores).items():
        taken = [[column(result) for result in results] for column in columns.values()]
        lines.append([row, str(len(results)), *(
            values[0] if isinstance(values[0], str) else
            f"{values[0]:,}" if isinstance(values[0], int) and len(set(values)) == 1 else
            with_error(np.mean(values), np.std(values, ddof=min(1, len(values) - 1)), len(values), digits)
            for values in taken)])
    return lines


def critics_at_end(histories: Mapping[str, Mapping[str, Sequence[float]]]) -> list[list[str]]:
    """Lines of a table: what a critic's loss and accuracy were in the last epoch, of the rows that met one.

    Arguments:
        histories: "<row>, seed <k>" -> history, name -> list over epochs; what begins with "critic_" is shown.

    Returns:
        As `over_seeds`; an accuracy of 0.5 is to guess.

    Example:
        >>> found = critics_at_end({"GAN, seed 0": {"critic_accuracy": [0.9, 0.75]}, "VAE, seed 0": {"loss": [1.0]}})
        >>> [" ".join(line) for line in found]
        [' runs critic accuracy', 'GAN 1 0.750']
    """
    names = list(dict.fromkeys(name for one in histories.values() for name in one if name.startswith("critic_")))
    met = {row: one for row, one in histories.items() if not set(names).isdisjoint(one)}
    return over_seeds(met, {name.replace("_", " "): lambda one, name=name: one[name][-1] if name in one else "-"
                            for name in names})


def ordering(values: Mapping[str, Sequence[float]], what: str = "WS") -> str:
    """Whether a number falls from row to row, in words; nothing is concluded from fewer than three trainings of a row,
    from fewer than two rows, or where a training has no number.

    A step from a to b is one where |mean a - mean b| > t e with e^2 = s_a^2 / n_a + s_b^2 / n_b, s the sample deviation
    over trainings and t the quantile of Student's distribution that two equal rows pass in one case of twenty, with
    Welch's e^4 / (s_a^4 / n_a^2 (n_a - 1) + s_b^4 / n_b^2 (n_b - 1)) degrees of freedom (t is 2.8 to 4.3 for three
    trainings); "seen" is an ordering all of whose steps fall so far. Rows that are equal are not compared.

    Arguments:
        values: row -> values of its trainings, in the order that is claimed.
        what: name of the number.

    Source: Welch, Biometrika 34 (1947) 28.

    Example:
        >>> print(ordering({"a": [9.0, 9.2, 8.8], "b": [8.0, 8.1, 7.9], "c": [8.0, 8.2, 7.8]}))
        WS falling from row to row is not seen: a to b falls by 1.00 ± 0.13; b to c falls by 0.00 ± 0.13 (within the
        error)
        >>> ordering({"GAN": [9.0], "SDI-GAN": [8.0]})
        'nothing is concluded: 1 training of a row, at least 3 are needed'
    """
    fewest = min(map(len, values.values()), default=0)
    if fewest < LEAST_TRAININGS:
        return (f"nothing is concluded: {fewest} training{'s' * (fewest != 1)} of a row, at least {LEAST_TRAININGS} "
                f"are needed")
    if len(values) < 2 or not np.isfinite([value for row in values.values() for value in row]).all():
        return f"nothing is concluded: {what} of {', '.join(values)} cannot be compared"
    words, all_fall = [], True
    for (a, first), (b, second) in pairwise(values.items()):
        if list(first) == list(second):
            words.append(f"{a} and {b} are equal in every training and not compared")
            all_fall = False
            continue
        step = float(np.mean(first) - np.mean(second))
        parts = [(np.var(row, ddof=1) / len(row), len(row) - 1) for row in (first, second)]
        error = math.sqrt(sum(part for part, _ in parts))
        freedom = error**4 / sum(part**2 / more for part, more in parts) if error else math.inf
        least = error * t.ppf(0.975, freedom) if error else 0.0
        clear, all_fall = abs(step) > least, all_fall and step > least
        words.append(f"{a} to {b} {'falls' if step >= 0 else 'rises'} by {abs(step):.2f} ± {error:.2f}"
                     f"{'' if clear else ' (within the error)'}")
    return f"{what} falling from row to row is {'' if all_fall else 'not '}seen: {'; '.join(words)}"
