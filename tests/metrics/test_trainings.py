import numpy as np
from scipy.stats import ttest_ind

from zdckeras.metrics.trainings import by_row, of_seed, ordering, over_seeds, values_by_row


def test_over_seeds_groups_trainings():
    scores = {"floor": {"auc": 0.5}, "A, seed 0": {"auc": 0.8}, "A, seed 1": {"auc": 0.9}, "B, seed 7": {"auc": 0.25}}
    lines = over_seeds(scores, {"AUC": lambda s: s["auc"], "twice": lambda s: 2 * s["auc"]})
    assert lines == [["", "runs", "AUC", "twice"], ["floor", "1", "0.500", "1.000"],
                     ["A", "2", "0.850 ± 0.071", "1.700 ± 0.141"], ["B", "1", "0.250", "0.500"]]


def test_over_seeds_has_a_dash_where_there_is_no_number():
    scores = {"A, seed 0": {"auc": 0.8}, "A, seed 1": {"auc": np.nan}, "B": {"auc": np.nan}}
    assert over_seeds(scores, {"AUC": lambda s: s["auc"]}) == [["", "runs", "AUC"], ["A", "2", "-"], ["B", "1", "-"]]


def test_ordering_needs_three_trainings_and_steps_beyond_their_error():
    falling = {"a": [9.0, 9.2, 8.8], "b": [8.0, 8.1, 7.9], "c": [7.0, 7.1, 6.9]}
    assert ordering(falling).startswith("WS falling from row to row is seen: a to b falls by 1.00 ± 0.13;")
    rising = ordering({**falling, "c": [8.5, 8.6, 8.4]}, "MAE")
    assert rising.startswith("MAE falling from row to row is not seen") and "b to c rises by 0.50 ± 0.08" in rising
    assert ordering({"a": [9.0, 9.2, 8.8], "b": [8.9, 9.1, 8.7]}).endswith("falls by 0.10 ± 0.16 (within the error)")
    for trainings, words in ((1, "1 training of a row"), (2, "2 trainings of a row")):
        told = ordering({row: values[:trainings] for row, values in falling.items()})
        assert told == f"nothing is concluded: {words}, at least 3 are needed"


def test_nothing_is_concluded_from_one_row_or_without_numbers():
    for values in ({"a": [9.0, 9.2, 8.8]}, {"a": [9.0, 9.2, 8.8], "b": [8.0, np.nan, 7.9]}):
        assert ordering(values) == f"nothing is concluded: WS of {', '.join(values)} cannot be compared"
    assert ordering({}).startswith("nothing is concluded: 0 trainings")


def test_equal_rows_pass_as_often_as_they_are_said_to():
    """A step is beyond its error where Welch's test says so; of equal rows one in twenty, or fewer, is."""
    rng, beyond = np.random.default_rng(0), []
    for k in range(400):
        a, b = (rng.normal(size=3).tolist() for _ in range(2))
        beyond.append("within" not in ordering({"a": a, "b": b}))
        if k < 50:
            assert beyond[-1] == (ttest_ind(a, b, equal_var=False).pvalue < 0.05)
    assert 0.01 < np.mean(beyond) < 0.06


def test_rows_of_seeds_come_back_in_order():
    named = of_seed({"VQ-VAE, prior": 3.0, "GAN": 1.0}, 0) | of_seed({"VQ-VAE, prior": 5.0, "GAN": 2.0}, 1)
    assert by_row(named) == {"VQ-VAE, prior": [3.0, 5.0], "GAN": [1.0, 2.0]}
    scores = {name: {"metrics": {"all": {"WS": [value, 0.1]}}} for name, value in named.items()}
    assert values_by_row(scores) == by_row(named)


def test_words_that_are_the_same_in_all_trainings_stay():
    lines = over_seeds({"A, seed 0": 1.0, "A, seed 1": 3.0}, {"MFLOP": lambda _: "14.7", "loss": lambda value: value})
    assert lines[1] == ["A", "2", "14.7", "2.000 ± 1.414"]
