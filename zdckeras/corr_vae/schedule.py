"""The schedule of the published CorrVAE: what its terms weigh, and how soft its mask is, from step to step."""

from keras import ops

from zdckeras.backend import Tensor

STEPS = 924_750  # of the study's training: 250 epochs of 3,699 batches
EPOCHS, COOLING = 250, 10  # of the study, and those between two temperatures
BEGIN, RISE = 100_000, 100_000  # steps before there is a divergence, and in which it rises
FIRST = 100  # hundred-thousandths of its weight with which it begins
COOLEST = 1e-6  # share of the first temperature; what float32 draws is no nearer to the edge


def shares_at(step: Tensor, steps: int = STEPS) -> dict[str, Tensor]:
    """Shares of the weights of sparsity and divergence, and of the mask's temperature, at a step of a training.

    With r = 924,750 s / S for step s of S, so that shorter trainings have parts of the same shares,

    - sparsity = 1 for r <= 100,000, then 0;
    - divergence = 0 for r <= 100,000, then min(100 + r - 100,000, 100,000) / 100,000;
    - temperature = 10^-floor((e + 1) / 10) in epoch e = 0, 1, ... of 250, at least 10^-6.

    Arguments:
        step: s, counted from 1.
        steps: S, of the whole training.

    Returns:
        name -> number.

    Source:
        train.ipynb and utils/loss.py of karolrogozinski/cern_alice_fast_sim_corrvae, without the last bound.

    Example:
        >>> {name: round(float(share), 4) for name, share in shares_at(150_000.0).items()}
        {'sparsity': 0.0, 'divergence': 0.501, 'temperature': 0.0001}
    """
    step = ops.cast(step, "float32")
    after = step * (STEPS / steps) - BEGIN
    epoch = ops.floor(ops.maximum(step - 0.5, 0.0) * (EPOCHS / steps))
    cooled = ops.power(10.0, -ops.floor((epoch + 1.0) / COOLING))
    return {"sparsity": ops.where(after > 0.0, 0.0, 1.0),
            "divergence": ops.where(after > 0.0, ops.minimum((FIRST + after) / RISE, 1.0), 0.0),
            "temperature": ops.maximum(cooled, COOLEST)}
