"""Gradients and training steps of models with several losses, on torch."""

from contextlib import nullcontext

import keras
import torch


def value_and_grad(loss, variables):
    """Value, remarks and gradients of a loss: see `zdckeras.backend.steps`."""
    with torch.enable_grad():
        value, remarks = loss()
        values = [v.value for v in variables]
        found = torch.autograd.grad(value, values, allow_unused=True) if value.requires_grad else [None] * len(values)
    gradients = [torch.zeros_like(v) if g is None else g for v, g in zip(values, found, strict=True)]
    return value.detach(), keras.tree.map_structure(torch.Tensor.detach, remarks), gradients


def grad(function, x):
    """Gradient of sum(function(x)) by x: see `zdckeras.backend.steps`."""
    with torch.enable_grad():
        x = keras.ops.convert_to_tensor(x)
        x = x if x.requires_grad else x.detach().requires_grad_()
        value = function(x).sum()
        if not value.requires_grad:
            return torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(value, x, create_graph=True, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient


def apply(optimizer, gradients, variables):
    """One update of an optimizer: see `zdckeras.backend.steps`."""
    optimizer.apply(gradients, list(variables))


def matmul(a, b):
    """A product in float32 proper: see `zdckeras.backend.exact_matmul`; torch does not round unless it is told to."""
    a, b = keras.ops.convert_to_tensor(a), keras.ops.convert_to_tensor(b)
    if not a.is_cuda:
        return torch.matmul(a, b)
    set_before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        return torch.matmul(a, b)
    finally:
        torch.set_float32_matmul_precision(set_before)


def use_devices(number):
    """None: see `zdckeras.backend.use_devices`."""
    return []


def shared(model):
    """Nothing: there is one device."""
    return nullcontext()


class Steps:
    """`train_step` and `test_step` as torch's trainer calls them."""

    def train_step(self, data):
        with torch.no_grad():
            return self.train_on(data)

    def test_step(self, data):
        return self.test_on(data)
