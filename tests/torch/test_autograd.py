"""Derivatives: numerical ones, second ones, forward mode, transforms, hooks."""

import importlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.nn.utils.parametrize import register_parametrization

import centerloss.torch
from centerloss.torch import _cpu, _dispatch, _ops
from tests.torch.batches import (
    assert_same_bits,
    batch,
    module,
    reductions,
    run,
    same_bits,
)

# PyTorch compiles its own rules of forward mode with the deprecated torch.jit.script.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated:DeprecationWarning"
)


def wide():
    """A batch of float64 for `still()`, in which class 1 has rows."""
    embeddings, _, weights = batch(5, 3, dtype=torch.float64)
    return embeddings, torch.arange(5) % 4, weights.double()


def still(**settings):
    """A module of float64 without updates, since gradcheck calls it many times."""
    return module(3, 4, dtype=torch.float64, auto_update=False, **settings)


@pytest.mark.parametrize(
    ("reduction", "ignore_index", "weighted", "learned"),
    [
        ("mean", None, False, False),
        ("sum", 1, False, False),
        ("none", None, True, False),
        ("mean", 1, True, False),
        ("mean", 1, True, True),
        ("sum", None, True, True),
        ("none", 1, True, True),
    ],
)
def test_numerical_derivatives(reduction, ignore_index, weighted, learned):
    """By the embeddings, and by the weights that need a gradient."""
    loss_fn = still(reduction=reduction, ignore_index=ignore_index, loss_weight=0.3)
    embeddings, labels, weights = wide()
    weights = (weights + 0.5).requires_grad_(learned)
    given = (embeddings, weights) if weighted else (embeddings,)

    def loss(x, w=None):
        return loss_fn(x, labels, w)

    modes = {"check_forward_ad": True, "check_batched_grad": True}
    assert gradcheck(loss, given, **modes, check_batched_forward_grad=True)
    assert gradgradcheck(loss, given, check_batched_grad=True)
    assert gradgradcheck(loss, given, check_fwd_over_rev=True)


def test_numerical_derivatives_of_images():
    loss_fn = module(12, 4, dtype=torch.float64, auto_update=False)
    embeddings, labels, _ = batch(2, 12, 4, dtype=torch.float64)
    images = embeddings.detach().reshape(2, 3, 2, 2).requires_grad_()
    assert gradcheck(lambda x: loss_fn(x, labels), images, check_forward_ad=True)
    assert gradgradcheck(lambda x: loss_fn(x, labels), images)


@reductions
def test_any_incoming_gradient(reduction):
    """The gradient is multiplied by one number, or by one number per row."""
    embeddings, labels, _ = batch()
    once = module(reduction=reduction)(embeddings, labels)
    (gradient,) = torch.autograd.grad(once, embeddings, torch.ones_like(once))
    loss = module(reduction=reduction)(embeddings, labels)
    incoming = torch.rand_like(loss) + 1
    (ours,) = torch.autograd.grad(loss, embeddings, incoming)
    torch.testing.assert_close(ours, incoming.reshape(-1, 1) * gradient)


@reductions
@pytest.mark.parametrize("ignore_index", [None, 1])
def test_gradient_penalty(reduction, ignore_index):
    """Differentiate the squared norm of the gradient; centers are updated once."""
    settings = {"reduction": reduction, "ignore_index": ignore_index}
    embeddings, labels, weights = wide()
    loss_fn = module(3, 4, dtype=torch.float64, **settings)
    before = loss_fn.centers.clone()
    loss = loss_fn(embeddings, labels, weights).sum()
    after = loss_fn.centers.clone()
    (gradient,) = torch.autograd.grad(loss, embeddings, create_graph=True)
    (loss + gradient.pow(2).sum()).backward()
    assert same_bits(loss_fn.centers, after)
    assert not torch.equal(after, before)

    rate = torch.where(labels == ignore_index, 0, weights) if ignore_index else weights
    rate = (rate / rate.sum() if reduction == "mean" else rate)[:, None]
    d = embeddings.detach() - before[labels]
    expected = rate * d + 2 * rate * rate * d
    torch.testing.assert_close(embeddings.grad, expected)


def test_gradients_have_the_same_bits_with_create_graph():
    """Also for rows with NaN or infinity; an ignored row has gradient zero."""
    embeddings, labels, _ = batch()
    x = embeddings.detach().clone()
    x[0], x[1], x[2, 3] = torch.nan, torch.nan, torch.inf
    labels[0] = -1
    x.requires_grad_()
    gradients = []
    for create_graph in (False, True):
        loss = module(ignore_index=-1)(x, labels)
        (g,) = torch.autograd.grad(loss, x, create_graph=create_graph)
        gradients.append(g)
    assert torch.equal(gradients[0][0], torch.zeros(6))
    assert same_bits(*gradients)


