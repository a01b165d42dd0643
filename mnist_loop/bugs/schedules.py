"""Schedules, clipping and mixed precision: when the learning rate changes, and what is done to gradients on the way."""

from __future__ import annotations

from mnist_loop.bugs.bug import Bug, code

SUBJECT = "schedules, clipping and precision"
SCHEDULER = "a scheduler that is handed in"

BUGS = (
    Bug(
        id="scheduler-before-optimizer",
        subject=SUBJECT,
        severity="bug",
        title="the schedule is stepped before the first optimizer step, and its first value is skipped",
        hint="call scheduler.step() after the optimizer's steps, at the end of the epoch",
        broken=code("""
            for epoch in range(epochs):
                scheduler.step()
                train_one_epoch(model, train_loader, loss_fn, optimizer)
        """),
        fixed=code("""
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer)
                scheduler.step()
        """),
        symptom=(
            "The first step is made at the schedule's second learning rate, and all others are one epoch early. torch "
            "warns of it once; before torch 1.1 this order was the right one, so old code is full of it."
        ),
        needs=SCHEDULER,
        reported=(
            "https://github.com/lincc-frameworks/hyrax/issues/983",
            "https://github.com/lufficc/SSD/pull/98",
        ),
    ),
    Bug(
        id="scheduler-per-batch",
        subject=SUBJECT,
        severity="bug",
        title="a schedule that counts epochs is stepped once per batch",
        hint='call scheduler.step() once per epoch, or declare schedule="per-batch"',
        broken=code("""
            for epoch in range(epochs):
                for images, labels in train_loader:
                    train_step(images, labels)
                    scheduler.step()
        """),
        fixed=code("""
            for epoch in range(epochs):
                for images, labels in train_loader:
                    train_step(images, labels)
                scheduler.step()
        """),
        symptom=(
            "The learning rate runs through its whole schedule within the first epoch and is close to zero from then "
            "on: the loss falls for a few hundred batches and then freezes."
        ),
        needs=SCHEDULER,
        reported=(
            "https://github.com/ivadomed/ivadomed/pull/55",
            "https://github.com/automl/Auto-PyTorch/pull/210",
            "https://github.com/pytorch/tutorials/pull/640",
        ),
    ),
    Bug(
        id="scheduler-per-micro-batch",
        subject=SUBJECT,
        severity="bug",
        title="the schedule is stepped for each micro-batch, not for each step of the optimizer",
        hint="call scheduler.step() where optimizer.step() is called",
        broken=code("""
            batches = iter(train_loader)
            while window := list(islice(batches, accumulate)):
                optimizer.zero_grad()
                for images, labels in window:
                    (loss_fn(model(images), labels) / len(window)).backward()
                    scheduler.step()
                optimizer.step()
        """),
        fixed=code("""
            batches = iter(train_loader)
            while window := list(islice(batches, accumulate)):
                optimizer.zero_grad()
                for images, labels in window:
                    (loss_fn(model(images), labels) / len(window)).backward()
                optimizer.step()
                scheduler.step()
        """),
        symptom=(
            "The schedule runs N times too fast: warm-up is over after 1/N of its steps, and a cosine ends when 1/N of "
            "the training is done, or turns back up."
        ),
        needs=f'{SCHEDULER}; declare accumulate=N and schedule="per-batch"',
        reported=("https://github.com/h2oai/h2o-llmstudio/issues/663",),
    ),
    Bug(
        id="clip-missing",
        subject=SUBJECT,
        severity="bug",
        title="gradients longer than the declared clip are applied as they are",
        hint="call clip_grad_norm_ between loss.backward() and optimizer.step()",
        broken=code("""
            def train_step(images, labels, max_norm=1.0):
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                optimizer.step()
        """),
        fixed=code("""
            def train_step(images, labels, max_norm=1.0):
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
                optimizer.step()
        """),
        symptom=(
            "The option is there, and nothing reads it, or it is read for some of the parameters alone. All is well "
            "until the first long gradient."
        ),
        needs="declare clip=c",
        reported=(
            "https://github.com/NVIDIA/OpenSeq2Seq/pull/192",
            "https://github.com/msalhab96/SpeeQ/issues/50",
        ),
    ),
    Bug(
        id="clip-after-step",
        subject=SUBJECT,
        severity="bug",
        title="gradients are clipped after the step that has used them",
        hint="move clip_grad_norm_ between loss.backward() and optimizer.step()",
        broken=code("""
            optimizer.zero_grad()
            loss_fn(model(images), labels).backward()
            optimizer.step()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        """),
        fixed=code("""
            optimizer.zero_grad()
            loss_fn(model(images), labels).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        """),
        symptom=(
            "The step applies the whole gradient; what is clipped is cleared before it is used again. With the loss "
            "scaled up a million times, plain SGD moves the parameters by far more than learning rate times clip."
        ),
        needs="declare clip=c",
        reported=(
            "https://github.com/awslabs/graphstorm/issues/1366",
            "https://github.com/VGraphRNN/VGRNN/issues/4",
        ),
    ),
    Bug(
        id="clip-per-micro-batch",
        subject=SUBJECT,
        severity="bug",
        title="gradients are clipped before they are all accumulated",
        hint="clip once per step, after the last backward() of the accumulation",
        broken=code("""
            optimizer.zero_grad()
            for images, labels in window:
                (loss_fn(model(images), labels) / len(window)).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        """),
        fixed=code("""
            optimizer.zero_grad()
            for images, labels in window:
                (loss_fn(model(images), labels) / len(window)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        """),
        symptom=(
            "The clip is applied to partial sums: the first micro-batches are scaled down again and again, the last "
            "one once. The step's direction depends on the order of the micro-batches."
        ),
        needs="declare clip=c and accumulate=N",
        reported=(
            "https://github.com/huggingface/transformers/issues/1563",
            "https://github.com/huggingface/diffusers/pull/721",
        ),
    ),
    Bug(
        id="clip-before-unscale",
        subject=SUBJECT,
        severity="bug",
        title="gradients are clipped while a GradScaler still has them scaled up",
        hint="call scaler.unscale_(optimizer) before clip_grad_norm_",
        broken=code("""
            optimizer.zero_grad()
            scaler.scale(loss_fn(model(images), labels)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
        """),
        fixed=code("""
            optimizer.zero_grad()
            scaler.scale(loss_fn(model(images), labels)).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
        """),
        symptom=(
            "The scaled gradient is cut to c and then divided by the scale: what is applied is at most c / 65536 long "
            "at the start, and changes whenever the scale does. The training hardly moves."
        ),
        needs="a GradScaler; declare clip=c",
        reported=(
            "https://github.com/milesial/Pytorch-UNet/issues/468",
            "https://github.com/pytorch/examples/issues/1196",
        ),
    ),
    Bug(
        id="scaler-bypassed",
        subject=SUBJECT,
        severity="bug",
        title="the loss is scaled by a GradScaler, but the step is not taken through it",
        hint="call scaler.step(optimizer) and scaler.update() instead of optimizer.step()",
        broken=code("""
            optimizer.zero_grad()
            scaler.scale(loss_fn(model(images), labels)).backward()
            optimizer.step()
        """),
        fixed=code("""
            optimizer.zero_grad()
            scaler.scale(loss_fn(model(images), labels)).backward()
            scaler.step(optimizer)
            scaler.update()
        """),
        symptom=(
            "The step applies the gradient times the scale, 65536 at the start, and also the infinite ones that the "
            "scaler would have skipped. SGD explodes at once; Adam, which divides the scale out again, does not."
        ),
        needs="a GradScaler",
        reported=("https://github.com/IAHispano/Applio/pull/860",),
    ),
)
