"""The batched mixture against scikit-learn's, one set of samples at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from detlab.assigners import mixture as mixture_module
from detlab.assigners import paa
from detlab.assigners.mixture import Mixture, fit_two_gaussians
from tests.assigners.literal_paa import separated
from tests.assigners.score_sets import score_sets


def filled(rows: int = 40, slots: int = 20, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two heaps of samples in every row, a third of the slots without."""
    generator = torch.Generator().manual_seed(seed)
    high = torch.rand(rows, slots, generator=generator, dtype=torch.float64) < 0.6
    values = 0.5 + 1.5 * high + 0.2 * torch.randn(rows, slots, generator=generator, dtype=torch.float64)
    return values, torch.rand(rows, slots, generator=generator) > 1 / 3


def row_of(mixture: Mixture, row: int) -> Mixture:
    return Mixture(*(field[row : row + 1] for field in mixture))


def parameters_of(mixture: Mixture) -> np.ndarray:
    """Weights, means and variances, ``[G, 3, 2]``."""
    return torch.stack(mixture[:3], 1).numpy()


def assert_same(found: Mixture, wanted: Mixture, tolerance: float = 0.0) -> None:
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.slow
def test_equals_scikit_learn_on_all_sets() -> None:
    sets = score_sets()
    assert len(sets.kind) >= 1200
    found = fit_two_gaussians(sets.values, sets.mask)
    wanted = np.stack([one.parameters for one in sets.literal])
    np.testing.assert_allclose(parameters_of(found), wanted, rtol=0, atol=1e-9)
    for row, (mask, one) in enumerate(zip(sets.mask, sets.literal, strict=True)):
        np.testing.assert_allclose(found.log_likelihood[row][mask], one.log_likelihood, rtol=0, atol=1e-8)
        np.testing.assert_allclose(found.responsibilities[row][mask][:, 0], one.low_share, rtol=0, atol=1e-7)


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_equals_scikit_learn_where_iterations_run_out(iterations: int) -> None:
    values, mask = filled(rows=30)
    found = fit_two_gaussians(values, mask, max_iterations=iterations)
    for row in range(len(values)):
        wanted = separated(values[row][mask[row]].numpy(), iterations).parameters
        np.testing.assert_allclose(parameters_of(found)[row], wanted, atol=1e-12)
    longer = fit_two_gaussians(values, mask)
    assert (longer.means - found.means).abs().max() > 1e-3, "these iterations were enough: nothing was tested"


def test_by_hand() -> None:
    """Heaps {1, 3} and {101, 105}, too far apart to share samples: means 2 and 103, variances 1 and 4 (+ 1e-6)."""
    found = fit_two_gaussians(torch.tensor([[1.0, 105, 3, 101]]), torch.ones(1, 4, dtype=torch.bool))
    assert found.weights.tolist() == [pytest.approx([0.5, 0.5])]
    assert found.means.tolist() == [pytest.approx([2, 103])]
    assert found.variances.tolist() == [pytest.approx([1.000001, 4.000001], rel=1e-9)]
    assert found.responsibilities[0, :, 0].tolist() == pytest.approx([1, 0, 1, 0], abs=1e-12)
    density = -0.5 * np.log(2 * np.pi * np.array([1, 4, 1, 4])) - 0.5 + np.log(0.5)
    assert found.log_likelihood[0].tolist() == pytest.approx(density.tolist(), abs=1e-5)


@pytest.mark.parametrize("look_every", [1, 10])
def test_rows_together_equal_rows_one_by_one(monkeypatch: pytest.MonkeyPatch, look_every: int) -> None:
    """Each stops by itself, whether somebody looks after every iteration (CPU) or after every tenth (GPU)."""
    values, mask = filled(seed=1)
    alone = [fit_two_gaussians(values[row : row + 1], mask[row : row + 1]) for row in range(len(values))]
    monkeypatch.setattr(mixture_module, "_LOOK_EVERY", {"cpu": look_every})
    together = fit_two_gaussians(values, mask)
    for row, one in enumerate(alone):
        assert_same(row_of(together, row), one, 1e-12)


