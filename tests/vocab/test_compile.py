"""Vocabulary reductions under torch.compile and as a registered operator."""

import pytest

torch = pytest.importorskip("torch")

from rollmath import vocab  # noqa: E402

ALL = vocab.RowStats._fields


def example(seed=0, shape=(4, 5)):
    torch.manual_seed(seed)
    x, y = torch.randn(*shape, 17), torch.randint(17, shape)
    return x, y, torch.randint(17, (*shape, 2)), torch.rand(shape) + 0.5, torch.rand(shape) > 0.3


def step(w, y, ids, t, m):
    logits = w * 2
    stats = vocab.row_stats(logits, y, outputs=ALL, ids=ids, temperature=t, mask=m, softcap=9.0)
    total = sum(x.sum() for name, x in zip(ALL, stats, strict=True) if name != "argmax")
    return total + vocab.logprobs(logits, y, temperature=0.7, ignore_index=3).sum(), stats.argmax


def test_one_graph_with_the_same_numbers():
    torch._dynamo.reset()
    x, *rest = example()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    found = []
    for function in (step, compiled):
        w = x.clone().requires_grad_()
        loss, argmax = function(w, *rest)
        loss.backward()
        found.append((loss.detach(), argmax, w.grad))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_new_lengths_compile_twice_at_most():
    testing = pytest.importorskip("torch._dynamo.testing")
    torch._dynamo.reset()
    counter = testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(step, fullgraph=True, backend=counter)
    for length in range(5, 9):
        x, *rest = example(shape=(2, length))
        compiled(x.requires_grad_(), *rest)[0].backward()
    assert counter.frame_count <= 2


def test_allowed_sets_and_checks_of_values():
    torch._dynamo.reset()
    x, y, *_ = example()
    sets = vocab.TokenSets.of_mask(torch.rand(4, 5, 17) > 0.3)
    plain = vocab.logprobs(x, y, allowed=sets)
    compiled = torch.compile(lambda x, y, sets, **o: vocab.logprobs(x, y, allowed=sets, **o), backend="eager")
    assert torch.equal(compiled(x, y, sets), plain)
    with pytest.raises(ValueError, match=r"logprobs\(\): 'labels' must be in \[0, 17\)"):
        compiled(x, y + 17, sets)
    t = torch.ones(4, 5)
    t[0, 3] = 0
    with pytest.raises(ValueError, match=r"'temperature' must be positive and finite in every row, .* flat index 3"):
        compiled(x, y, sets, temperature=t)
    assert compiled(x, y, sets, temperature=t, check=False)[0, 3].isnan()


def test_a_temperature_without_axes_is_not_read():
    torch._dynamo.reset()
    x, y, *_ = example()
    compiled = torch.compile(lambda x, y, t: vocab.logprobs(x, y, temperature=t), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, y, torch.tensor(0.7)), vocab.logprobs(x, y, temperature=0.7))


def test_inplace_is_refused():
    torch._dynamo.reset()
    x, y, *_ = example()
    compiled = torch.compile(lambda x: vocab.logprobs(x * 1, y, inplace_backward=True), fullgraph=True, backend="eager")
    with pytest.raises(Exception, match=r"'inplace_backward' must be False here, because torch\.compile"):
        compiled(x.requires_grad_())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own checks look at it
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_operator_keeps_the_rules_of_operators(dtype):
    x, y, ids, t, m = example()
    rows = (y.reshape(-1), t.reshape(-1).double(), m.reshape(-1), ids.reshape(-1, 2), None, None)
    options = (list(ALL), 1.0, 9.0, 3, "auto", True, "row_stats")
    logits = x.to(dtype).detach().requires_grad_()
    torch.library.opcheck(torch.ops.rollmath.row_stats.default, (logits, *rows, *options))
    few = (y.reshape(-1), None, None, None, None, None, ["logprob"], 1.3, None, None, "torch", False, "logprobs")
    torch.library.opcheck(torch.ops.rollmath.row_stats.default, (logits.detach(), *few))


def test_the_backward_operator():
    x, y, *_ = example()
    rows = (y.reshape(-1), None, None, None, None, None)
    saved = torch.ops.rollmath.row_stats(x, *rows, ["logprob"], 1.0, None, None, "auto", True, "logprobs")
    given = (x, *rows, saved, [torch.ones(20)], ["logprob"], 1.0, None, None, "auto")
    torch.library.opcheck(torch.ops.rollmath.row_stats_backward.default, given)


def test_importing_brings_no_compiler_and_no_triton(script):
    code = (
        "import sys, torch\n"
        "from rollmath import vocab\n"
        "x = torch.randn(3, 4, requires_grad=True)\n"
        "vocab.logprobs(x, torch.tensor([0, 1, 2])).sum().backward()\n"
        "assert not {'torch._dynamo', 'triton'} & set(sys.modules)\n"
    )
    script(code, deadline=110)


@pytest.mark.parametrize("transform", [torch.vmap, lambda f: torch.func.grad(lambda x, y: f(x, y).sum())])
def test_transforms_are_refused(transform):
    x, y, *_ = example()
    with pytest.raises(RuntimeError, match=r"logprobs\(\): does not run under the transforms of torch.func"):
        transform(vocab.logprobs)(x, y)