# --- transforms of functions ---------------------------------------------------------


def gradient_of(loss_fn, embeddings, labels):
    (gradient,) = torch.autograd.grad(loss_fn(embeddings, labels), embeddings)
    return gradient


def test_func_lets_no_center_move():
    """PyTorch refuses in-place changes inside a transform; nothing is changed."""
    embeddings, labels, _ = batch()
    loss_fn = module()
    with pytest.raises(RuntimeError, match="would mutate a captured Tensor"):
        torch.func.grad(loss_fn)(embeddings.detach(), labels)
    assert torch.equal(loss_fn.centers, module().centers)
    assert loss_fn.num_updated == 0


def test_func_grad_and_vmap_of_it():
    """The gradient, and one gradient per sample."""
    embeddings, labels, _ = wide()
    loss_fn = still(reduction="sum")
    expected = gradient_of(loss_fn, embeddings, labels)
    whole = torch.func.grad(loss_fn)(embeddings.detach(), labels)
    torch.testing.assert_close(whole, expected)
    alone = torch.func.grad(lambda x, y: loss_fn(x[None], y[None]))
    ours = torch.func.vmap(alone)(embeddings.detach(), labels)
    torch.testing.assert_close(ours, expected)


def test_func_jvp():
    embeddings, labels, _ = wide()
    loss_fn, tangent = still(), torch.randn_like(embeddings)
    loss, derivative = torch.func.jvp(
        lambda x: loss_fn(x, labels), (embeddings.detach(),), (tangent,)
    )
    torch.testing.assert_close(loss, loss_fn(embeddings.detach(), labels))
    expected = (gradient_of(loss_fn, embeddings, labels) * tangent).sum()
    torch.testing.assert_close(derivative, expected)


def test_forward_mode_moves_no_center_by_itself():
    """Centers are updated only if a backward pass may follow."""
    embeddings, labels, _ = wide()
    loss_fn = module(3, 4, dtype=torch.float64)
    before = loss_fn.centers.clone()
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(embeddings.detach(), torch.ones(5, 3).double())
        with pytest.warns(UserWarning, match="^the centers stay as they are"):
            derivative = forward_ad.unpack_dual(loss_fn(dual, labels)).tangent
    expected = gradient_of(still(), embeddings, labels).sum()
    torch.testing.assert_close(derivative, expected)
    assert torch.equal(loss_fn.centers, before)


@pytest.mark.parametrize("needs_gradient", [False, True])
@pytest.mark.parametrize("which", ["embeddings", "weights"])
def test_forward_mode_by_embeddings_and_by_weights(which, needs_gradient):
    """Whether or not the weights require a gradient, under no_grad."""
    embeddings, labels, weights = batch(dtype=torch.float64)
    loss_fn = module(dtype=torch.float64, auto_update=False)
    weights = weights.double().requires_grad_(needs_gradient)
    given = {"embeddings": embeddings.detach(), "weights": weights}
    direction = torch.ones_like(given[which])

    def loss(values):
        x, w = (values if name == which else given[name] for name in given)
        return loss_fn(x, labels, w)

    with torch.no_grad(), forward_ad.dual_level():
        dual = forward_ad.make_dual(given[which], direction)
        tangent = forward_ad.unpack_dual(loss(dual)).tangent
        step = 1e-6 * direction
        expected = (loss(given[which] + step) - loss(given[which] - step)) / 2e-6
    torch.testing.assert_close(tangent, expected, rtol=1e-6, atol=1e-8)


def test_functional_call_uses_and_moves_the_centers_that_it_is_given():
    embeddings, labels, _ = batch()
    loss_fn = module()
    own, other = loss_fn.centers.clone(), torch.zeros_like(loss_fn.centers)
    ours = torch.func.functional_call(loss_fn, {"centers": other}, (embeddings, labels))
    torch.testing.assert_close(ours, 0.5 * embeddings.pow(2).sum(1).mean())
    assert torch.equal(loss_fn.centers, own)
    assert (other[:-1] != 0).any(1).all()


# --- the graph -----------------------------------------------------------------------


