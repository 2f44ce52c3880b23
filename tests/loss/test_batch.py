"""The two passes of batch-coupled objectives: what is prepared, and which tokens it then means."""

import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from loss_steps import FORMS, Step, form  # noqa: E402

from rollmath import LogProbs, Rows  # noqa: E402
from rollmath.loss import PPO, ClipCov, KLCov, LpReg, Normalizer, Tokens, policy_loss  # noqa: E402

OBJECTIVES = [ClipCov(share=0.3, bounds=(-9, 9)), KLCov(share=0.3), LpReg(share=0.3)]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_unprepared(objective):
    step = Step(1)
    name = type(objective).__name__
    match = rf"'objective' must know the whole step; pass objective.with_parts\(parts\).*got {name} without"
    with pytest.raises(ValueError, match=rf"policy_loss\(\): {match}"):
        step.loss(objective, step.logprobs())
    with pytest.raises(ValueError, match=rf"{name}\(\): {match}"):
        objective.token_loss(Tokens.of(torch.zeros(2), torch.zeros(2)))
    assert objective.coupling == "batch"


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_levels_kinds_and_dtypes_agree(objective):
    step = Step(3, per_token=False)
    lp, rows = step.logprobs(), step.rows
    per_rollout = np.array([step.advantages[at[0]] if len(at) else 0.0 for at in step.units("rollout")])
    wide = LogProbs(*(step.logprobs(padded=True).given()[name] for name in ("theta", "prox")))
    made = [
        objective.with_parts([objective.prepare(*arguments, rows, level=level)])
        for arguments, level in [
            ((lp, step.advantages), "token"),
            ((lp, torch.tensor(step.advantages)), "token"),
            ((lp, per_rollout), "rollout"),
            ((lp, per_rollout.tolist()), "rollout"),
            ((lp, per_rollout[rows.rollouts.index]), "row"),
            ((wide, per_rollout), "rollout"),
        ]
    ]
    assert all(one == made[0] for one in made)
    narrow = LogProbs(lp.theta.float(), lp.prox.float())
    assert objective.prepare(narrow, per_rollout, rows, level="rollout").columns["theta"].dtype == np.float32


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_parts_and_prepared_objectives_pickle(objective):
    step = Step(4)
    part = objective.prepare(step.logprobs(), step.advantages, step.rows, level="token")
    again = pickle.loads(pickle.dumps(part))
    assert repr(again) == repr(part) == f"StepPart({step.normalizer.tokens} tokens of {len(part.keys)} rows)"
    made = objective.with_parts([part])
    assert objective.with_parts([again]) == made == pickle.loads(pickle.dumps(made))
    assert made != objective
    assert repr(made.selection).startswith(f"TokenSet({len(made.selection)} of {step.normalizer.tokens} ")
    # A prepared objective can prepare the next step.
    assert made.with_parts([made.prepare(step.logprobs(), step.advantages, step.rows, level="token")]) == made


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", FORMS)
def test_nothing_trained(objective, kind):
    rows = Rows(["a", "a"], [2, 0], mask=[0, 0])
    lp = LogProbs(torch.full((2,), float("nan"), requires_grad=True), ref=torch.zeros(2))
    made = objective.with_parts([objective.prepare(lp, [1.0], rows)])
    assert made == objective.with_parts([])
    assert repr(made.selection) == "TokenSet(0 of 0 tokens)"
    with form(kind):
        out = policy_loss(lp, [1.0], rows, made, normalizer=Normalizer.local(rows))
    assert out.loss.item() == 0
    assert torch.autograd.grad(out.loss, lp.theta)[0].tolist() == [0, 0]


@pytest.mark.parametrize("ids", [str, int, lambda i: (int(i), "x")])
def test_ids_of_any_type_in_any_order(ids):
    step = Step(5, ids=ids)
    objective = step.prepared(KLCov(share=0.4), step.logprobs())
    row, position = objective.selection.among("test", step.rows)
    order = np.random.default_rng(0).permutation(step.rows.n_rows)
    moved = objective.selection.among("test", step.rows.take(order))
    assert {(order[i], t) for i, t in zip(*moved, strict=True)} == set(zip(row, position, strict=True))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_draw_does_not_see_whether_an_id_is_a_number_of_numpy(objective):
    made = []
    for number in (int, np.int64, np.uint8):
        for ids in ([number(i) for i in range(9)], [(number(i), "x") for i in range(9)]):
            rows = Rows(ids, [7] * 9)
            lp = LogProbs(torch.full((63,), -1.0))  # all tie, so that hashes decide
            chosen = objective.with_parts([objective.prepare(lp, [-1.0] * 5 + [-2.0] * 4, rows)]).selection
            made.append([x.tolist() for x in chosen.among("test", rows)])
    assert made[0::2] == [made[0]] * 3
    assert made[1::2] == [made[1]] * 3


def test_the_choice_is_that_of_the_step_whatever_theta_is_now():
    step = Step(6)
    objective = step.prepared(KLCov(share=0.3, coef=2.0), step.logprobs())
    before = step.loss(objective, step.logprobs())[0].metrics["kl_cov"]
    step.theta = step.theta[::-1].copy()
    assert step.loss(objective, step.logprobs())[0].metrics["kl_cov"] == before


