"""The planted errors: what is changed where, and the tests that must notice."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    what: str
    file: str  # under replication/
    before: str  # occurs once in it
    after: str
    tests: str  # file or folder under tests/


UNCERTAINTY, THRESHOLD, ENGINE = "rollout/uncertainty.py", "rollout/threshold.py", "rollout/engine.py"
STATE, JUDGE, SLOTS, CACHE, MASKS = (f"rollout/{name}.py" for name in ("state", "judge", "slots", "cache", "masks"))
SAMPLING, MODULE, ACCUMULATE = "rollout/sampling.py", "training/module.py", "training/accumulate.py"
ADVANTAGE, ALLOCATION, LOSSES = "credit/advantage.py", "credit/allocation.py", "objectives/losses.py"
NORMALISE, OBJECTIVE, METRICS = "objectives/normalise.py", "objectives/objective.py", "evaluation/metrics.py"
T_UNCERTAINTY, T_THRESHOLD, T_ENGINE = (f"rollout/test_{name}.py" for name in ("uncertainty", "threshold", "engine"))
T_SAMPLING = "rollout/test_sampling.py"
T_ADVANTAGE, T_ALLOCATION, T_ASSIGN = (f"credit/test_{name}.py" for name in ("advantage", "allocation", "assign"))
T_LOSSES, T_MODULE, T_STEP = "objectives/test_losses.py", "training/test_module.py", "training/test_step.py"
T_SAMPLER, T_LORA, T_EXPORT = (f"training/test_{name}.py" for name in ("sampler", "lora", "export"))
STATISTICS, LOGPROBS = "evaluation/statistics.py", "training/logprobs.py"
T_LOGPROBS = "training/test_logprobs.py"

MUTANTS = [
    # uncertainty
    Mutant("sign of the surprisal", UNCERTAINTY, "return -logp.gather", "return logp.gather", T_UNCERTAINTY),
    Mutant("sign of the entropy", UNCERTAINTY, "return -(logp.exp() *", "return (logp.exp() *", T_UNCERTAINTY),
    Mutant("window one token short", UNCERTAINTY, "pad(total, (window, 0))", "pad(total, (window - 1, 0))", T_UNCERTAINTY),
    Mutant("full window at the start", UNCERTAINTY, ".clamp(max=window)\n", ".clamp(min=window, max=window)\n", T_UNCERTAINTY),
    Mutant("fall for rise", UNCERTAINTY, "mean[:, 1:] - mean[:, :-1]", "mean[:, :-1] - mean[:, 1:]", T_UNCERTAINTY),
    Mutant("segment one token long", UNCERTAINTY, "(t < end[:, None])", "(t <= end[:, None])", T_UNCERTAINTY),
    Mutant("segment starts late", UNCERTAINTY, "(t >= start[:, None])", "(t > start[:, None])", T_UNCERTAINTY),
    Mutant("max of the average", UNCERTAINTY, "torch.where(inside, h, -torch.inf)", "torch.where(inside, mean, -torch.inf)", T_UNCERTAINTY),
    Mutant("max and rise swapped", UNCERTAINTY, "w_max * extreme + w_rise * anomaly", "w_rise * extreme + w_max * anomaly", T_UNCERTAINTY),
    Mutant("sums in single precision", UNCERTAINTY, "h.cumsum(-1, dtype=torch.float64)", "h.cumsum(-1)", T_UNCERTAINTY),
    # threshold
    Mutant("statistics without the mask", THRESHOLD, "count = mask.sum(-1).clamp(min=1)", "count = x.shape[-1]", T_THRESHOLD),
    Mutant("sample std in the threshold", THRESHOLD, ".sum(-1) / count).sqrt()", ".sum(-1) / (count - 1)).sqrt()", T_THRESHOLD),
    Mutant("sign of kappa", THRESHOLD, "mean + kappa * std", "mean - kappa * std", T_THRESHOLD),
    Mutant("sign of the growth", THRESHOLD, "torch.exp(growth * erasures)", "torch.exp(-growth * erasures)", T_THRESHOLD),
    Mutant("linear growth", THRESHOLD, "torch.exp(growth * erasures)", "1 + growth * erasures", T_THRESHOLD),
    Mutant("sign of phi", THRESHOLD, "1 + strength * torch.tanh(z)", "1 - strength * torch.tanh(z)", T_THRESHOLD),
    Mutant("erases the certain", THRESHOLD, "(u > threshold.clamp", "(u < threshold.clamp", T_THRESHOLD),
    Mutant("cap off by one", THRESHOLD, "(erasures < cap)", "(erasures <= cap)", T_THRESHOLD),
    Mutant("no floor", THRESHOLD, "threshold.clamp(min=floor)", "threshold", T_THRESHOLD),
    Mutant("rounding decides", THRESHOLD, "(min=floor) + ROUNDING)", "(min=floor))", T_THRESHOLD),
    Mutant("running average turned round", THRESHOLD, "decay * before + (1 - decay) * now", "(1 - decay) * before + decay * now", T_THRESHOLD),
    # rollout
    Mutant("rollback one token short", STATE, "self.length[rows] = start\n", "self.length[rows] = start + 1\n", T_ENGINE),
    Mutant("an erasure counts twice", STATE, "self.erasures[rows, n] += 1", "self.erasures[rows, n] += 2", T_ENGINE),
    Mutant("history of the last segment only", STATE, "(self.history[rows, n] * n + self.u[rows, n].nan_to_num()) / (n + 1)", "self.u[rows, n].nan_to_num()", T_ENGINE),
    Mutant("history holds the current segment", JUDGE, "history = state.history[members, n[:, None]]", "history = (state.history[members, n[:, None]] * n[:, None] + state.u[members, n[:, None]].nan_to_num()) / (n[:, None] + 1)", T_ENGINE),
    Mutant("histories of members that ended", JUDGE, "history_modulation(history, reached,", "history_modulation(history, reached | True,", T_ENGINE),
    Mutant("judged before all first attempts", JUDGE, "repeat_interleave(self.scope) > state.segment", "repeat_interleave(self.scope) >= state.segment", T_ENGINE),
    Mutant("entropy reading ignored", JUDGE, "h = state.entropy[rows] if", "h = -state.logp[rows] if", T_ENGINE),
    Mutant("one member too many erases", STATE, "member < int(erased_fraction", "member <= int(erased_fraction", T_ENGINE),
    Mutant("same random numbers for every attempt", ENGINE, "(state.keys[rows], n, state.erasures[rows, n])", "(state.keys[rows], n, 0 * n)", T_ENGINE),
    Mutant("last attempt for the first", JUDGE, "torch.where(first.isnan(), u, first)", "u", T_ENGINE),
    Mutant("baseline over segments", JUDGE, "[rows // self.scope, :, n]", ".mean(2, keepdim=True).expand(-1, -1, state.segments)[rows // self.scope, :, n]", T_ENGINE),
    Mutant("cool members scored cool", ENGINE, "-token_surprisal(scored, token)", "-token_surprisal(drawn, token)", T_ENGINE),
    Mutant("one cool member too few", STATE, "member >= self.group_size - int(", "member > self.group_size - int(", T_ENGINE),
    Mutant("temperature multiplies", SAMPLING, "logits.float() / temperature", "logits.float() * temperature", T_SAMPLING),
    Mutant("draws the impossible", SAMPLING, "right=True", "right=False", T_SAMPLING),
    Mutant("position off by one", ENGINE, "state.prompt_size[rows, None] - 1 + times", "state.prompt_size[rows, None] + times", T_ENGINE),
    Mutant("a token sees the next", MASKS, "past = keys <= queries", "past = keys <= queries + 1", "rollout/test_cache.py"),
    Mutant("a window one token too wide", MASKS, "return {\"full_attention\": ready(past), \"sliding_attention\": ready(past & (keys > queries - window))}", "return {\"full_attention\": ready(past), \"sliding_attention\": ready(past & (keys >= queries - window))}", "rollout/test_cache.py"),
    Mutant("Mistral sees everything", MASKS, "past if window is None else past & (keys > queries - window)", "past", "rollout/test_cache.py"),
    Mutant("rows that change places keep their last entry", CACHE, "part = held[:, :width]", "part = held[:, : width - 1]", "rollout/test_cache.py"),
    Mutant("a row is moved short of its last entry", SLOTS, "(self.state.prompt_size + self.state.length)[held].max()", "(self.state.prompt_size + self.state.length)[held].max() - 2", T_ENGINE),
    Mutant("a prompt of another group", SLOTS, "rows // state.group_size - self.first", "(rows // state.group_size - self.first) // 2", T_ENGINE),
    Mutant("the answer sees past its window", "credit/allocation.py", "if window is not None:", "if False:", "credit/test_allocation.py"),
    Mutant("more rows in a pass than lanes", SLOTS, "count = min(count, self.lanes)", "count = min(count, self.lanes + 1)", T_ENGINE),
    Mutant("a finished row keeps its slot", SLOTS, "(self.holder < 0) | (self.state.phase[self.holder.clamp(min=0)] == DONE)", "self.holder < 0", T_ENGINE),
    Mutant("an evaluation ignores its top_k", "evaluation/run.py", "top_k=settings.top_k,", "", "evaluation/test_run.py"),
    Mutant("drawn from all tokens", ENGINE, "truncate(drawn, settings.top_k, settings.top_p)", "drawn", T_ENGINE),
    Mutant("training draws from a truncated distribution", "fit.py", "if rollout.top_k or rollout.top_p < 1:", "if rollout.top_k and rollout.top_p < 1:", "test_cli.py"),
    Mutant("segment of a token off by one", "rollout/trace.py", "(t[:, None] >= self.start[:, None])", "(t[:, None] > self.start[:, None])", T_ENGINE),
    Mutant("segment of a token counts absent ones", "rollout/trace.py", "(t[:, None] >= self.start[:, None]) & begun[:, None]", "(t[:, None] >= self.start[:, None])", T_MODULE),
    # credit
    Mutant("population std in the advantage", ADVANTAGE, "(count - 1).clamp(min=1)", "count.clamp(min=1)", T_ADVANTAGE),
    Mutant("population std in GRPO's advantage", ADVANTAGE, "reward.std(1, keepdim=True)", "reward.std(1, keepdim=True, correction=0)", T_ADVANTAGE),
    Mutant("mean over the batch", ADVANTAGE, "reward.mean(1, keepdim=True)", "reward.mean(0, keepdim=True)", T_ADVANTAGE),
    Mutant("absent members in the mean", ADVANTAGE, "count = present.sum(1) + negatives", "count = present.shape[1] + negatives", T_ADVANTAGE),
    Mutant("equal rewards are not silenced", ADVANTAGE, "(torch.fmax(highest, zero) > torch.fmin(lowest, zero)) & (count > 1)", "count > 1", T_ADVANTAGE),
    Mutant("an evaluation keeps the training's cool members", "evaluation/run.py", "cool_fraction=0.0,", "", "evaluation/test_run.py"),
    Mutant("equal rewards compete by allocation", ADVANTAGE, "(highest == lowest)[:, None]", "(highest < lowest)[:, None]", T_ADVANTAGE),
    Mutant("erased attempts are not in the std", ADVANTAGE, " + negatives * mean.square()", "", T_ADVANTAGE),
    Mutant("erased attempts are rewarded", ADVANTAGE, "(-mean / divisor)", "(mean / divisor)", T_ADVANTAGE),
    Mutant("rejection for acceptance", ADVANTAGE, "accepted / (accepted + (erasures * mine).sum(1))", "(erasures * mine).sum(1) / (accepted + (erasures * mine).sum(1))", T_ADVANTAGE),
    Mutant("weights that sum to 1", ALLOCATION, "share * present.sum(1, keepdim=True)", "share", T_ALLOCATION),
    Mutant("mass not divided by length", ALLOCATION, "mass / tokens.clamp(min=1)", "mass", T_ALLOCATION),
    Mutant("tau multiplies", ALLOCATION, ".log() / tau", ".log() * tau", T_ALLOCATION),
    Mutant("first layer for the last", ALLOCATION, "module.layer_idx == last", "module.layer_idx == 0", T_ALLOCATION),
    Mutant("queries see the future", ALLOCATION, "<= at[..., None]  # [R, W, S]", "<= at[..., None] + 1", T_ALLOCATION),
    Mutant("wrong key head", ALLOCATION, "key[:, head // share]", "key[:, head % key.shape[1]]", T_ALLOCATION),
    Mutant("sign of the overlong penalty", "credit/reward.py", "(-over / (buffer * longest))", "(over / (buffer * longest))", "credit/test_reward.py"),
    Mutant("plain members weighed by acceptance", "credit/assign.py", "torch.where(erasable[..., None], members * rate[:, None], members)", "members * rate[:, None]", T_ASSIGN),
    Mutant("no overlong penalty in segments", "credit/assign.py", "returns = (reward.view", "returns = (correct.view", T_ASSIGN),
    # objective
    Mutant("ratio turned round", LOSSES, "torch.exp(logp - old_logp)", "torch.exp(old_logp - logp)", T_LOSSES),
    Mutant("sign of the loss", LOSSES, "return -torch.minimum(", "return torch.minimum(", T_LOSSES),
    Mutant("the optimistic bound", LOSSES, "-torch.minimum(ratio", "-torch.maximum(ratio", T_LOSSES),
    Mutant("clips swapped", LOSSES, "ratio.clamp(1 - clip_low, 1 + clip_high)", "ratio.clamp(1 - clip_high, 1 + clip_low)", T_LOSSES),
    Mutant("KL turned round", LOSSES, "\n    d = reference_logp - logp", "\n    d = logp - reference_logp", T_LOSSES),
    Mutant("padding in the sequence's ratio", LOSSES, ".masked_fill(~mask, 0.0)\n", "\n", T_LOSSES),
    Mutant("sum for the mean of log-ratios", LOSSES, " / mask.sum(1, keepdim=True).clamp(min=1))", ")", T_LOSSES),
    Mutant("SAPO's temperatures swapped", LOSSES, "torch.where(advantage > 0, tau_positive, tau_negative)", "torch.where(advantage > 0, tau_negative, tau_positive)", T_LOSSES),
    Mutant("mean over the micro-batch", NORMALISE, ".clamp(min=1) / rows", ".clamp(min=1) / len(mask)", T_LOSSES),
    Mutant("mean over tokens for that over rows", NORMALISE, "mask / mask.sum(1, keepdim=True).clamp(min=1) / rows", "mask * len(mask) / mask.sum().clamp(min=1) / rows", T_LOSSES),
    Mutant("token mean over the micro-batch", NORMALISE, "mask / tokens.clamp(min=1)", "mask / mask.sum().clamp(min=1)", T_LOSSES),
    Mutant("row sum over the tensor's width", NORMALISE, "mask / (rows * longest)", "mask / (rows * mask.shape[1])", T_LOSSES),
    Mutant("gradients on padding", OBJECTIVE, "logp = torch.where(mask, logp, old_logp)", "logp = logp + 0.0", "objectives/test_objective.py"),
    Mutant("no KL in the loss", OBJECTIVE, "loss + settings.kl * kl", "loss", "objectives/test_objective.py"),
    # training
    Mutant("chunks of any vocabulary", LOGPROBS, "LOGITS // vocabulary", "LOGITS", T_LOGPROBS),
    Mutant("logits kept for the backward pass", LOGPROBS, "[checkpoint(score, before[i : i + size], chosen[i : i + size], use_reentrant=False)", "[score(before[i : i + size], chosen[i : i + size])", T_LOGPROBS),
    Mutant("gradient through the entropy", LOGPROBS, "token_entropy(logp.detach())", "token_entropy(logp)", T_LOGPROBS),
    Mutant("no empty chunks", LOGPROBS, "max(len(before), (at_least - 1) * size + 1)", "len(before)", T_LOGPROBS),
    Mutant("logits of the token itself", LOGPROBS, "(at - 1)[..., None]", "at[..., None]", T_STEP),
    Mutant("erased tokens in the normaliser", MODULE, "mask = seqs.token_mask & ~seqs.erased[:, None]", "mask = seqs.token_mask", T_MODULE),
    Mutant("attempts with the members' advantage", MODULE, "erased[group, segment][:, None]", "members[group, segment][:, None]", T_MODULE),
    Mutant("attention of all segments", MODULE, "rollout.segments[index, None] - 1", "0 * rollout.segments[index, None]", T_MODULE),
    Mutant("attempts without their prefix", "training/batch.py", "*kept[row][:start]", "*kept[row][:0]", T_STEP),
    Mutant("the loss is not weighted", MODULE, "(out.loss * batch.weight).sum()", "(out.loss * part.token_mask).sum()", T_STEP),
    Mutant("trained at temperature 1", MODULE, "part.tokens, self.config.rollout.temperature)", "part.tokens, 1.0)", T_STEP),
    Mutant("ratio to the policy itself", MODULE, "logp, part.old_logp, batch.advantage", "logp, logp.detach(), batch.advantage", T_STEP),
    Mutant("reference follows the policy", MODULE, "self.score(self.reference, part)", "self.score(self.policy, part)", T_STEP),
    Mutant("attention mass is not used", MODULE, "self.answer_mass(rollout, seqs) if look_back else None", "None", T_STEP),
    Mutant("minibatches of rows", MODULE, "[seqs.owner // g]  # [r]", "[seqs.owner % len(slots)]", T_STEP),
    Mutant("no warm-up in the first step", MODULE, "min(1.0, (step + 1) / (train.warmup + 1))", "1.0", T_STEP),
    Mutant("mean over processes", ACCUMULATE, "manual_backward(loss * world)", "manual_backward(loss)", T_STEP),
    Mutant("gradients of the step before", ACCUMULATE, "        optimizer.zero_grad()", "        pass", T_STEP),
    Mutant("gradient is not clipped", ACCUMULATE, "if grad_clip and not deepspeed", "if deepspeed", T_STEP),
    Mutant("refills where there is signal", "training/sampler.py", "(correct == correct[:, :1]).all(1)", "(correct != correct[:, :1]).any(1)", T_SAMPLER),
    Mutant("refill in the wrong slot", "training/sampler.py", "order[i] = len(slots) + new", "order[new] = len(slots) + new", T_SAMPLER),
    Mutant("frozen weights in the optimizer", MODULE, " if weight.requires_grad]", "]", T_LORA),
    Mutant("the same adapter in every layer", "training/lora.py", 'seed_for(seed, "lora", name)', 'seed_for(seed, "lora")', T_LORA),
    Mutant("adapters scaled by their rank", "training/lora.py", "math.sqrt(a.shape[1])", "math.sqrt(a.shape[0])", T_LORA),
    Mutant("adapters of the global stream", "training/lora.py", "uniform_(-1, 1, generator=generator)", "uniform_(-1, 1)", T_LORA),
    Mutant("adapters on some layers", "training/lora.py", 'target_modules="all-linear"', 'target_modules=["q_proj", "v_proj"]', T_LORA),
    Mutant("merged in the policy's precision", "training/export.py", "policy.float()  #", "pass  #", T_EXPORT),
    Mutant("the policy compared with itself", "training/export.py", "sample_logp(exported.to(policy.device), sample", "sample_logp(policy, sample", T_EXPORT),
    Mutant("an export of nan passes", "training/export.py", "if not difference <= limit", "if difference > limit", T_EXPORT),
    Mutant("the first rewards for the last", "training/card.py", "history[-LAST:]", "history[:LAST]", T_EXPORT),
    # metrics
    Mutant("Pass@k with replacement", METRICS, "(1 - correct.double()[:, None] / drawn)", "(1 - correct.double()[:, None] / n + 0 * drawn)", "evaluation/test_metrics.py"),
    Mutant("abstentions vote", METRICS, "winners = (counts == counts.amax(-1, keepdim=True)) & (counts > 0)", "winners = counts >= 0", "evaluation/test_metrics.py"),
    Mutant("AUC across groups", "evaluation/diagnostics.py", "float(above[pairs].mean())", "float(above.mean())", "evaluation/test_diagnostics.py"),
    Mutant("erased tokens in the means", "training/metrics.py", "part.token_mask & ~part.erased[:, None]", "part.token_mask", T_STEP),
    Mutant("KL of the step turned round", "training/metrics.py", "kl_k3(logp.detach(), part.old_logp)", "kl_k3(part.old_logp, logp.detach())", T_STEP),
    Mutant("erasures of kept segments", "training/metrics.py", "rollout.segments.sum() + rollout.erasures.sum()", "rollout.segments.sum()", T_STEP),
    Mutant("segments that nobody has are accepted", "training/metrics.py", "accepted[tried].sum(), tried.sum())\n            self", "accepted.sum(), accepted.numel())\n            self", T_STEP),
    Mutant("the same rollouts at every step", "training/sampler.py", '"rollout", step, slot', '"rollout", slot', T_SAMPLER),
    Mutant("the same rollouts at every place", "training/sampler.py", '"rollout", step, slot', '"rollout", step', T_SAMPLER),
    Mutant("the same refill at each try", "training/sampler.py", '"refill", step, slot, attempt', '"refill", step, slot', T_SAMPLER),
    Mutant("validation with erasure", "training/sampler.py", "fraction=0.0), None)", "fraction=1.0), None)", T_SAMPLER),
    Mutant("validation half cool", "training/sampler.py", "group_size=k, cool_fraction=0.0,", "group_size=k,", T_SAMPLER),
    Mutant("absent segments share", ALLOCATION, "score.masked_fill(~present, -torch.inf)", "score", T_ALLOCATION),
    Mutant("entropy of the cooler draw", ENGINE, "token_entropy(logp)", "token_entropy(drawn)", T_ENGINE),
    Mutant("a fixed threshold does not wait for histories", JUDGE, "self.waits = not known or erasure.history != 0", "self.waits = not known", T_ENGINE),
    Mutant("the running baseline is not used", JUDGE, "torch.where(unknown, beta, self.given[n])", "beta", T_ENGINE),
    Mutant("attempts keep the rows of the whole", "rollout/trace.py", "a._replace(row=place[a.row]) for a", "a for a", T_ENGINE),
    Mutant("tau is not used", "credit/assign.py", "present, settings.tau)", "present, 1.0)", T_ASSIGN),
    Mutant("population std in the interval", STATISTICS, "values.std(ddof=1)", "values.std()", "evaluation/test_statistics.py"),
    # scoring and the gate
    Mutant("few problems, no stretch", STATISTICS, "(weights @ values - values.mean()) * stretch", "weights @ values - values.mean()", "evaluation/test_statistics.py"),
    Mutant("seeds without their t", STATISTICS, "student(seeds - 1) ** 2 * values.mean(1)", "values.mean(1)", "evaluation/test_statistics.py"),
    Mutant("a wide interval reproduces", STATISTICS, "(found.high - found.low) / 2 > resolution or", "", "evaluation/test_statistics.py"),
    Mutant("a sample at its budget is over it", METRICS, "tokens[..., None] <= torch", "tokens[..., None] < torch", "evaluation/test_metrics.py"),
    Mutant("right answers vote by spelling", "evaluation/samples.py", 'CORRECT if s["verdict"] == "correct" else vote', "vote", "evaluation/test_samples.py"),
    Mutant("an interval that holds 0 reproduces", STATISTICS, " or found.low <= 0 <= found.high", "", "evaluation/test_statistics.py"),
    Mutant("a gain below the claimed one reproduces", STATISTICS, "if gain.high < margin", "if gain.high < 0", "evaluation/test_statistics.py"),
    Mutant("warm starts do not vary", "gate/reference.py", "return float(student(len(accuracies) - 1) * accuracies.std(ddof=1))", "return 0.0", "gate/test_gate.py"),
    Mutant("an edited reference is recorded", "gate/reference.py", 'if "seal" in reference and not is_sealed(reference):', "if False:", "gate/test_gate.py"),
    Mutant("any interval passes", "gate/judge.py", 'if interval.high - interval.low > 2 * (row["high"] - row["low"]):', "if False:", "gate/test_gate.py"),
    Mutant("contradictions pass", "grading/verdict.py", "if len(sides) == 1:", "if True:", "grading/test_verdict.py"),
    Mutant("weights of another policy resume", "evaluate.py", "for source in [*policy, *", "for source in [*", "evaluation/test_resume.py"),
    Mutant("erased tokens are free", "evaluation/samples.py", 'int(sample["tokens"] + sample["erased_tokens"])', 'int(sample["tokens"])', "evaluation/test_samples.py"),
    Mutant("at equal tokens as many samples", "compare.py", "int(budget / side.tokens + 1e-9)", "side.correct.shape[1]", "evaluation/test_compare.py"),
    Mutant("the gate asks for overlap", "gate/judge.py", 'row["low"] <= interval.mean <= row["high"]', 'row["low"] <= interval.high and interval.low <= row["high"]', "gate/test_gate.py"),
    Mutant("a sign within its interval", "gate/judge.py", "else interval.high < 0", "else interval.mean < 0", "gate/test_gate.py"),
    Mutant("one reading that fails fails the claim", "gate/judge.py", " and not words & {REPRODUCED, UNDERPOWERED}", "", "gate/test_gate.py"),
    Mutant("any reference is sealed", "gate/reference.py", 'reference.get("seal") == seal_of(reference)', "True", "gate/test_gate.py"),
    Mutant("deleted code is not stale", "gate/stale.py", "if not (absent and elsewhere):", "if not absent:", "gate/test_gate.py"),
    Mutant("the tolerance is open", "grading/numeral.py", "<= Fraction(repr(tolerance))", "< Fraction(repr(tolerance))", "grading/test_verdict.py"),
    Mutant("a rate at its cap stops", "grading/rates.py", "if rate > cap:", "if rate >= cap:", "grading/test_rates.py"),
]  # fmt: skip