def test_hooks_see_the_gradient():
    embeddings, labels, _ = batch()
    seen = []
    embeddings.register_hook(seen.append)
    loss_fn = module()
    loss_fn.register_forward_hook(lambda *_: seen.append("forward"))
    loss_fn.register_full_backward_hook(lambda *_: seen.append("backward"))
    loss = loss_fn(embeddings, labels)
    loss.backward()
    assert seen[:2] == ["forward", "backward"]
    assert torch.equal(seen[2], embeddings.grad)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_two_backward_passes_of_one_call(scale):
    embeddings, labels, _ = batch()
    loss = module()(embeddings, labels) * scale
    (first,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
    (second,) = torch.autograd.grad(loss, embeddings)
    assert same_bits(first, second)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, embeddings)


def test_changing_a_gradient_does_not_affect_later_ones():
    embeddings, labels, _ = batch()
    loss = module()(embeddings, labels)
    (first,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
    expected = first.clone()
    first.zero_()
    (second,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
    assert same_bits(second, expected)
    for times in (1, 2, 3):
        loss.backward(retain_graph=True)
        torch.testing.assert_close(embeddings.grad, times * expected)


def test_gradients_of_two_losses_add_up():
    """The embeddings have another use, as with a softmax."""
    embeddings, labels, _ = batch()
    expected = gradient_of(module(), embeddings, labels)
    (module()(embeddings, labels) + embeddings.pow(2).sum() / 2).backward()
    torch.testing.assert_close(embeddings.grad, expected + embeddings.detach())


@pytest.mark.parametrize("auto_update", [True, False])
def test_tensors_from_inference_mode(auto_update):
    """PyTorch does not save such tensors for a backward pass."""
    given = batch()
    with torch.inference_mode():
        ours = [x.detach().clone() for x in given]
        ours[0].requires_grad_()
    assert_same_bits(
        run(module(auto_update=auto_update), *ours),
        run(module(auto_update=auto_update), *given),
    )


def test_embeddings_changed_in_place_are_an_error():
    """PyTorch's backward pass raises instead of computing a wrong gradient."""
    embeddings, labels, _ = batch()
    rows = embeddings * 1
    loss = module()(rows, labels)
    rows.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.usefixtures("path")
def test_a_backward_pass_after_the_centers_moved_on():
    """Two calls, then both backward passes, each at the centers of its call."""
    embeddings, labels, _ = batch()
    loss_fn, apart = module(), module()
    losses = [loss_fn(embeddings, labels) for _ in range(2)]
    for loss in losses:
        (ours,) = torch.autograd.grad(loss, embeddings)
        assert same_bits(ours, gradient_of(apart, embeddings, labels))
    assert same_bits(loss_fn.centers, apart.centers)


def test_other_threads():
    """A backward pass in another thread, as autograd has for other devices."""
    embeddings, labels, _ = batch()
    expected = gradient_of(module(), embeddings, labels)
    loss = module()(embeddings, labels)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(loss.backward).result()
    assert same_bits(embeddings.grad, expected)


# --- operators -----------------------------------------------------------------------

OPERATORS = {
    "loss": ("centers", "weights", "objective"),
    "value_and_grad": ("centers", "weights", "objective"),
    "step": ("centers", "weights", "objective", "rate"),
    "update_centers": ("centers", "weights", "ignore_index", "rate"),
    "attach": ("loss", "gradient", "weights", "objective"),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(
    ("dtype", "reduction", "weighted", "ignore_index"),
    [
        (torch.float64, "mean", False, None),
        (torch.bfloat16, "none", True, 1),
        (torch.bfloat16, "sum", True, None),
    ],
)
def test_opcheck(name, dtype, reduction, weighted, ignore_index):
    """Schema, fake implementation, autograd and AOT agree with the function."""
    wide = dtype is torch.float64
    embeddings, labels, weights = batch(dtype=dtype)
    centers = module(dtype=dtype if wide else torch.float32).centers
    rows = 24 if reduction == "none" else ()
    parts = {
        "centers": [centers],
        "weights": [weights if weighted else None],
        "objective": [reduction, torch.tensor(0.5).double(), ignore_index],
        "rate": [torch.tensor(0.25).double(), True, True],
        "ignore_index": [ignore_index],
        "loss": [torch.rand(rows, dtype=centers.dtype)],
        "gradient": [torch.rand_like(embeddings).detach()],
    }
    if name != "attach":
        embeddings = embeddings.detach()
    given = [value for part in OPERATORS[name] for value in parts[part]]
    operator = getattr(torch.ops.centerloss, name).default
    torch.library.opcheck(operator, (embeddings, labels, *given))


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "attach"])
def test_opcheck_elsewhere(monkeypatch, name):
    """The same with the implementation for devices other than the CPU."""
    monkeypatch.setattr(_ops, "_in_c", lambda _: False)
    test_opcheck(name, torch.bfloat16, "none", weighted=True, ignore_index=1)


def test_reload():
    """PyTorch refuses to register an operator twice."""
    importlib.reload(_ops)
    importlib.reload(centerloss.torch)
    embeddings, labels, _ = batch()
    assert centerloss.torch.CenterLoss(7, 6)(embeddings, labels) > 0


# --- the short way of a usual training step ------------------------------------------


def test_a_usual_step_is_checked_only_after_an_error(monkeypatch):
    """The checks take a tenth of the time of a small training step."""

    def check(_):
        raise AssertionError("checked")

    monkeypatch.setattr("centerloss.torch._checks.check_tensors", check)
    embeddings, labels, weights = batch()
    loss_fn = module()
    loss_fn(embeddings, labels).backward()
    assert loss_fn.num_updated == len(labels.unique())
    for given in [(embeddings, labels - 7), (embeddings, labels, weights)]:
        with pytest.raises(AssertionError, match="^checked$"):
            loss_fn(*given)


@reductions
def test_a_usual_step_has_the_bits_of_one_that_is_checked(monkeypatch, reduction):
    embeddings, labels, _ = batch()
    expected = run(module(reduction=reduction), embeddings, labels)
    monkeypatch.setattr("centerloss.torch._dispatch.is_usual", lambda _: False)
    assert_same_bits(run(module(reduction=reduction), embeddings, labels), expected)


def test_a_training_step_in_forward_mode_is_not_usual():
    embeddings, labels, _ = wide()
    loss_fn = module(3, 4, dtype=torch.float64)
    expected = gradient_of(still(), embeddings, labels).sum()
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(embeddings, torch.ones_like(embeddings))
        tangent = forward_ad.unpack_dual(loss_fn(dual, labels)).tangent
    torch.testing.assert_close(tangent, expected)


def test_parametrized_centers():
    """They are then no buffer of the module itself."""
    embeddings, labels, _ = batch()
    loss_fn = module().eval()
    expected = loss_fn(embeddings, labels)
    register_parametrization(loss_fn, "centers", torch.nn.Identity())
    assert same_bits(loss_fn(embeddings, labels), expected)


# --- without private functions of PyTorch --------------------------------------------


@pytest.fixture
def reload_without(monkeypatch):
    """A function that reloads a module as if PyTorch lacked a private function."""

    def reload(loaded, owner, name):
        with monkeypatch.context() as patch:
            patch.delattr(owner, name, raising=False)
            importlib.reload(loaded)

    yield reload
    importlib.reload(_cpu)
    importlib.reload(_dispatch)
    assert _dispatch.can_use_c(torch.ones(1), None)


def test_without_the_function_that_tells_whether_a_graph_is_kept(reload_without):
    """Every graph is treated as one that is kept, with the same bits."""
    embeddings, labels, _ = batch()
    expected = gradient_of(module(), embeddings, labels)
    reload_without(_cpu, torch._C._autograd, "_get_current_graph_task_keep_graph")
    assert same_bits(gradient_of(module(), embeddings, labels), expected)
    loss = module()(embeddings, labels)
    (first,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
    (second,) = torch.autograd.grad(loss, embeddings)
    assert first.data_ptr() != second.data_ptr()
    assert same_bits(first, second)


def test_without_the_function_that_tells_whether_a_transform_runs(reload_without):
    """PyTorch's operations compute every batch, with all errors."""
    embeddings, labels, weights = wide()
    expected = gradient_of(still(), embeddings, labels)
    reload_without(_dispatch, torch._C, "_are_functorch_transforms_active")
    assert not _dispatch.can_use_c(embeddings, weights)
    loss_fn = module(3, 4, dtype=torch.float64)
    before = loss_fn.centers.clone()
    with pytest.raises(IndexError, match=r"^labels\[2\] is 6, but there are 4 cl"):
        loss_fn(embeddings, 3 * labels)
    assert torch.equal(loss_fn.centers, before)
    torch.testing.assert_close(gradient_of(loss_fn, embeddings, labels), expected)
    assert not torch.equal(loss_fn.centers, before)
    ours = torch.func.grad(still())(embeddings.detach(), labels)
    torch.testing.assert_close(ours, expected)
