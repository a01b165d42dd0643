"""The most likely line: named for most mutants with a bug in one line, never a wrong one, and otherwise none."""

import textwrap

import pytest

from mnist_loop.bugs import BUGS
from mnist_loop.verdict.location import likely_line
from mnist_loop.verification.binding.bind import bind
from tests.loops.mutants import MUTANTS

# Of each mutant of which a line is named, the beginning of what stands there. Each was looked at and is the line to
# change, or, where something is missing, the line that it is missing at.
NAMED = {
    "accumulation.clears_each_micro_batch": "optimizer.zero_grad()",
    "accumulation.ClearsInForward": "self.optimizer.zero_grad()",
    "accumulation.adds_the_batches_up": "loss.backward()",
    "accumulation.SumsTheWindow": "loss.backward()",
    "conduct.changes_the_default_dtype": "torch.set_default_dtype(torch.float64)",
    "conduct.Deterministic": "torch.use_deterministic_algorithms(True)",
    "conduct.LeavesItsHooks": "module.register_forward_hook(self.count)",
    "conduct.changes_the_threads": "torch.set_num_threads(2 * (os.cpu_count() or 1) + 1)",
    "conduct.ends_the_program": "sys.exit(0)",
    "conduct.ends_the_process": "os._exit(0)",
    "conduct.GivesUp": 'raise SystemExit("the loss does not fall")',
    "data.rebuilds_the_loader": "loader = DataLoader(loader.dataset, batch_size=loader.batch_size)",
    "data.OneSamplerForAll": "return DataLoader(dataset, batch_size=batch_size, sampler=SequentialSa",
    "data.drops_the_last_batch": "loader = DataLoader(loader.dataset, batch_size=loader.batch_size, shuf",
    "data.breaks_for_debugging": "break",
    "data.ScalesTheTest": "sums = [self.loss_fn(self.net(x.to(self.device) / 255), y.to(self.devi",
    "data.seeds_from_the_system": "torch.seed()",
    "data.SeedsByTheClock": "torch.manual_seed(time.time_ns() % 2**63)",
    "gradients.never_clears": "loss.backward()",
    "gradients.ForgetsToClear": "loss.backward()",
    "gradients.clears_another_model": "start.zero_grad()",
    "gradients.clears_once_an_epoch": "optimizer.zero_grad()",
    "gradients.clears_at_the_epochs_end": "optimizer.zero_grad()",
    "gradients.clears_too_late": "optimizer.zero_grad()",
    "gradients.ClearsInItsStep": "self.optim.zero_grad(set_to_none=False)",
    "gradients.never_steps": "loss.backward()",
    "gradients.names_the_step": "opt.step  # noqa: B018  # the bug itself",
    "gradients.steps_the_scheduler_alone": "loss.backward()",
    "gradients.optimizes_the_head": "optimizer = torch.optim.SGD(model.head.parameters(), lr=0.05)",
    "gradients.OptimizesAnOlderModel": "self.optimizer = torch.optim.Adam(self.initial.parameters(), lr=1e-2)",
    "gradients.optimizes_weights_alone": 'opt = torch.optim.SGD([{"params": decay, "weight_decay": 1e-2}], lr=0.',
    "gradients.warms_up_the_head": "model.hidden.requires_grad_(False)",
    "gradients.StillFrozen": "parameter.requires_grad = False",
    "gradients.rebuilds_the_loss": "loss = value.clone().detach().requires_grad_(True)",
    "gradients.wraps_the_outputs": "outputs = Variable(outputs.data, requires_grad=True)",
    "gradients.step_skips_a_tensor": "unwritten.data.copy_(before)",
    "gradients.doubles_the_head": "parameter.grad.mul_(2)",
    "gradients.adds_noise": "p.grad += 0.01 * torch.randn_like(p.grad)",
    "gradients.one_batch_late": "parameter.grad = grad.clone()",
    "gradients.normalises_the_gradient": "p.grad /= p.grad.norm() + 1e-8",
    "gradients.rounds_the_parameters": "parameter.copy_(parameter.round(decimals=4))",
    "gradients.decays_by_hand": "p.data.mul_(0.999)",
    "gradients.clamps_the_weights": "parameter.data.clamp_(-0.1, 0.1)",
    "gradients.renews_the_optimizer": "optimizer = type(optimizer)(optimizer.param_groups, lr=optimizer.defau",
    "gradients.forgets_the_momentum": "optimizer.state.clear()",
    "gradients.wakes_everything": "parameter.requires_grad = True",
    "gradients.FrozenInName": "self.model = model.requires_grad_(True)",
    "conduct.trains_a_copy": "model = copy.deepcopy(model).to(device)",
    "conduct.KeepsACopy": "self.net = copy.deepcopy(net)",
    "losses.softmax_then_cross_entropy": "probabilities = F.softmax(model(inputs), dim=1)",
    "losses.appends_a_softmax": "classifier = nn.Sequential(net, nn.Softmax(dim=-1))",
    "losses.TrainsOnProbabilities": "return self.model(x.to(self.device)).softmax(-1)",
    "losses.nll_of_logits": "loss = F.nll_loss(output, target)",
    "losses.NegativeLikelihood": "self.loss = nn.NLLLoss()",
    "losses.squeezes_the_outputs": "outputs = model(inputs).squeeze(-1)",
    "losses.sums_over_the_batch": 'loss = F.cross_entropy(net(x), y, reduction="sum")',
    "losses.softmax_over_the_batch": "log_probs = F.log_softmax(model(inputs), dim=0)",
    "losses.centres_over_the_batch": "loss = loss_fn(outputs - outputs.mean(dim=0), y.to(device))",
    "metrics.averages_the_batches": "return float(running_loss) / len(loader)",
    "metrics.divides_means_by_samples": "return float(test_loss) / len(test_loader.dataset), float(correct) / l",
    "metrics.divides_sums_by_batches": "return float(total) / len(loader)",
    "modes.trains_in_eval": "model.eval()",
    "modes.SanityCheckFirst": "self.model.eval()",
    "modes.ValidatesWithinTheEpoch": "self.net.eval()",
    "modes.restores_the_head": "model.eval()",
    "modes.wakes_frozen_statistics": "model.train()",
    "modes.freezes_parameters_alone": "net.train()",
    "modes.drops_always": "return model(F.dropout(inputs, p=0.2))",
    "modes.DropsInForward": "return self.loss_fn(self.model(F.dropout(x, 0.1)), y), len(y)",
    "precision.steps_past_the_scaler": "optimizer.step()",
    "precision.HalfwayToAmp": "self.optimizer.step()",
    "clipping.clips_scaled_gradients": "clip_grad_norm_(model.parameters(), 0.5)",
    "clipping.unscales_too_late": "torch.nn.utils.clip_grad_norm_(net.parameters(), clip)",
    "precision.scales_in_half": "loss = F.cross_entropy(model(inputs).half(), targets)",
    "precision.LossInHalf": "log_probs = self.net(x.to(self.device)).half().log_softmax(dim=1)",
    "precision.weighs_in_half": 'losses = F.nll_loss(model(data), target, reduction="none").half()',
    "resources.sums_the_graphs": "total += loss * len(targets)",
    "resources.KeepsTheLosses": "self.losses.append(loss)",
    "resources.retains_the_graph": "loss.backward(retain_graph=True)",
    "resources.RetainsForLater": "loss.backward(retain_graph=True)",
    "resources.reads_each_loss": "total += loss.item() * len(targets)",
    "resources.ChecksEachLoss": "if not math.isfinite(float(loss.detach())):",
    "conduct.Heartbeat": "threading.Thread(target=self.watch, daemon=True).start()",
    "schedules.schedules_first": "scheduler.step()",
    "schedules.AdjustsThenTrains": "self.lr_scheduler.step()",
    "schedules.schedules_each_batch": "scheduler.step()",
    "schedules.schedules_in_both_loops": "sched.step()",
    "schedules.schedules_each_micro_batch": "scheduler.step()",
    "schedules.SchedulesInTheLoop": "self.scheduler.step()",
    "clipping.clips_too_late": "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.05)",
    "clipping.ClipsInItsCallback": "clip_grad_norm_(self.net.parameters(), self.grad_clip)",
    "clipping.clips_the_parts": "clip_grad_norm_(model.parameters(), 0.05)",
    "clipping.ClipsEachGradient": "clip_grad_norm_(self.model.parameters(), self.max_grad_norm)",
    "state.keeps_a_reference": "best_loss, best = loss, model.state_dict()",
    "state.CopiesTheDict": "self.best_weights = copy.copy(self.net.state_dict())",
}