def test_rows_of_another_step():
    rows, lp = Rows(["a", "b"], [2, 2]), LogProbs(torch.zeros(4))
    objective = KLCov()
    made = objective.with_parts([objective.prepare(lp, [1.0, -1.0], rows)])
    other = Rows(["a", "c"], [2, 2])
    match = r"policy_loss\(\): 'objective' was prepared with other tokens: rollout 'c', segment 0 is not among them"
    with pytest.raises(ValueError, match=match):
        policy_loss(lp, [1.0, -1.0], other, made, normalizer=Normalizer.local(other))
    longer = Rows(["a", "b"], [1, 3])
    with pytest.raises(ValueError, match=r"rollout 'a', segment 0 is with 1 trained tokens here and 2 there; prepare"):
        policy_loss(lp, [1.0, -1.0], longer, made, normalizer=Normalizer.local(longer))


def test_parts():
    rows, lp = Rows(["a", "b"], [2, 2]), LogProbs(torch.zeros(4))
    objective = KLCov()
    part = objective.prepare(lp, [1.0, -1.0], rows)
    with pytest.raises(
        ValueError,
        match=r"KLCov.with_parts\(\): 'parts' must hold each row of the step once, but "
        r"rollout 'a', segment 0 comes twice; rows of one rollout need distinct segments",
    ):
        objective.with_parts([part, part])
    with pytest.raises(
        ValueError,
        match=r"KLCov.with_parts\(\): 'parts\[0\]' must be prepared by KLCov\(share=0.5.*"
        r"got one by KLCov\(share=0.0002",
    ):
        KLCov(share=0.5).with_parts([part])
    with pytest.raises(TypeError, match=r"KLCov.with_parts\(\): 'parts\[0\]' must be what prepare\(\) returns, got"):
        objective.with_parts([3])
    with pytest.raises(
        TypeError, match=r"KLCov.with_parts\(\): 'parts' must be an iterable of what prepare\(\) returns"
    ):
        objective.with_parts(part.objective)


def test_prepare_arguments():
    rows, lp = Rows(["a", "b"], [2, 2]), LogProbs(torch.zeros(4))
    who = r"KLCov.prepare\(\): "
    with pytest.raises(TypeError, match=who + r"'logprobs' must be LogProbs"):
        KLCov().prepare(torch.zeros(4), [1.0, -1.0], rows)
    with pytest.raises(TypeError, match=who + r"'rows' must be Rows"):
        KLCov().prepare(lp, [1.0, -1.0], [2, 2])
    with pytest.raises(ValueError, match=who + r"'logprobs' must have shape \(4,\)"):
        KLCov().prepare(LogProbs(torch.zeros(3)), [1.0, -1.0], rows)
    with pytest.raises(ValueError, match=who + r"'advantages' must have shape"):
        KLCov().prepare(lp, [1.0, -1.0, 1.0], rows)
    with pytest.raises(ValueError, match=who + r"'advantages' must be finite in float32 where tokens are trained"):
        KLCov().prepare(lp, [1.0, float("nan")], rows)
    for bad in (float("nan"), -float("inf")):
        theta = torch.tensor([0.0, 0.0, 0.0, bad])
        with pytest.raises(ValueError, match=who + rf"'logprobs' must be finite where tokens are trained, got {bad}"):
            KLCov().prepare(LogProbs(theta), [1.0, -1.0], rows)
        with pytest.raises(ValueError, match=who + r"'logprobs' must be finite"):
            KLCov().prepare(LogProbs(torch.zeros(4), theta), [1.0, -1.0], rows)


def test_a_kl_term_cannot_be_one_that_chooses():
    step = Step(2)
    kl = step.prepared(KLCov(), step.logprobs())
    with pytest.raises(ValueError, match=r"KLCov\(\): 'objective' must know the whole step"):
        policy_loss(
            step.logprobs(), step.advantages, step.rows, PPO(), normalizer=step.normalizer, level="token", kl=kl
        )


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_jagged_tensors_of_other_rows():
    jagged = torch.nested.nested_tensor_from_jagged(torch.zeros(4), torch.tensor([0, 2, 4]))
    with pytest.raises(
        ValueError, match=r"KLCov.prepare\(\): 'logprobs.theta' as a jagged tensor must have the offsets"
    ):
        KLCov().prepare(LogProbs(jagged), [1.0, 1.0], Rows([0, 1], [1, 3]))


def test_a_mask_that_moved_is_seen():
    theta = torch.tensor([-0.1, -3.0, -0.2, -4.0])
    before, after = Rows(["a"], [4], mask=[1, 1, 1, 0]), Rows(["a"], [4], mask=[0, 1, 1, 1])
    objective = KLCov(share=1.0)
    prepared = objective.with_parts([objective.prepare(LogProbs(theta), [1.0, 2.0, 3.0, 4.0], before, level="token")])
    with pytest.raises(ValueError, match="prepared with another mask: it chose position 0 of rollout 'a', segment 0"):
        policy_loss(LogProbs(theta), [1.0], after, prepared, normalizer=Normalizer.local(after), level="rollout")
