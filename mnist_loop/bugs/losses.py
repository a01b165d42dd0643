"""The loss: what is minimised, against which targets, and how it is averaged."""

from __future__ import annotations

from mnist_loop.bugs.bug import Bug, code

SUBJECT = "loss"
NEEDS = 'a loss that is handed in, or declare expects="logits" or expects="log_probs"'

BUGS = (
    Bug(
        id="softmax-before-cross-entropy",
        subject=SUBJECT,
        severity="bug",
        title="softmax is applied twice: before the cross-entropy, and in it",
        hint="give cross_entropy the logits, and apply softmax only where probabilities are shown",
        broken=code("""
            probabilities = model(images).softmax(dim=1)
            loss = F.cross_entropy(probabilities, labels)
            loss.backward()
        """),
        fixed=code("""
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
        """),
        symptom=(
            "With C classes the loss lies between ln(e + C - 1) - 1 and ln(e + C - 1), whatever the logits are: "
            "between 1.4612 and 2.4612 for ten. The gradients are small, the training is slow, and the accuracy looks "
            "plausible."
        ),
        needs=NEEDS,
        reported=(
            "https://github.com/Lightning-Universe/lightning-bolts/issues/662",
            "https://github.com/Lightning-Universe/lightning-bolts/pull/655",
        ),
    ),
    Bug(
        id="log-softmax-missing-for-nll",
        subject=SUBJECT,
        severity="bug",
        title="nll_loss is given logits or probabilities instead of log-probabilities",
        hint="apply log_softmax before nll_loss, or use cross_entropy on the logits",
        broken=code("""
            logits = model(images)
            loss = F.nll_loss(logits, labels)
            loss.backward()
        """),
        fixed=code("""
            logits = model(images)
            loss = F.nll_loss(logits.log_softmax(dim=1), labels)
            loss.backward()
        """),
        symptom=(
            "nll_loss takes no logarithm itself: it is minus the mean of what it finds at the labels. On logits it "
            "turns negative and falls without end, because raising all logits lowers it; on probabilities it ends at "
            "-1."
        ),
        needs=NEEDS,
        reported=(
            "https://github.com/AnubhavGupta3377/Text-Classification-Models-Pytorch/issues/9",
            "https://github.com/yanx27/Pointnet_Pointnet2_pytorch/issues/30",
            "https://github.com/pytorch/pytorch/pull/12703",
        ),
    ),
    Bug(
        id="loss-broadcast",
        subject=SUBJECT,
        severity="bug",
        title="predictions and targets of different shapes are broadcast against each other",
        hint="give predictions and targets the same shape, with squeeze(1) or unsqueeze(1)",
        broken=code("""
            predictions = model(inputs)  # (N, 1)
            loss = F.mse_loss(predictions, targets)  # targets: (N,)
            loss.backward()
        """),
        fixed=code("""
            predictions = model(inputs).squeeze(1)  # (N,)
            loss = F.mse_loss(predictions, targets)
            loss.backward()
        """),
        symptom=(
            "(N, 1) against (N,) gives N x N differences: each prediction is held to all targets, and the model learns "
            "the mean of the targets. torch warns once; the loss falls, and stops at the variance of the targets."
        ),
        needs=NEEDS,
        reported=(
            "https://github.com/pytorch/pytorch/issues/16045",
            "https://github.com/pytorch/pytorch/issues/19699",
        ),
    ),
    Bug(
        id="loss-sum",
        subject=SUBJECT,
        severity="bug",
        title="the loss is summed over the batch instead of averaged",
        hint='average the loss over the batch, with reduction="mean" or a division by its number of samples',
        broken=code("""
            loss = F.cross_entropy(model(images), labels, reduction="sum")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        """),
        fixed=code("""
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        """),
        symptom=(
            "The gradient grows with the batch: with 64 samples it is 64 times too long, and a batch in which each "
            "sample comes twice moves the model twice as far. The learning rate no longer means what it says, and a "
            "larger batch makes the training explode."
        ),
        needs=NEEDS,
        reported=("https://github.com/jax-ml/jax/pull/3113",),
    ),
    Bug(
        id="loss-wrong-target",
        subject=SUBJECT,
        severity="bug",
        title="the loss is taken against something else than the labels of the batch",
        hint="pass the labels of this batch to the loss, after the outputs, as class indices",
        broken=code("""
            outputs = model(images)
            loss = loss_fn(outputs, outputs.argmax(dim=1))
            loss.backward()
        """),
        fixed=code("""
            outputs = model(images)
            loss = loss_fn(outputs, labels)
            loss.backward()
        """),
        symptom=(
            "Against its own predictions, shifted labels, a wrong column or arguments in the wrong order, the loss may "
            "fall beautifully while the accuracy stays at chance. The loss differs from the one that the same outputs "
            "have with the labels of their images."
        ),
        needs=NEEDS,
        reported=("https://github.com/isaaccorley/detcon-pytorch/pull/2",),
    ),
    Bug(
        id="accumulation-not-divided",
        subject=SUBJECT,
        severity="bug",
        title="accumulated gradients are summed, not averaged",
        hint="divide each loss by the number of micro-batches that make up the step",
        broken=code("""
            batches = iter(train_loader)
            while window := list(islice(batches, accumulate)):
                optimizer.zero_grad()
                for images, labels in window:
                    loss = loss_fn(model(images), labels)
                    loss.backward()
                optimizer.step()
        """),
        fixed=code("""
            batches = iter(train_loader)
            while window := list(islice(batches, accumulate)):
                optimizer.zero_grad()
                for images, labels in window:
                    loss = loss_fn(model(images), labels) / len(window)
                    loss.backward()
                optimizer.step()
        """),
        symptom=(
            "The step applies N times the gradient of the large batch that it stands for: with plain SGD the learning "
            "rate is N times what was asked for, and clipping bites N times too early. Adam hides most of it."
        ),
        needs="declare accumulate=N",
        reported=(
            "https://github.com/openai/guided-diffusion/issues/111",
            "https://github.com/ByteDance-Seed/VeOmni/pull/963",
        ),
    ),
    Bug(
        id="accumulation-mean-of-means",
        subject=SUBJECT,
        severity="info",
        title="micro-batches of different sizes count the same in one step",
        hint="weight each loss by its share of the samples in the step",
        broken=code("""
            optimizer.zero_grad()
            for images, labels in window:
                loss = loss_fn(model(images), labels) / len(window)
                loss.backward()
            optimizer.step()
        """),
        fixed=code("""
            samples = sum(len(labels) for _, labels in window)
            optimizer.zero_grad()
            for images, labels in window:
                loss = loss_fn(model(images), labels) * len(labels) / samples
                loss.backward()
            optimizer.step()
        """),
        symptom=(
            "Where the micro-batches of a step differ in size, the samples of a small one weigh more, and the step "
            "differs from that of the one large batch. With batches of equal size the two are the same; with "
            "sentences, whose tokens are what counts, they never are."
        ),
        needs="declare accumulate=N",
        reported=("https://github.com/huggingface/trl/issues/2175",),
    ),
    Bug(
        id="accumulation-tail",
        subject=SUBJECT,
        severity="bug",
        title="the shorter accumulation at an epoch's end is divided by N, not by its own number of batches",
        hint="divide by the number of micro-batches that the step really has",
        broken=code("""
            batches = iter(train_loader)
            while window := list(islice(batches, accumulate)):
                optimizer.zero_grad()
                for images, labels in window:
                    loss = loss_fn(model(images), labels) / accumulate
                    loss.backward()
                optimizer.step()
        """),
        fixed=code("""
            batches = iter(train_loader)
            while window := list(islice(batches, accumulate)):
                optimizer.zero_grad()
                for images, labels in window:
                    loss = loss_fn(model(images), labels) / len(window)
                    loss.backward()
                optimizer.step()
        """),
        symptom=(
            "With r batches left, the last step of each epoch applies r/N of the gradient that it should; all others "
            "are right. Small data sets with a large N suffer most."
        ),
        needs="declare accumulate=N",
        reported=(
            "https://github.com/modelscope/ms-swift/pull/10084",
            "https://github.com/Lightning-AI/pytorch-lightning/issues/19987",
        ),
    ),
    Bug(
        id="half-precision-overflow",
        subject=SUBJECT,
        severity="bug",
        title="a sum in half precision overflows or loses its digits",
        hint="compute the loss and its sums in float32, and leave half precision to torch.autocast",
        broken=code("""
            losses = F.cross_entropy(model(images), labels, reduction="none").half()
            loss = losses.sum() / len(losses)
            loss.backward()
        """),
        fixed=code("""
            losses = F.cross_entropy(model(images), labels, reduction="none").float()
            loss = losses.sum() / len(losses)
            loss.backward()
        """),
        symptom=(
            "float16 ends at 65504 and has three digits: sums over a large batch become inf, gradients below 3e-8 "
            "become zero, and one nan spreads through all parameters. Loss or gradient is not finite, or far from its "
            "value in float64."
        ),
        reported=(
            "https://github.com/pytorch/pytorch/issues/29429",
            "https://github.com/datamol-io/graphium/issues/406",
        ),
    ),
    Bug(
        id="loss-differs",
        subject=SUBJECT,
        severity="bug",
        title="the loss that is minimised is not the one that was handed in, in a way that no known bug explains",
        hint="minimise the loss that is handed in and nothing besides, or declare own_objective=True",
        broken=code("""
            loss = loss_fn(model(images), labels)
            loss = (loss - 0.1).abs() + 0.1
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        """),
        fixed=code("""
            loss = loss_fn(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        """),
        symptom=(
            "On the same outputs and labels, the value that backward() starts from is not that of the loss, by more "
            "than rounding explains: a penalty, a weight or a transformation has come in between."
        ),
        needs=NEEDS,
    ),
)
