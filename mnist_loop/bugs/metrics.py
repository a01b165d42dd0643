"""Metrics: the numbers that a loop reports."""

from __future__ import annotations

from mnist_loop.bugs.bug import Bug, code

SUBJECT = "metrics"
NEEDS = "a loss or an accuracy that the loop returns"

BUGS = (
    Bug(
        id="mean-of-batch-means",
        subject=SUBJECT,
        severity="bug",
        title="a partial last batch counts as much as a full one",
        hint="weight each batch by its number of samples, and divide by the number of all samples",
        broken=code("""
            losses = []
            model.eval()
            with torch.no_grad():
                for images, labels in test_loader:
                    losses.append(loss_fn(model(images), labels).item())
            test_loss = sum(losses) / len(losses)
        """),
        fixed=code("""
            losses = []
            model.eval()
            with torch.no_grad():
                for images, labels in test_loader:
                    losses.append(loss_fn(model(images), labels).item() * len(labels))
            test_loss = sum(losses) / len(test_loader.dataset)
        """),
        symptom=(
            "The reported number is the mean over the batches, not over the samples: with 10,000 samples in batches of "
            "64, each of the last 16 counts four times. It changes with the batch size, although the model does not."
        ),
        needs=NEEDS,
        reported=(
            "https://github.com/catalyst-team/catalyst/issues/799",
            "https://github.com/ganslate-team/ganslate/issues/74",
        ),
    ),
    Bug(
        id="metric-wrong-n",
        subject=SUBJECT,
        severity="bug",
        title="a sum is divided by the wrong number",
        hint="divide a sum over samples by samples, and a sum over batches by batches",
        broken=code("""
            total = 0.0
            model.eval()
            with torch.no_grad():
                for images, labels in test_loader:
                    total += loss_fn(model(images), labels).item()
            test_loss = total / len(test_loader.dataset)
        """),
        fixed=code("""
            total = 0.0
            model.eval()
            with torch.no_grad():
                for images, labels in test_loader:
                    total += loss_fn(model(images), labels).item() * len(labels)
            test_loss = total / len(test_loader.dataset)
        """),
        symptom=(
            "The number is off by a whole ratio, such as the batch size: a loss of 0.036 where ln 10 = 2.303 is due at "
            "the start, or an accuracy of 59 or of 0.015."
        ),
        needs=NEEDS,
        reported=(
            "https://github.com/pytorch/tutorials/issues/179",
            "https://github.com/pytorch/tutorials/issues/1486",
            "https://github.com/kazuto1011/svm-pytorch/issues/4",
        ),
    ),
    Bug(
        id="metric-in-train-mode",
        subject=SUBJECT,
        severity="bug",
        title="a metric is computed by another forward of training samples, in train mode",
        hint="compute training metrics from the outputs that were trained on, or in eval mode",
        broken=code("""
            for images, labels in train_loader:
                train_step(images, labels)
                with torch.no_grad():
                    correct += (model(images).argmax(dim=1) == labels).sum().item()
        """),
        fixed=code("""
            for images, labels in train_loader:
                train_step(images, labels)
            model.eval()
            with torch.no_grad():
                for images, labels in train_loader:
                    correct += (model(images).argmax(dim=1) == labels).sum().item()
            model.train()
        """),
        symptom=(
            "The second forward moves BatchNorm's running statistics a second time for each batch, and draws new "
            "dropout masks: the metric is random and too low, and looking at it changes the model."
        ),
        reported=("https://github.com/martin-gorner/tensorflow-mnist-tutorial/issues/48",),
    ),
    Bug(
        id="metric-differs",
        subject=SUBJECT,
        severity="info",
        title="a reported loss or accuracy is none that the known formulas give",
        hint="check the formula of the metric, and over which samples it is taken",
        broken=code("""
            def train_epoch():
                running = 0.0
                for images, labels in train_loader:
                    running = 0.9 * running + 0.1 * train_step(images, labels)
                return {"loss": running}
        """),
        fixed=code("""
            def train_epoch():
                total, samples = 0.0, 0
                for images, labels in train_loader:
                    total += train_step(images, labels) * len(labels)
                    samples += len(labels)
                return {"loss": total / samples}
        """),
        symptom=(
            "The number is neither the mean over the samples nor one of the usual mistakes. It may be meant so, such "
            "as a running mean for a progress bar, which is why this is no error."
        ),
        needs=NEEDS,
    ),
)