def named(mutant):
    """Return the line that is named for a mutant."""
    where = bind(mutant.loop).location
    return likely_line(BUGS[mutant.bug], where.file, (where.line, where.end))


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_right_line_of_a_mutant_is_named_or_none(mutant):
    """Never a wrong one. A mutant that is new needs its line here, once someone has looked at it."""
    found = named(mutant)
    assert (found is not None) == (mutant.name in NAMED)
    assert found is None or found.text.strip().startswith(NAMED[mutant.name])


def test_a_line_is_named_for_more_than_half_of_the_mutants():
    """And each entry above is of a mutant that there is."""
    assert set(NAMED) <= {mutant.name for mutant in MUTANTS}
    assert len(NAMED) > len(MUTANTS) / 2


def test_each_pattern_is_of_a_bug_and_names_a_line():
    """No pattern is left that does nothing."""
    assert {bug.id for bug in BUGS.values() if bug.lines} == {m.bug for m in MUTANTS if m.name in NAMED}


@pytest.fixture
def search(tmp_path):
    """Return a function that looks for a bug in a source whose loop is ``def train``; returns number and text."""
    file = tmp_path / "my_train.py"

    def do(bug, source):
        file.write_text(textwrap.dedent(source), encoding="utf-8")
        lines = file.read_text(encoding="utf-8").splitlines()
        first = next(number for number, line in enumerate(lines, 1) if line.lstrip().startswith("def train"))
        indent = len(lines[first - 1]) - len(lines[first - 1].lstrip())
        last = first
        for number in range(first + 1, len(lines) + 1):
            if lines[number - 1].strip() and not lines[number - 1].startswith(" " * (indent + 1)):
                break
            last = number
        found = likely_line(BUGS[bug], str(file), (first, last))
        return found and (found.line, found.text)

    return do


