"""Gradient accumulation: several batches make one step."""

from __future__ import annotations

from mnist_loop.bugs.bug import BACKWARD, ZERO_GRAD, Bug, code

SUBJECT = "gradient accumulation"
EXPLAINS = ("gradient-differs", "update-differs", "metric-differs")

BUGS = (
    Bug(
        id="zero-grad-per-micro-batch",
        title="gradients are cleared within the accumulation, so that only its last micro-batch counts",
        law="A step applies the gradients of all batches since the last step, not those of the last one alone.",
        hint="call optimizer.zero_grad() once per step, not once per micro-batch",
        broken=code("""
            batches = iter(train_loader)
            while window := list(islice(batches, accumulate)):
                for images, labels in window:
                    optimizer.zero_grad()
                    loss = loss_fn(model(images), labels) / len(window)
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
            "Of N micro-batches N - 1 are computed and thrown away: the step applies the last one's gradient, divided "
            "by N. The training looks like one with small batches and a learning rate that is N times too small."
        ),
        needs="declare accumulate=N",
        explains=(*EXPLAINS, "accumulation-tail"),
        lines=(ZERO_GRAD,),
        reported=(
            "https://github.com/pytorch/torchtitan/pull/3575",
            "https://github.com/bytetriper/RAE/issues/67",
        ),
    ),
    Bug(
        id="zero-grad-drops-tail",
        title="the accumulation that is open at an epoch's end is never stepped, and cleared by the next epoch",
        law="What an epoch's last batches brought is applied, too, where they do not fill a window.",
        hint="step what is left at the end of each epoch before clearing it",
        broken=code("""
            for epoch in range(epochs):
                optimizer.zero_grad()
                for i, (images, labels) in enumerate(train_loader):
                    loss = loss_fn(model(images), labels) / accumulate
                    loss.backward()
                    if (i + 1) % accumulate == 0:
                        optimizer.step()
                        optimizer.zero_grad()
        """),
        fixed=code("""
            for epoch in range(epochs):
                batches = iter(train_loader)
                while window := list(islice(batches, accumulate)):
                    optimizer.zero_grad()
                    for images, labels in window:
                        loss = loss_fn(model(images), labels) / len(window)
                        loss.backward()
                    optimizer.step()
        """),
        symptom=(
            "Where the batches of an epoch are no multiple of N, the last few are computed and lost: 24 of 120 with N "
            "= 32. With fewer than N batches nothing is trained at all."
        ),
        needs="declare accumulate=N",
        explains=(*EXPLAINS, "accumulation-tail", "zero-grad-per-micro-batch"),
        reported=(
            "https://github.com/ultralytics/ultralytics/pull/11217",
            "https://github.com/timoschick/pet/issues/36",
        ),
    ),
    Bug(
        id="accumulation-not-divided",
        title="accumulated gradients are summed, not averaged",
        law="N batches of B samples make the step of one batch of N B samples, not one N times as long.",
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
        explains=EXPLAINS,
        lines=(BACKWARD,),
        reported=(
            "https://github.com/openai/guided-diffusion/issues/111",
            "https://github.com/ByteDance-Seed/VeOmni/pull/963",
        ),
    ),
    Bug(
        id="accumulation-mean-of-means",
        severity="info",
        title="micro-batches of different sizes count the same in one step",
        law="Samples of a small last batch weigh as much in a step as those of the others.",
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
        explains=EXPLAINS,
        reported=("https://github.com/huggingface/trl/issues/2175",),
    ),
    Bug(
        id="accumulation-tail",
        title="the shorter accumulation at an epoch's end is divided by N, not by its own number of batches",
        law="The batches left at an epoch's end make a step of full length.",
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
        explains=(*EXPLAINS, "accumulation-mean-of-means"),
        reported=(
            "https://github.com/modelscope/ms-swift/pull/10084",
            "https://github.com/Lightning-AI/pytorch-lightning/issues/19987",
        ),
    ),
)
