"""Styles with one bug each: for each law of a watched training, at least three, each in another style.

A mutant is a style in which pieces of code are replaced, and the line that a finding of it must show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from tests.watching.running import Run, run, source_of


@dataclass(frozen=True, eq=False)
class Mutant:
    """A style with one bug.

    Attributes:
        bug: the id that must be named.
        style: its file.
        line: a part of the line that the finding must show.
        edits: what is replaced, and by what; each is there once.
    """

    bug: str
    style: str
    line: str
    edits: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.bug}-{self.style.removesuffix('.py')}"

    @property
    def source(self) -> str:
        """Its source."""
        source = source_of(self.style)
        for right, wrong in self.edits.items():
            assert source.count(right) == 1, f"{self}: {right!r} is there {source.count(right)} times"
            source = source.replace(right, wrong)
        return source

    @property
    def line_number(self) -> int:
        """The number of the line that the finding must show."""
        found = [number for number, text in enumerate(self.source.splitlines(), start=1) if self.line in text]
        assert len(found) == 1, f"{self}: {self.line!r} is there {len(found)} times"
        return found[0]


MUTANTS: list[Mutant] = []


def mutants(bug: str, *rows: tuple[str, str, Mapping[str, str]]) -> None:
    """Add mutants of one bug: style, line, edits."""
    MUTANTS.extend(Mutant(bug, f"{style}.py", line, edits) for style, line, edits in rows)


@cache
def mutant_run(mutant: Mutant) -> Run:
    """A mutant, run once a session under watch."""
    return run(mutant.style, mutant.source, watched=True)


# -- gradients and steps -----------------------------------------------------------------------------------------------

ZERO = "        optimizer.zero_grad()\n"

mutants(
    "zero-grad-missing",
    ("inline", "loss.backward()", {ZERO: ""}),
    ("functions", "loss.backward()", {ZERO: ""}),
    ("trainer", "loss.backward()", {"        self.optimizer.zero_grad(set_to_none=True)\n": ""}),
    ("closure", "loss.backward()", {ZERO: ""}),
    ("several_optimizers", "loss.backward()", {"        head_optimizer.zero_grad()\n": ""}),
    ("optimizer_per_layer", "loss.backward()", {"    model.zero_grad()\n": ""}),
    ("gan", "errD_fake.backward()", {"            netD.zero_grad(set_to_none=set_to_none)\n": ""}),
    ("wgan", "loss_D.backward()", {"        optimizer_D.zero_grad()\n": ""}),
    ("vae", "loss.backward()", {ZERO: ""}),
    ("dqn", "loss.backward()", {"    optimizer.zero_grad()\n": ""}),
    ("reinforce", "policy_loss.backward()", {"    optimizer.zero_grad()\n": ""}),
    ("accumulation", "loss.backward()", {"            optimizer.zero_grad()\n": ""}),
    ("amp_functions", "scaler.scale(loss).backward()", {ZERO: ""}),
    ("graph", "loss.backward()", {"    optimizer.zero_grad()\n": ""}),
    ("transformer", "loss.backward()", {"    optimizer.zero_grad(set_to_none=True)\n": ""}),
    ("domain_adversarial", "loss.backward()", {ZERO: ""}),
    ("checkpointing", "loss.backward()", {"    optimizer.zero_grad()\n": ""}),
    ("maml", "loss.backward()", {"    meta_optimizer.zero_grad()\n": ""}),
)
mutants(
    "zero-grad-per-epoch",
    ("inline", "loss.backward()", {ZERO: "", "    model.train()\n": "    model.train()\n    optimizer.zero_grad()\n"}),
    (
        "functions",
        "loss.backward()",
        {ZERO: "", "    model.train()\n    for": "    model.train()\n    optimizer.zero_grad()\n    for"},
    ),
    ("vae", "loss.backward()", {ZERO: "", "    train_loss = 0\n": "    train_loss = 0\n    optimizer.zero_grad()\n"}),
    (
        "quantisation",
        "loss.backward()",
        {ZERO: "", "    if epoch > 1:": "    optimizer.zero_grad()\n    if epoch > 1:"},
    ),
)
mutants(
    "zero-grad-after-backward",
    ("inline", "optimizer.zero_grad()", {ZERO: "", "loss.backward()\n": "loss.backward()\n" + ZERO}),
    ("functions", "optimizer.zero_grad()", {ZERO: "", "loss.backward()\n": "loss.backward()\n" + ZERO}),
    ("vae", "optimizer.zero_grad()", {ZERO: "", "        train_loss += loss.item()\n": ZERO}),
    (
        "trainer",
        "self.optimizer.zero_grad(set_to_none=True)",
        {
            "        self.optimizer.zero_grad(set_to_none=True)\n": "",
            "        self.optimizer.step()\n": (
                "        self.optimizer.zero_grad(set_to_none=True)\n        self.optimizer.step()\n"
            ),
        },
    ),
    (
        "optimizer_per_layer",
        "        optimizer.step()",
        {
            "    model.zero_grad()\n": "",
            "    for optimizer in optimizers:\n": "    model.zero_grad()\n    for optimizer in optimizers:\n",
        },
    ),
)
mutants(
    "step-missing",
    ("inline", "loss.backward()", {"        optimizer.step()\n": ""}),
    ("trainer", "loss.backward()", {"        self.optimizer.step()\n": "", "        self.scheduler.step()\n": ""}),
    ("closure", "loss.backward()", {"        optimizer.step()\n": ""}),
    (
        "functions",
        "loss.backward()",
        {"        optimizer.step()\n": "        optimizer.step\n", "    scheduler.step()\n": ""},
    ),
    ("transformer", "loss.backward()", {"    optimizer.step()\n": ""}),
    ("vae", "loss.backward()", {"        optimizer.step()\n": ""}),
)
mutants(
    "step-double",
    (
        "inline",
        "optimizer.step()  # again",
        {"optimizer.step()\n": "optimizer.step()\n        optimizer.step()  # again\n"},
    ),
    (
        "trainer",
        "self.optimizer.step()  # again",
        {"        self.scheduler.step()\n": "        self.optimizer.step()  # again\n        self.scheduler.step()\n"},
    ),
    ("closure", "optimizer.step()  # again", {ZERO: "        optimizer.step()  # again\n" + ZERO}),
    (
        "several_optimizers",
        "encoder_optimizer.step()  # again",
        {
            "        head_optimizer.step()\n": (
                "        head_optimizer.step()\n        encoder_optimizer.step()  # again\n"
            )
        },
    ),
)
# Torch refuses the backward pass itself if a weight that it needs has been stepped: these models have one layer.
LATE = "        optimizer.step()\n" + ZERO + "        loss.backward()\n"
mutants(
    "last-gradient-dropped",
    ("workers", "optimizer.step()", {ZERO: "", "        loss.backward()\n        optimizer.step()\n": LATE}),
    ("resume", "optimizer.step()", {ZERO: "", "        loss.backward()\n        optimizer.step()\n": LATE}),
    ("schedules", "optimizer.step()", {ZERO: "", "        loss.backward()\n        optimizer.step()\n": LATE}),
)
mutants(
    "optimizer-misses-parameters",
    ("inline", "optimizer = torch", {"for epoch": "model.fc2 = nn.Linear(8, 3)\n\nfor epoch"}),
    (
        "functions",
        "optimizer = optim.Adam",
        {"\ndef train(epoch)": "model[4] = nn.Linear(12, 4)\n\n\ndef train(epoch)"},
    ),
    (
        "finetuning",
        "optimizer = torch.optim.SGD(",
        {
            '    [{"params": model.conv': '    # the head is made anew below\n    [{"params": model.conv',
            "criterion = ": "model.fc = nn.Linear(4, 2)\ncriterion = ",
        },
    ),
    (
        "diffusion",
        "optimizer = torch",
        {"@torch.no_grad()\ndef sample": "model[3] = nn.Linear(16, 2)\n\n\n@torch.no_grad()\ndef sample"},
    ),
)
mutants(
    "optimizer-recreated",
    (
        "functions",
        "    optimizer = optim.Adam",
        {
            ("    model.train()\n    for"): (
                "    optimizer = optim.Adam(model.parameters(), lr=1e-2)\n    model.train()\n    for"
            ),
            "    scheduler.step()\n": "",
        },
    ),
    (
        "several_optimizers",
        "    head_optimizer = torch.optim.Adam",
        {
            "    for x, y in loader": (
                "    head_optimizer = torch.optim.Adam(head.parameters(), lr=0.01)\n    for x, y in loader"
            ),
            "head_optimizer = torch.optim.Adam(head.parameters(), lr=0.01)\nschedule": "schedule",
        },
    ),
    (
        "quantisation",
        "    optimizer = torch.optim.SGD",
        {
            "    if epoch > 1:": (
                "    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)\n    if epoch > 1:"
            ),
            "optimizer = torch.optim.SGD(model.parameters(), lr=0.05)\nfor": "for",
        },
    ),
)
mutants(
    "graph-detached",
    (
        "inline",
        "loss.backward()",
        {"        outputs = model(images)\n": "        outputs = model(images).detach().requires_grad_()\n"},
    ),
    (
        "closure",
        "loss.backward()",
        {"prediction = model(x)\n": "prediction = torch.tensor(model(x).tolist(), requires_grad=True)\n"},
    ),
    (
        "functions",
        "loss.backward()",
        {"        loss.backward()\n": "        loss = loss.data.requires_grad_()\n        loss.backward()\n"},
    ),
)

# -- losses ------------------------------------------------------------------------------------------------------------

mutants(
    "softmax-before-cross-entropy",
    ("inline", "loss = loss_fn", {"loss_fn(outputs, labels)": "loss_fn(torch.softmax(outputs, dim=1), labels)"}),
    ("trainer", "loss = self.criterion", {"nn.Linear(10, 2))": "nn.Linear(10, 2), nn.Softmax(dim=1))"}),
    (
        "language_model",
        "loss = criterion",
        {"return self.decoder(self.drop(output))": "return self.decoder(self.drop(output)).softmax(-1)"},
    ),
    (
        "tensors",
        "self.loss(logits",
        {'        logits = self.body(batch["x"])': '        logits = self.body(batch["x"]).softmax(1)'},
    ),
    (
        "checkpointing",
        "loss = nn",
        {"self.last = nn.Linear(8, 2)": "self.last = nn.Sequential(nn.Linear(8, 2), nn.Softmax(dim=-1))"},
    ),
)
mutants(
    "sigmoid-before-bce-with-logits",
    ("gan_retained", "g_loss = bce", {"nn.Linear(8, 1))": "nn.Linear(8, 1), nn.Sigmoid())"}),
    (
        "siamese",
        "        loss = criterion",
        {"criterion(1 - distance, target)": "criterion(torch.sigmoid(1 - distance), target)"},
    ),
    (
        "domain_adversarial",
        "loss = loss + F",
        {"Reverse.apply(h, 0.3)).squeeze(1)": "Reverse.apply(h, 0.3)).squeeze(1).sigmoid()"},
    ),
)
mutants(
    "log-softmax-missing-for-nll",
    (
        "functions",
        "loss = F.nll_loss(output, target)\n".strip(),
        {
            ("        output = F.log_softmax(model(data), dim=1)\n        loss"): (
                "        output = model(data)\n        loss"
            )
        },
    ),
    (
        "graph",
        "loss = F.nll_loss",
        {"F.log_softmax(adjacency @ self.second(x), dim=1)": "F.softmax(adjacency @ self.second(x), dim=1)"},
    ),
    ("inline", "loss = loss_fn", {"nn.CrossEntropyLoss()": "nn.NLLLoss()"}),
    ("language_model", "loss = criterion", {"nn.CrossEntropyLoss()": "nn.NLLLoss()"}),
)
mutants(
    "loss-broadcast",
    (
        "closure",
        "loss = loss_fn",
        {"y = 1 + 2 * x + 0.1 * torch.randn(60, 1)": "y = 1 + 2 * x[:, 0] + 0.1 * torch.randn(60)"},
    ),
    ("dqn", "loss = nn.SmoothL1Loss", {"expected.unsqueeze(1)": "expected"}),
    ("actor_critic", "value_loss = nn", {"critic(states[index]).squeeze(1)": "critic(states[index])"}),
    ("mc_dropout", "loss = nn", {"sum(dim=1, keepdim=True)": "sum(dim=1)"}),
)
mutants(
    "loss-not-finite",
    ("inline", "loss.backward()", {"lr=0.01": "lr=1e30"}),
    (
        "functions",
        "loss.backward()",
        {"        loss = F.nll_loss(output": "        loss = F.nll_loss(F.relu(output).log()"},
    ),
    (
        "nan_skipping",
        "loss.backward()",
        {"if step < 6 and not": "if step < 0 and not", "if not torch.isfinite(norm)": "if torch.isnan(loss)"},
    ),
    ("vae", "loss.backward()", {"1 + logvar - mu": "1 + logvar.log() - mu"}),
)

# -- modes -------------------------------------------------------------------------------------------------------------

mutants(
    "trains-in-eval-mode",
    ("transformer", "model.eval()", {"    model.train()\n": ""}),  # an evaluation comes first
    (
        "functions",
        "model.eval()  # in training",
        {"    model.train()\n": "    model.eval()  # in training\n"},
    ),
    ("plateau", "model.eval()  # in training", {"    model.train()\n": "    model.eval()  # in training\n"}),
    (
        "trainer",
        "self.model.eval()  # in training",
        {"            self.model.train()\n": "            self.model.eval()  # in training\n"},
    ),
    (
        "siamese",
        "net.eval()  # in training",
        {"    net.train()\n    for": "    net.eval()  # in training\n    for", "net.train()\nfor step": "for step"},
    ),
)
mutants(
    "train-mode-not-restored",
    ("layers_made_late", "model.eval()", {"    model.train()\n": ""}),
    (
        "functions",
        "model.eval()",
        {"    model.train()\n": "", "for epoch in range(3):\n": "model.train()\nfor epoch in range(3):\n"},
    ),
    (
        "trainer",
        "self.model.eval()",
        {
            "            self.model.train()\n": "",
            "        for epoch in": "        self.model.train()\n        for epoch in",
        },
    ),
    (
        "plateau",
        "model.eval()",
        {"    model.train()\n": "", "best, waited = float": "model.train()\nbest, waited = float"},
    ),
    ("tensors", "model.eval()", {"    model.train()\n": ""}),
    ("autoencoder", "autoencoder.eval()", {"    autoencoder.train(was_training)\n": ""}),
)
EVALUATED = "            output = F.log_softmax(model(data), dim=1)  # evaluated\n"
mutants(
    "evaluates-in-train-mode",
    ("layers_made_late", "losses = [", {"    model.eval()\n": ""}),
    (
        "functions",
        "output = F.log_softmax(model(data), dim=1)  # evaluated",
        {
            "    model.eval()\n": "",
            "            output = F.log_softmax(model(data), dim=1)\n": EVALUATED,
        },
    ),
    ("trainer", "return sum(self.criterion", {"        self.model.eval()\n": ""}),
    ("plateau", "val_loss += nn", {"    model.eval()\n": ""}),
    ("siamese", "right = sum", {"    net.eval()\n": ""}),
    (
        "finetuning",
        "loss = criterion(model(inputs), labels)  # either",
        {
            "            model.eval()\n": "            model.train()\n",
            "loss = criterion(model(inputs), labels)\n                if": (
                "loss = criterion(model(inputs), labels)  # either\n                if"
            ),
        },
    ),
)
mutants(
    "evaluates-with-grad",
    (
        "functions",
        "output = F.log_softmax(model(data), dim=1)  # evaluated",
        {
            (
                "    with torch.no_grad():\n"
                "        for data, target in val_loader:\n"
                "            output = F.log_softmax(model(data), dim=1)\n"
            ): (
                "    if True:\n"
                "        for data, target in val_loader:\n"
                "            output = F.log_softmax(model(data), dim=1)  # evaluated\n"
            )
        },
    ),
    ("trainer", "return sum(self.criterion", {"    @torch.no_grad()\n": ""}),
    ("plateau", "val_loss += nn", {"    with torch.no_grad():\n": "    if True:\n"}),
    ("inline", "outputs = model(images.view(-1, 16))", {"    with torch.no_grad():\n": "    if True:\n"}),
)

# -- data --------------------------------------------------------------------------------------------------------------

mutants(
    "not-shuffled",
    ("inline", "for batch, (images", {"shuffle=True": "shuffle=False"}),
    ("functions", "for data, target in train_loader", {", shuffle=True": ""}),
    ("trainer", "[self.train_step(batch)", {", shuffle=True": ""}),
    ("diffusion", "for (x,) in loader", {"shuffle=True, ": ""}),
)
mutants(
    "same-order-each-epoch",
    ("inline", "for batch, (images", {"    model.train()\n": "    model.train()\n    torch.manual_seed(0)\n"}),
    (
        "functions",
        "for data, target in train_loader",
        {"    model.train()\n    for": "    model.train()\n    torch.manual_seed(0)\n    for"},
    ),
    (
        "trainer",
        "[self.train_step(batch)",
        {"            self.model.train()\n": "            self.model.train()\n            torch.manual_seed(0)\n"},
    ),
    ("vae", "for (data,) in train_loader", {"    train_loss = 0\n": "    train_loss = 0\n    torch.manual_seed(0)\n"}),
)
mutants(
    "split-leak",
    (
        "trainer",
        "return sum(self.criterion",
        {
            "random_split(data, [40, 20], generator=torch.Generator().manual_seed(0))": (
                "(torch.utils.data.Subset(data, range(begin, end)) for begin, end in ((0, 40), (30, 60)))"
            )
        },
    ),
    ("cross_validation", "right = sum", {"if i not in held_out]": "if i not in held_out[3:]]"}),
    (
        "autoencoder",
        "total = sum",
        {
            "train = DataLoader(TensorDataset(torch.rand(40, 6))": (
                "data = TensorDataset(torch.rand(60, 6))\ntrain = DataLoader(torch.utils.data.Subset(data, range(40))"
            ),
            "val = DataLoader(TensorDataset(torch.rand(20, 6))": (
                "val = DataLoader(torch.utils.data.Subset(data, range(30, 60))"
            ),
        },
    ),
)
mutants(
    "validates-on-train",
    (
        "functions",
        "for data, target in val_loader",
        {"DataLoader(TensorDataset(x[48:], y[48:]), batch_size=6)": "DataLoader(train_loader.dataset, batch_size=6)"},
    ),
    (
        "vae",
        "for (data,) in test_loader",
        {"DataLoader(TensorDataset(torch.rand(15, 12))": "DataLoader(train_loader.dataset"},
    ),
    ("plateau", "for a, b in val", {"DataLoader(TensorDataset(x[40:], y[40:])": "DataLoader(train.dataset"}),
)
mutants(
    "evaluation-incomplete",
    (
        "functions",
        "for data, target in val_loader",
        {"y[48:]), batch_size=6)": "y[48:]), batch_size=6, drop_last=True)"},
    ),
    (
        "vae",
        "for (data,) in test_loader",
        {"torch.rand(15, 12)), batch_size=5)": "torch.rand(15, 12)), batch_size=4, drop_last=True)"},
    ),
    (
        "plateau",
        "for a, b in val",
        {
            "            val_loss += nn.functional.mse_loss(model(a), b).item()\n": (
                "            val_loss += nn.functional.mse_loss(model(a), b).item()\n"
                "            if val_loss:\n"
                "                break\n"
            )
        },
    ),
)

# -- schedules ---------------------------------------------------------------------------------------------------------

mutants(
    "scheduler-before-optimizer",
    (
        "functions",
        "scheduler.step()",
        {"    scheduler.step()\n": "", "    train(epoch)\n": "    scheduler.step()\n    train(epoch)\n"},
    ),
    (
        "trainer",
        "self.scheduler.step()",
        {
            "        self.scheduler.step()\n": "",
            "        inputs, targets = batch\n": "        inputs, targets = batch\n        self.scheduler.step()\n",
        },
    ),
    (
        "several_optimizers",
        "schedule.step()",
        {"    schedule.step()\n": "", "    for x, y in loader": "    schedule.step()\n    for x, y in loader"},
    ),
    (
        "accumulation",
        "scheduler.step()",
        {
            "            scheduler.step()\n": "",
            "            optimizer.step()\n": "            scheduler.step()\n            optimizer.step()\n",
        },
    ),
)
mutants(
    "scheduler-not-stepped",
    ("functions", "scheduler = ", {"    scheduler.step()\n": ""}),
    ("several_optimizers", "schedule = ", {"    schedule.step()\n": ""}),
    ("trainer", "self.scheduler = ", {"        self.scheduler.step()\n": ""}),
    ("accumulation", "scheduler = ", {"            scheduler.step()\n": ""}),
)
mutants(
    "scheduler-horizon",
    (
        "trainer",
        "self.scheduler = ",
        {"total_steps=epochs * len(self.train_loader)": "total_steps=10 * epochs * len(self.train_loader)"},
    ),
    ("accumulation", "scheduler = ", {"T_max=12": "T_max=100"}),
    ("autoencoder", "scheduler = ", {"total_iters=24": "total_iters=1000"}),
    ("averages", "scheduler = torch", {"T_max=3": "T_max=30"}),
)

# -- clipping ----------------------------------------------------------------------------------------------------------

mutants(
    "clip-after-step",
    (
        "trainer",
        "nn.utils.clip_grad_norm_",
        {
            "        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)\n": "",
            "        self.scheduler.step()\n": (
                "        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)\n        self.scheduler.step()\n"
            ),
        },
    ),
    (
        "accumulation",
        "torch.nn.utils.clip_grad_norm_",
        {
            "            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.5)\n": "",
            "            scheduler.step()\n": (
                "            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.5)\n"
                "            scheduler.step()\n"
            ),
        },
    ),
    (
        "dqn",
        "torch.nn.utils.clip_grad_value_",
        {
            ("    torch.nn.utils.clip_grad_value_(policy_net.parameters(), 100)\n    optimizer.step()\n"): (
                "    optimizer.step()\n    torch.nn.utils.clip_grad_value_(policy_net.parameters(), 100)\n"
            )
        },
    ),
    (
        "actor_critic",
        "nn.utils.clip_grad_norm_",
        {
            (
                "            nn.utils.clip_grad_norm_([*actor.parameters(), *critic.parameters()], 0.5)\n"
                "            optimizer.step()\n"
            ): (
                "            optimizer.step()\n"
                "            nn.utils.clip_grad_norm_([*actor.parameters(), *critic.parameters()], 0.5)\n"
            )
        },
    ),
)
mutants(
    "clip-before-backward",
    (
        "trainer",
        "nn.utils.clip_grad_norm_",
        {
            ("        loss.backward()\n        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)\n"): (
                "        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)\n        loss.backward()\n"
            )
        },
    ),
    (
        "transformer",
        "nn.utils.clip_grad_norm_",
        {"    loss.backward()\n": "    nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n    loss.backward()\n"},
    ),
    (
        "actor_critic",
        "nn.utils.clip_grad_norm_",
        {
            (
                "            loss.backward()\n"
                "            nn.utils.clip_grad_norm_([*actor.parameters(), *critic.parameters()], 0.5)\n"
            ): (
                "            nn.utils.clip_grad_norm_([*actor.parameters(), *critic.parameters()], 0.5)\n"
                "            loss.backward()\n"
            )
        },
    ),
)
mutants(
    "clip-of-nothing",
    (
        "trainer",
        "nn.utils.clip_grad_norm_",
        {
            "clip_grad_norm_(self.model.parameters(), 1.0)": "clip_grad_norm_(self.parameters, 1.0)",
            "        self.epochs = epochs\n": (
                "        self.parameters = self.model.parameters()\n        self.epochs = epochs\n"
            ),
        },
    ),
    (
        "accumulation",
        "torch.nn.utils.clip_grad_norm_",
        {
            "clip_grad_norm_(model.parameters()": "clip_grad_norm_(parameters",
            "accumulate = 4\n": "accumulate = 4\nparameters = model.parameters()\n",
        },
    ),
    (
        "dqn",
        "torch.nn.utils.clip_grad_value_",
        {
            "clip_grad_value_(policy_net.parameters(), 100)": "clip_grad_value_(parameters, 100)",
            "memory = deque": "parameters = policy_net.parameters()\nmemory = deque",
        },
    ),
)
mutants(
    "clip-before-unscale",
    ("amp", "torch.nn.utils.clip_grad_norm_", {"            scaler.unscale_(optimizer)\n": ""}),
    (
        "amp_functions",
        "nn.utils.clip_grad_norm_(model.parameters(), clip_grad_norm)  # scaled",
        {
            (
                "                scaler.unscale_(optimizer)\n"
                "                nn.utils.clip_grad_norm_(model.parameters(), clip_grad_norm)\n"
            ): "                nn.utils.clip_grad_norm_(model.parameters(), clip_grad_norm)  # scaled\n"
        },
    ),
    ("amp_class", "nn.utils.clip_grad_value_", {"            self.scaler.unscale_(optimizer)\n": ""}),
)

# -- precision and resources -------------------------------------------------------------------------------------------

mutants(
    "scaler-bypassed",
    (
        "amp",
        "optimizer.step()  # not the scaler's",
        {
            (
                "            scaler.unscale_(optimizer)\n"
                "            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
                "            scaler.step(optimizer)\n"
            ): "            optimizer.step()  # not the scaler's\n"
        },
    ),
    (
        "amp_functions",
        "optimizer.step()  # not the scaler's",
        {
            "            scaler.step(optimizer)\n": "            optimizer.step()  # not the scaler's\n",
            "for clip in (1.0, None)": "for clip in (None,)",
        },
    ),
    (
        "amp_class",
        "optimizer.step()  # not the scaler's",
        {
            (
                "            self.scaler.unscale_(optimizer)\n"
                "            nn.utils.clip_grad_value_(part.parameters(), 0.1)\n"
                "            self.scaler.step(optimizer)\n"
                "        self.scaler.update()\n"
            ): "            optimizer.step()  # not the scaler's\n"
        },
    ),
)
UNSCALED = """\
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
"""
mutants(
    "scaler-update-missing",
    ("amp", "scaler.step(optimizer)", {"            scaler.update()\n": "", UNSCALED: ""}),
    (
        "amp_functions",
        "scaler.step(optimizer)",
        {
            "            scaler.update()\n": "",
            (
                "                scaler.unscale_(optimizer)\n"
                "                nn.utils.clip_grad_norm_(model.parameters(), clip_grad_norm)\n"
                "            scaler"
            ): ("                pass\n            scaler"),
        },
    ),
    (
        "amp_skips",
        "scaler.step(optimizer)",
        {"        scaler.update()\n": "", "init_scale=2.0**127": "init_scale=2.0**7"},
    ),
)
mutants(
    "graph-leak",
    (
        "functions",
        "loss.backward()",
        {
            "        optimizer.step()\n": "        optimizer.step()\n        losses.append(loss)\n",
            "\ndef train": "losses = []\n\n\ndef train",
        },
    ),
    (
        "optimizer_per_layer",
        "loss.backward()",
        {
            "    loss.backward()\n": "    total = total + loss\n    loss.backward()\n",
            "for step in range(20)": "total = 0\nfor step in range(20)",
        },
    ),
    (
        "accumulation",
        "loss.backward()",
        {
            "        loss.backward()\n": "        loss.backward()\n        kept.append(loss)\n",
            "accumulate = 4\n": "accumulate = 4\nkept = []\n",
        },
    ),
    (
        "dqn",
        "loss.backward()",
        {"    print(loss.item())\n": "    losses.append(loss)\n", "memory = deque": "losses = []\nmemory = deque"},
    ),
)
mutants(
    "retain-graph",
    ("inline", "loss.backward(", {"loss.backward()": "loss.backward(retain_graph=True)"}),
    ("functions", "loss.backward(", {"loss.backward()": "loss.backward(retain_graph=True)"}),
    ("trainer", "loss.backward(", {"loss.backward()": "loss.backward(retain_graph=True)"}),
)