def test_the_line_is_given_as_it_stands(search, tmp_path, monkeypatch):
    """With its indentation; the place is the file as it is found from here."""
    source = "def train(model, loader):\n    for x in loader:\n        loss.backward()  # here\n"
    assert search("zero-grad-missing", source) == (3, "        loss.backward()  # here")
    found = likely_line(BUGS["zero-grad-missing"], str(tmp_path / "my_train.py"), (1, 3))
    assert found.place == f"{tmp_path / 'my_train.py'}:3"
    monkeypatch.chdir(tmp_path)
    assert found.place == "my_train.py:3"


def test_of_two_lines_none_is_named(search):
    """Either could be it."""
    source = """
        def train(model, loader):
            first.backward()
            second.backward()
    """
    assert search("zero-grad-missing", source) is None


def test_a_line_that_is_there_goes_before_one_that_lacks_something(search):
    """zero_grad() of something else is the likelier line; of two of them none is."""
    source = """
        def train(model, loader):
            other.zero_grad()
            loss.backward()
    """
    assert search("zero-grad-missing", source) == (3, "    other.zero_grad()")
    assert search("zero-grad-missing", source + "            another.zero_grad()\n") is None


def test_comments_and_docstrings_are_no_code(search):
    """They talk of the bug more often than they are it."""
    source = '''
        def train(model, loader):
            """Softmax: softmax(x).

            softmax(y)
            """
            # softmax(x)
            y = x  # softmax(x)
            return softmax(y)
    '''
    assert search("softmax-before-cross-entropy", source) == (9, "    return softmax(y)")


def test_it_looks_in_the_loop_then_its_class_then_what_it_calls(search):
    """And not in the rest of the file, which may hold another loop."""
    helper = """
        def outputs_of(model, x):
            return F.softmax(model(x), dim=1)

    """
    calls = """
        def train(model, loader):
            loss_fn(outputs_of(model, x), y)
    """
    stranger = """
        def train(model, loader):
            loss_fn(model(x), y)
    """
    method = """
        class Trainer:
            def forward(self, x):
                return F.softmax(self.model(x))

            def train(self, loader):
                self.loss_fn(self.forward(x), y)
    """
    assert search("softmax-before-cross-entropy", helper + calls) == (3, "    return F.softmax(model(x), dim=1)")
    assert search("softmax-before-cross-entropy", helper + stranger) is None
    assert search("softmax-before-cross-entropy", method)[0] == 4
    assert search("softmax-before-cross-entropy", helper + method)[0] == 8


def test_a_break_counts_where_it_leaves_the_batches(search):
    """Not where it leaves the epochs, as early stopping does."""
    source = """
        def train(model, loader, epochs):
            for epoch in range(epochs):
                for x, y in loader:
                    {inner}
                {outer}
    """
    assert search("stops-after-first-batch", source.format(inner="break", outer="pass"))[0] == 5
    assert search("stops-after-first-batch", source.format(inner="pass", outer="break")) is None


def test_without_a_source_there_is_no_line(tmp_path):
    """No file, one that has gone, one that is no Python any more, one that is no text; a bug without a pattern."""
    file = tmp_path / "my_train.py"
    for content in (None, b"def train(:", b"'''", b"\xff\xfe", b"# coding: nonsense", b"\x00"):
        if content is not None:
            file.write_bytes(content)
        assert likely_line(BUGS["step-missing"], str(file), (1, 1)) is None
    file.write_text("loss.backward()")
    assert likely_line(BUGS["step-missing"], None, (1, 1)) is None
    assert likely_line(BUGS["step-missing"], str(file), None) is None
    assert likely_line(BUGS["loop-crashes"], str(file), (1, 1)) is None
    assert likely_line(BUGS["step-missing"], str(file), (1, 1)).line == 1
