"""Metrics: the numbers that a loop reports."""

from __future__ import annotations

from mnist_loop.bugs.bug import Bug, code

SUBJECT = "metrics"
NEEDS = "a loss or an accuracy that the loop returns"

BUGS = (
    Bug(
        id="mean-of-batch-means",
        title="a partial last batch counts as much as a full one",
        law="A reported loss or accuracy weighs each sample the same, also those of a small last batch.",
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
        explains=("metric-differs",),
        lines=(r"/ *len\((\w+\.)?\w*(loader|batches|dl)\w*\)",),
        reported=(
            "https://github.com/catalyst-team/catalyst/issues/799",
            "https://github.com/ganslate-team/ganslate/issues/74",
        ),
    ),
    Bug(
        id="metric-wrong-n",
        title="a sum is divided by the wrong number, or goes on from pass to pass",
        law="A reported loss or accuracy is a sum over the samples of its pass, divided by their number.",
        hint="divide a sum over samples by samples, and a sum over batches by batches",
        hints=(
            (r"weighted by \d+", "weight each batch by the samples that it has: len(labels), not batch_size"),
            (r"goes on from pass to pass|until then", "set sum and count to zero at the beginning of each pass"),
            (r"accumulated", "add up the loss before it is divided by the number of batches that are accumulated"),
        ),
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
        explains=("metric-differs", "mean-of-batch-means", "functional-dropout"),
        lines=(r"/ *(len\(\w+\)|\w*batch_size|\w*epochs)",),
        reported=(
            "https://github.com/pytorch/tutorials/issues/179",
            "https://github.com/pytorch/tutorials/issues/1486",
            "https://github.com/kazuto1011/svm-pytorch/issues/4",
            "https://github.com/mitmul/chainer-cifar10/issues/1",
            "https://github.com/espnet/espnet/issues/5090",
        ),
    ),
    Bug(
        id="last-batch-reported",
        severity="info",
        title="what is reported of an epoch is the loss or accuracy of its last batch",
        law="A reported loss or accuracy is of all batches of its pass.",
        hint="add up the batches' losses, each times its number of samples, and divide by the number of all samples",
        broken=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss = loss_fn(model(images), labels)
                loss.backward()
                optimizer.step()
            epoch_loss = loss.item()
        """),
        fixed=code("""
            total = 0.0
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss = loss_fn(model(images), labels)
                loss.backward()
                optimizer.step()
                total += loss.item() * len(labels)
            epoch_loss = total / len(train_loader.dataset)
        """),
        symptom=(
            "The curve is as noisy as single batches are, and the smaller the last batch is, the noisier. It may be "
            "meant as a sign of life, which is why this is no error."
        ),
        needs=NEEDS,
        explains=("metric-differs",),
        reported=("https://github.com/lucidrains/med-seg-diff-pytorch/pull/17",),
    ),
    Bug(
        id="metric-differs",
        severity="info",
        title="a reported loss or accuracy is none that the known formulas give",
        law="A number that an evaluation calls loss or accuracy is one of the usual ones.",
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
        catch_all=True,
    ),
)
