"""The functions of the training side against slime's own numbers: the loss, its correction, its reducer."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from slime_stand_ins import RECORDED, arguments, batch, install, sum_of_sample_mean  # noqa: E402

from rollmath.adapters import slime  # noqa: E402

CASES = RECORDED["losses"]


def run(monkeypatch, changed, **more):
    """Our loss on the recorded batch: the value, the metrics, and what the model gave."""
    given, found = batch()
    if "log_probs" in changed:
        del given["log_probs"]
    install(monkeypatch, found)
    args = arguments(**{k: v for k, v in changed.items() if k != "log_probs"}, **more)
    reduce = sum_of_sample_mean(given, args.calculate_per_token_loss)
    value, log = slime.policy_loss(args, given, torch.zeros(()), reduce)
    value.backward()
    return value, log, found


def check(value, log, found, recorded):
    rtol = 1e-6 if "kl_loss" in recorded["log"] else 1e-9  # slime takes its KL in float32
    np.testing.assert_allclose(value.item(), recorded["loss"], rtol=rtol)
    assert {"loss", "pg_loss", "entropy_loss", "pg_clipfrac", "ppo_kl"} <= set(log)
    for name in ("loss", "pg_loss", "entropy_loss", "ppo_kl", "kl_loss"):
        if name in recorded["log"]:
            assert not log[name].requires_grad
            np.testing.assert_allclose(log[name].item(), recorded["log"][name], rtol=rtol, err_msg=name)
    for name, key in (("log_probs", "gradient"), ("entropy", "entropy_gradient")):
        for x, expected in zip(found[name], recorded[key], strict=True):
            ours = torch.zeros_like(x) if x.grad is None else x.grad
            np.testing.assert_allclose(ours.numpy(), expected or np.zeros(len(x)), rtol=rtol, atol=rtol / 10)


@pytest.mark.parametrize("name", [name for name in CASES if "icepop" not in name])
def test_slimes_arguments_give_slimes_loss_and_gradient(name, monkeypatch):
    check(*run(monkeypatch, CASES[name]["args"]), CASES[name])


def test_clip_fractions_are_slimes_per_token(monkeypatch):
    changed = {"calculate_per_token_loss": True}
    _, log, _ = run(monkeypatch, changed)
    assert log["pg_clipfrac"].item() == pytest.approx(CASES["grpo, per token"]["log"]["pg_clipfrac"])


def test_tis_is_slimes():
    given, _ = batch()
    loss = torch.linspace(-1, 1, 20, dtype=torch.float64)
    args = arguments(use_tis=True, tis_clip=1.5, tis_clip_low=0.5)
    names = ("loss_masks", "total_lengths", "response_lengths")
    rest = {name: given[name] for name in names}
    ours, masks, metrics = slime.tis(
        args, pg_loss=loss, train_log_probs=given["log_probs"], rollout_log_probs=given["rollout_log_probs"], **rest
    )
    old, rollout, mask = (torch.cat(given[name]) for name in ("log_probs", "rollout_log_probs", "loss_masks"))
    ratio = (old - rollout).exp()
    trained = mask != 0
    torch.testing.assert_close(ours[trained], (loss * ratio.clamp(0.5, 1.5))[trained])
    assert masks is given["loss_masks"]
    assert all(x.shape == loss.shape for x in metrics.values())
    torch.testing.assert_close(metrics["tis"][trained], ratio[trained])
    torch.testing.assert_close(metrics["tis_abs"][trained], (ratio - 1).abs()[trained])
    assert (metrics["tis_clipfrac"][trained] == ((ratio < 0.5) | (ratio > 1.5))[trained]).all()


def correct(changed, given=None, **more):
    """Our ``tis`` on the recorded batch, of a loss of ones."""
    given = batch()[0] if given is None else given
    names = ("loss_masks", "total_lengths", "response_lengths")
    arguments_of_tis = {
        "pg_loss": torch.ones(20, dtype=torch.float64),
        "train_log_probs": given["log_probs"],
        "rollout_log_probs": given["rollout_log_probs"],
        **{name: given[name] for name in names},
        **more,
    }
    return slime.tis(arguments(**{"use_tis": True, **changed}), **arguments_of_tis)


def table(**correction):
    return {"rollmath": {"recipe": "grpo", "correction": correction}}


def test_icepop_is_slimes():
    weight = correct(table(type="ImportanceWeight", bounds=[0.5, 1.5], outside="zero"))[0]
    given, _ = batch()
    ratio = (torch.cat(given["log_probs"]) - torch.cat(given["rollout_log_probs"])).exp()
    trained = torch.cat(given["loss_masks"]) != 0
    torch.testing.assert_close(weight, torch.where((ratio >= 0.5) & (ratio <= 1.5) & trained, ratio, 0))


def test_a_correction_on_rows_sees_the_mask():
    changed = table(type="ImportanceWeight", bounds=[0.0, 1.25], level="row", reduce="geometric_mean")
    given, _ = batch()
    weights = correct(changed)[0].split(given["response_lengths"])
    rows = zip(weights, given["log_probs"], given["rollout_log_probs"], given["loss_masks"], strict=True)
    for weight, old, rollout, mask in rows:
        expected = (old - rollout)[mask != 0].mean().exp().clamp(max=1.25)
        np.testing.assert_allclose(weight[mask != 0].numpy(), expected.item(), rtol=1e-12)
        assert (weight[mask == 0] == 0).all()


def test_rejected_tokens_stay_in_the_denominator():
    given, _ = batch()
    weight, masks, metrics = correct(table(type="Gate", statistic="ratio", bounds=[0.9, 1.1]), given)
    assert masks is given["loss_masks"]
    assert set(weight.tolist()) == {0.0, 1.0}
    assert (metrics["tis_kept"] == (weight != 0)).all()


def test_metrics_alone():
    loss, _, metrics = correct({"use_tis": False, "get_mismatch_metrics": True})
    assert loss.tolist() == [1.0] * 20
    assert metrics["tis_weight"].max() > 1


def test_numbers_at_tool_output_do_not_matter():
    given, _ = batch()
    given["rollout_log_probs"][0][1:3] = float("nan")
    loss = correct({}, given)[0]
    assert loss[1:3].tolist() == [0.0, 0.0]
    assert torch.isfinite(loss).all()


def test_token_weights_under_context_parallelism():
    given, _ = batch()
    whole = correct({}, given)[0].split(given["response_lengths"])
    halves = {name: [x[::2] for x in given[name]] for name in ("log_probs", "rollout_log_probs")}
    n = sum(len(x) for x in halves["log_probs"])
    part = correct({"context_parallel_size": 2}, given | halves, pg_loss=torch.ones(n, dtype=torch.float64))[0].split(
        [len(x) for x in halves["log_probs"]]
    )
    for ours, all_of_it, mask in zip(part, whole, given["loss_masks"], strict=True):
        assert (ours == all_of_it[::2])[mask[::2] != 0].all()


@pytest.mark.parametrize(
    ("changed", "more", "message"),
    [
        (
            table(type="ImportanceWeight", level="row") | {"context_parallel_size": 2},
            {},
            "'args.context_parallel_size' must be 1 for a correction on turns or rows",
        ),
        (
            table(type="ImportanceWeight", level="rollout"),
            {},
            "the correction ImportanceWeight must have level 'token', 'turn' or 'row' here",
        ),
        (
            table(type="ImportanceWeight", ratio="theta/behaviour"),
            {},
            "must have ratio='prox/behaviour' here, got 'theta/behaviour'",
        ),
        (
            table(type="Gate", statistic="k1", bounds=0.1, when="negative_advantage"),
            {},
            "the correction Gate must not read advantages here",
        ),
        (
            {},
            {"pg_loss": torch.ones(3)},
            r"'train_log_probs' must have 3 positions in all \(= len\(pg_loss\)\), got 20",
        ),
        (
            {},
            {"response_lengths": [5, 3, 4, 6, 3]},
            r"'pg_loss' must have 21 positions \(= the sum of 'response_lengths'\), got 20",
        ),
    ],
)
def test_errors_of_tis(changed, more, message):
    with pytest.raises(ValueError, match=rf"tis\(\): .*{message}"):
        correct(changed, **more)


def recipe(**changed):
    return {"rollmath": {"recipe": "grpo", "kl": False, "aggregation": "rollout_mean_token_mean", **changed}}


@pytest.mark.parametrize(
    ("name", "changed", "args"),
    [
        ("grpo", {"objective": {"type": "PPO", "clip": [0.2, 0.28]}}, {}),
        ("grpo, dual clip", {"objective": {"type": "PPO", "clip": [0.2, 0.28], "dual_clip": 1.3}}, {}),
        (
            "grpo, per token",
            {"objective": {"type": "PPO", "clip": [0.2, 0.28]}, "aggregation": "token_mean"},
            {"calculate_per_token_loss": True},
        ),
        ("gspo, narrow", {"objective": {"type": "GSPO", "clip": [0.02, 0.03], "unit": "row"}}, {}),
        ("grpo, entropy", {"objective": {"type": "PPO", "clip": [0.2, 0.28]}, "entropy": 0.01}, {}),
        ("grpo, k3", {"objective": {"type": "PPO", "clip": [0.2, 0.28]}, "kl": {"type": "KL", "coef": 0.1}}, {}),
        (
            "grpo, icepop",
            {
                "objective": {"type": "PPO", "clip": [0.2, 0.28]},
                "correction": {"type": "ImportanceWeight", "bounds": [0.5, 1.5], "outside": "zero"},
            },
            {},
        ),
    ],
)
def test_a_recipe_gives_slimes_loss(name, changed, args, monkeypatch):
    check(*run(monkeypatch, args, **recipe(**changed)), CASES[name])


def test_dr_grpo_divides_by_its_constant(monkeypatch):
    aggregation = {"unit": "rollout", "within": "sum", "divisor": 40.0}
    value, _, found = run(monkeypatch, {}, **recipe(aggregation=aggregation, objective={"type": "Reinforce"}))
    given, _ = batch()
    theta = torch.cat([x.detach() for x in found["log_probs"]])
    mask = torch.cat(given["loss_masks"])
    expected = -(torch.cat(given["advantages"]) * theta * mask).sum() / 40
    np.testing.assert_allclose(value.item(), expected.item(), rtol=1e-12)
    reducer = slime.loss_reducer(divisor=40)(*(given[n] for n in ("total_lengths", "response_lengths", "loss_masks")))
    torch.testing.assert_close(reducer(-torch.cat(given["advantages"]) * theta), expected)


def test_nothing_trained(monkeypatch):
    given, found = batch()
    install(monkeypatch, found)
    given["loss_masks"] = [torch.zeros_like(m) for m in given["loss_masks"]]
    given["rollout_mask_sums"] = torch.zeros(5)
    reduce = sum_of_sample_mean(given | {"rollout_mask_sums": torch.ones(5)}, False)
    value, log = slime.policy_loss(arguments(), given, torch.zeros(()), reduce)
    value.backward()
    assert value.item() == 0.0
    assert all(x.item() == 0 for x in log.values())
    assert not torch.cat([x.grad for x in found["log_probs"]]).any()


def test_no_tokens_keep_the_graph(monkeypatch):
    given, _ = batch()
    empty = {
        name: [x[:0] for x in given[name]]
        for name in ("log_probs", "rollout_log_probs", "ref_log_probs", "advantages", "loss_masks")
    }
    logits = torch.ones(3, requires_grad=True)
    install(monkeypatch, {name: [(logits * 1.0)[:0] for _ in range(5)] for name in ("log_probs", "entropy")})
    given |= empty | {"response_lengths": [0] * 5, "rollout_mask_sums": torch.zeros(5)}
    reduce = sum_of_sample_mean(given | {"rollout_mask_sums": torch.ones(5)}, False)
    slime.policy_loss(arguments(), given, logits, reduce)[0].backward()
    assert logits.grad.tolist() == [0.0] * 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"context_parallel_size": 2}, "'args.context_parallel_size' must be 1 for a custom loss"),
        ({"custom_tis_function_path": "mine.tis"}, "'args.custom_tis_function_path' is not called by a custom loss"),
        (
            {"custom_pg_loss_reducer_function_path": "mine.x"},
            "'args.custom_pg_loss_reducer_function_path' is not called",
        ),
        (
            recipe(aggregation="token_mean"),
            "'args.calculate_per_token_loss' must be True .* pass --calculate-per-token-loss",
        ),
        (recipe() | {"calculate_per_token_loss": True}, "must be False .* leave --calculate-per-token-loss away"),
        (recipe(aggregation="prompt_mean_token_mean"), "'aggregation' must be a mean over tokens, rows or rollouts"),
        (
            recipe(aggregation="seq_mean_token_mean"),
            "'aggregation' must not be over rows where a rollout is several samples",
        ),
        (recipe(objective={"type": "GSPO", "unit": "rollout"}), "'rows' must hold whole rollouts"),
    ],
)
def test_errors_of_the_loss(changed, message, monkeypatch):
    with pytest.raises(ValueError, match=rf"policy_loss\(\): .*{message}"):
        run(monkeypatch, {}, **changed)


def test_a_kl_term_without_a_reference(monkeypatch):
    given, found = batch()
    del given["ref_log_probs"]
    install(monkeypatch, found)
    with pytest.raises(
        ValueError, match=r"policy_loss\(\): 'batch' must have 'ref_log_probs' for the KL term; pass --use-kl"
    ):
        slime.policy_loss(arguments(use_kl_loss=True), given, torch.zeros(()), lambda x: x.sum())


def test_our_own_tis_may_be_named(monkeypatch):
    named = {"custom_tis_function_path": "rollmath.adapters.slime.tis"}
    check(*run(monkeypatch, {"use_tis": True} | named), CASES["grpo, tis"])


def test_errors_of_the_reducer():
    with pytest.raises(ValueError, match=r"loss_reducer\(\): 'divisor' must be finite and positive, got 0"):
        slime.loss_reducer(divisor=0)
    with pytest.raises(TypeError, match=r"loss_reducer\(\): 'divisor' must be a number"):
        slime.loss_reducer(divisor="4")
    make = slime.loss_reducer(divisor=4)
    with pytest.raises(
        ValueError, match=r"'calculate_per_token_loss' must be False, .* leave --calculate-per-token-loss away"
    ):
        make([4], [2], [torch.ones(2)], True)
    with pytest.raises(ValueError, match=r"'pg_loss' must have 2 positions .*, got 1; under context parallelism"):
        make([4], [2], [torch.ones(2)])(torch.ones(1))


def test_k1_without_the_ratio_is_refused(monkeypatch):
    """Its gradient does not depend on the reference; slime takes it, and it is its default."""
    with pytest.raises(ValueError, match=r"KL\(\): .*k1"):
        run(monkeypatch, {"use_kl_loss": True, "kl_loss_type": "k1"})
