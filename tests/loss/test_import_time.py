"""Losses do not bring the compiler of torch along, and work under it whenever it comes."""


def test_the_compiler_is_not_imported(script):
    code = (
        "import sys, torch\n"
        "from rollmath import LogProbs, Rows\n"
        "from rollmath.loss import *\n"
        "rows = Rows([0, 1], [2, 1])\n"
        "def step(x):\n"
        "    lp = torch.log_softmax(x, -1)[:, 0]\n"
        "    out = policy_loss(LogProbs(lp), [1.0, -1.0], rows, PPO(), normalizer=Normalizer.local(rows))\n"
        "    return out.loss * 2\n"
        "x = torch.randn(3, 4, requires_grad=True)\n"
        "before = torch.autograd.grad(step(x), x)[0]\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "after = torch.autograd.grad(torch.compile(step, backend='eager')(x), x)[0]\n"
        "torch.testing.assert_close(after, before)\n"
        "assert 'torch._dynamo' in sys.modules\n"
    )
    script(code, deadline=110)
