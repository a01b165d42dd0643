"""The loss: what is minimised, against which targets, and how it is averaged."""

from __future__ import annotations

from mnist_loop.bugs.bug import Bug, code

SUBJECT = "loss"
NEEDS = 'a loss that is handed in, or declare expects="logits" or expects="log_probs"'
EXPLAINS = ("loss-differs", "gradient-differs", "metric-differs")

BUGS = (
    Bug(
        id="softmax-before-cross-entropy",
        decided_by=("verify", "check"),
        title="softmax is applied twice: before the cross-entropy, and in it",
        law="Cross-entropy takes the model's logits, not their softmax.",
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
        explains=(
            *EXPLAINS,
            "half-precision-overflow",
            "loss-wrong-target",
            "mixes-samples",
            "log-softmax-missing-for-nll",
        ),
        lines=(r"(?<!log_)\bsoftmax\(|\bSoftmax\(",),
        reported=(
            "https://github.com/Lightning-Universe/lightning-bolts/issues/662",
            "https://github.com/Lightning-Universe/lightning-bolts/pull/655",
        ),
    ),
    Bug(
        id="sigmoid-before-bce-with-logits",
        decided_by=("verify", "check"),
        title="the sigmoid is applied twice: before the binary cross-entropy with logits, and in it",
        law="The binary cross-entropy with logits is given logits, not the output of a sigmoid.",
        hint="hand the logits to binary_cross_entropy_with_logits, and take the sigmoid for predictions alone",
        broken=code("""
            loss_fn = torch.nn.BCEWithLogitsLoss()
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(torch.sigmoid(model(images)), labels).backward()
                optimizer.step()
        """),
        fixed=code("""
            loss_fn = torch.nn.BCEWithLogitsLoss()
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                optimizer.step()
        """),
        symptom=(
            "What the loss takes for logits lies between 0 and 1, so that each prediction lies between 0.5 and 0.73 "
            "and the loss cannot come near 0. The training is slow and stops early, and nothing raises."
        ),
        explains=("loss-differs", "gradient-differs"),
        lines=(r"[Ss]igmoid\(",),
    ),
    Bug(
        id="log-softmax-missing-for-nll",
        decided_by=("verify", "check"),
        title="nll_loss is given logits or probabilities instead of log-probabilities",
        law="The negative log-likelihood takes log-probabilities, not logits.",
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
        explains=EXPLAINS,
        lines=(r"nll_loss\(|NLLLoss\(",),
        reported=(
            "https://github.com/AnubhavGupta3377/Text-Classification-Models-Pytorch/issues/9",
            "https://github.com/yanx27/Pointnet_Pointnet2_pytorch/issues/30",
            "https://github.com/pytorch/pytorch/pull/12703",
        ),
    ),
    Bug(
        id="loss-broadcast",
        decided_by=("verify", "check"),
        title="predictions and targets of different shapes are broadcast against each other",
        law="Where the loss compares number with number, outputs and targets have the same shape.",
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
        explains=EXPLAINS,
        lines=(r"(?<!un)squeeze\(",),
        reported=(
            "https://github.com/pytorch/pytorch/issues/16045",
            "https://github.com/pytorch/pytorch/issues/19699",
        ),
    ),
    Bug(
        id="loss-sum",
        title="the loss is summed over the batch instead of averaged",
        law="The loss is the mean over the batch: a batch with every sample twice makes the same step.",
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
        explains=(*EXPLAINS, "metric-wrong-n", "loss-scaled"),
        lines=(r"reduction\s*=\s*[\"']sum[\"']",),
        reported=("https://github.com/jax-ml/jax/pull/3113",),
    ),
    Bug(
        id="loss-scaled",
        title="the loss is multiplied by a constant, or divided by the samples once more",
        law="The loss that is minimised is the mean loss, not a multiple of it.",
        hint="minimise the mean that the loss returns: it is divided by the number of samples already",
        broken=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                (loss_fn(model(images), labels) / len(labels)).backward()
                optimizer.step()
        """),
        fixed=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                optimizer.step()
        """),
        symptom=(
            "Each gradient is the right one times a constant, as with another learning rate: with 64 samples that are "
            "divided by twice, a 64th of the one that is set. Adam hides it, up to its epsilon."
        ),
        needs=NEEDS,
        explains=(*EXPLAINS, "metric-wrong-n", "mean-of-batch-means"),
        lines=(r"/ *len\(|\.mean\(",),
    ),
    Bug(
        id="loss-wrong-target",
        title="the loss is taken against something else than the labels of the batch",
        law="Each sample's loss is taken at its own label.",
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
        explains=EXPLAINS,
        reported=("https://github.com/isaaccorley/detcon-pytorch/pull/2",),
    ),
    Bug(
        id="mixes-samples",
        title="the output for one sample depends on the others in its batch",
        law="Without BatchNorm, neither a sample's input nor its loss depends on the other samples of its batch.",
        hint="apply softmax over dim=1, and change the order of axes with permute, not with view",
        broken=code("""
            probabilities = model(images).softmax(dim=0)
            loss = F.nll_loss(probabilities.log(), labels)
            loss.backward()
        """),
        fixed=code("""
            probabilities = model(images).softmax(dim=1)
            loss = F.nll_loss(probabilities.log(), labels)
            loss.backward()
        """),
        symptom=(
            "The derivative of output i with respect to image j is not zero. The model learns in spite of it, which "
            "hides the bug; the prediction for an image changes with the batch that it comes in, and a batch of one is "
            "nonsense. In train mode BatchNorm mixes samples on purpose."
        ),
        explains=(*EXPLAINS, "input-altered", "normalised-differently", "loss-wrong-target"),
        lines=(r"(softmax|mean|sum|std|var|normalize)\(.*dim\s*=\s*0",),
        reported=(
            "https://github.com/perone/euclidesdb/issues/2",
            "https://github.com/d2l-ai/d2l-en/pull/2274",
            "https://github.com/zhouhaoyi/Informer2020/issues/59",
        ),
    ),
    Bug(
        id="loss-not-finite",
        decided_by=("check",),
        title="a loss that is nan or infinite is trained on",
        law="A loss that is not finite leaves the parameters as they are.",
        hint="look at what the evidence names: a logarithm of 0, a division by 0, or a learning rate that is too large",
        broken=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss = -torch.log(model(images).softmax(dim=1)).gather(1, labels[:, None]).mean()
                loss.backward()
                optimizer.step()
        """),
        fixed=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss = -model(images).log_softmax(dim=1).gather(1, labels[:, None]).mean()
                loss.backward()
                optimizer.step()
        """),
        symptom=(
            "After one such step every parameter that it reached is nan, and so is every loss from there on. Nothing "
            "raises: the training goes on to its end, and saves a model that gives nan."
        ),
        reported=("https://github.com/pytorch/pytorch/issues/160016",),
    ),
    Bug(
        id="objective-differs",
        title="the gradient that is applied is not that of the objective that the loop declares",
        law="Each step applies the gradient of the declared objective, of the batch and with the modules at hand.",
        hint=(
            "compare the loss of the loop with the declared objective: a detach(), a mode, an index or a weight that "
            "only one of them has"
        ),
        broken=code("""
            fake = generator(images)
            verdict = critic(fake.detach())
            loss = loss_fn(fake, labels) + adversarial(verdict, torch.ones_like(verdict))
        """),
        fixed=code("""
            fake = generator(images)
            verdict = critic(fake)
            loss = loss_fn(fake, labels) + adversarial(verdict, torch.ones_like(verdict))
        """),
        symptom=(
            "The loss looks right, and one of its terms trains nothing, or trains towards something else: the labels "
            "of mixup belong to other images, a target follows the model that it should lead."
        ),
        needs="declare objective=FUNCTION, which returns the loss of one batch",
        reported=(
            "https://github.com/guopengf/FL-MRCM/issues/10",
            "https://github.com/wangle53/CSA-CDGAN/issues/5",
        ),
        catch_all=True,
    ),
    Bug(
        id="loss-differs",
        title="the loss that is minimised is not the one that was handed in, in a way that no known bug explains",
        law="The gradient that arrives at the outputs is that of the mean loss of the outputs and the labels.",
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
        explains=("gradient-differs", "metric-differs"),
        catch_all=True,
    ),
)