def test_slots_without_sample_count_for_nothing_wherever_they_are() -> None:
    values, mask = filled(seed=2)
    mask[:, -1] |= ~mask.any(1)
    order = torch.rand(mask.shape, generator=torch.Generator().manual_seed(3)).argsort(1)
    plain = fit_two_gaussians(values, mask)
    for nothing in (0.0, -1e30, float("inf"), float("nan")):
        moved = fit_two_gaussians(values.masked_fill(~mask, nothing).gather(1, order), mask.gather(1, order))
        assert_same(Mixture(*moved[:3], *plain[3:]), plain, 1e-9)  # sums in another order
        shares = plain.responsibilities.gather(1, order[..., None].expand(-1, -1, 2))
        torch.testing.assert_close(moved.responsibilities, shares, atol=1e-9, rtol=0)
        likelihood = plain.log_likelihood.gather(1, order)
        torch.testing.assert_close(moved.log_likelihood, likelihood, atol=1e-9, rtol=0)
    assert (plain.responsibilities[~mask] == 0).all()
    assert (plain.log_likelihood[~mask] == -torch.inf).all()
    torch.testing.assert_close(plain.responsibilities.sum(-1), mask.double())


def test_one_sample_and_none() -> None:
    values = torch.tensor([[5.0, 2.0, 9.0], [5.0, 2.0, 9.0], [5.0, 2.0, 9.0]])
    mask = torch.tensor([[False, True, False], [False, False, False], [True, True, True]])
    found = fit_two_gaussians(values, mask)
    assert found.means[0].tolist() == pytest.approx([2, 2])
    assert found.variances[0].tolist() == pytest.approx([1e-6, 1e-6])
    assert found.weights[0].tolist() == pytest.approx([0.5, 0.5])
    assert found.means[1].tolist() == [0, 0]
    assert found.responsibilities[1].count_nonzero() == 0
    assert (found.log_likelihood[1] == -torch.inf).all()
    assert all(field[[0, 2]].isfinite().all() for field in found[:3])
    assert fit_two_gaussians(values[:0], mask[:0]).means.shape == (0, 2)
    nowhere = fit_two_gaussians(values, torch.zeros_like(mask))
    assert (nowhere.means == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_narrow_inputs_are_worked_on_in_float64(dtype: torch.dtype) -> None:
    values, mask = filled(seed=4)
    narrow = values.to(dtype)
    found = fit_two_gaussians(narrow, mask)
    assert all(field.dtype == torch.float64 for field in found)
    assert_same(found, fit_two_gaussians(narrow.double(), mask))


def test_moving_all_samples_moves_the_means_and_changes_nothing_else() -> None:
    values, mask = filled(seed=5)
    plain, moved = fit_two_gaussians(values, mask), fit_two_gaussians(values + 1000, mask)
    assert_same(moved._replace(means=moved.means - 1000), plain, 1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_huge_and_tiny_values_stay_finite_and_equal_scikit_learn(scale: float) -> None:
    samples = np.array([0.5, 0.75, 1.5, 2.0, 8.0, 8.5]) * scale
    found = fit_two_gaussians(torch.from_numpy(samples)[None], torch.ones(1, 6, dtype=torch.bool))
    assert all(field.isfinite().all() for field in found)
    np.testing.assert_allclose(parameters_of(found)[0], separated(samples).parameters, rtol=1e-9)


def test_a_row_with_nan_or_infinity_leaves_the_others_alone() -> None:
    values, mask = filled(seed=6)
    plain = fit_two_gaussians(values, mask)
    for broken in (float("nan"), float("inf"), -float("inf")):
        spoilt, at = values.clone(), int(mask[7].nonzero()[0])
        spoilt[7, at] = broken
        found = fit_two_gaussians(spoilt, mask)
        others = torch.arange(len(values)) != 7
        assert_same(Mixture(*(f[others] for f in found)), Mixture(*(f[others] for f in plain)))
        assert not found.means[7].isfinite().all()


def test_no_gradient_and_the_input_stays_as_it_was() -> None:
    values, mask = filled(seed=7)
    values.requires_grad_()
    before = values.detach().clone(), mask.clone()
    assert not any(field.requires_grad for field in fit_two_gaussians(values, mask))
    assert torch.equal(values.detach(), before[0])
    assert torch.equal(mask, before[1])


def test_is_found_where_the_assigner_is() -> None:
    assert paa.fit_two_gaussians is fit_two_gaussians
    assert paa.Mixture is Mixture
