"""Mixed precision: sums in half precision, and gradients under a GradScaler."""

from __future__ import annotations

from mnist_loop.bugs.bug import Bug, code

SUBJECT = "mixed precision"

BUGS = (
    Bug(
        id="half-precision-overflow",
        title="a sum in half precision overflows or loses its digits",
        law="No loss or gradient is rounded to float16 unasked, nor infinite or NaN where it is finite in float64.",
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
        explains=(
            "loss-differs",
            "gradient-differs",
            "metric-differs",
            "update-differs",
            "state-differs",
            "loop-raises",
            "not-reproducible",
        ),
        lines=(r"\.half\(\)|float16",),
        reported=(
            "https://github.com/pytorch/pytorch/issues/29429",
            "https://github.com/datamol-io/graphium/issues/406",
        ),
    ),
    Bug(
        id="scaler-bypassed",
        decided_by=("verify", "check"),
        title="the loss is scaled by a GradScaler, but the step is not taken through it",
        law="With a GradScaler, the step applies the gradient of the loss, not of the scaled loss.",
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
        explains=("gradient-differs", "update-differs", "clip-missing", "loss-differs", "loss-sum"),
        lines=(r"\bopt\w*\.step\(",),
        reported=("https://github.com/IAHispano/Applio/pull/860",),
    ),
    Bug(
        id="scaler-update-missing",
        decided_by=("verify", "check"),
        title="a GradScaler steps and is never updated",
        law="A GradScaler that steps is updated after the step.",
        hint="call scaler.update() once per step, after scaler.step(optimizer)",
        broken=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                scaler.scale(loss_fn(model(images), labels)).backward()
                scaler.step(optimizer)
        """),
        fixed=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                scaler.scale(loss_fn(model(images), labels)).backward()
                scaler.step(optimizer)
                scaler.update()
        """),
        symptom=(
            "The scale stays as it began: it does not fall after an overflow, and the state that step() left behind "
            "is that of the step before. Torch raises at the second step of one optimizer."
        ),
        needs="a GradScaler",
        explains=("loop-raises",),
        lines=(r"scaler\.step\(",),
    ),
    Bug(
        id="scaler-recreated",
        severity="cost",
        title="a new GradScaler is made in each epoch",
        law="A GradScaler lasts for the whole training: its scale is found in the first steps, and is not lost.",
        hint="make the GradScaler once, before the first epoch, and hand it to what trains an epoch",
        broken=code("""
            for epoch in range(epochs):
                scaler = torch.amp.GradScaler("cuda")
                for images, labels in train_loader:
                    train_step(images, labels, scaler)
        """),
        fixed=code("""
            scaler = torch.amp.GradScaler("cuda")
            for epoch in range(epochs):
                for images, labels in train_loader:
                    train_step(images, labels, scaler)
        """),
        symptom=(
            "The scale begins at 65536 again, so that the first steps of each epoch can overflow and are skipped, and "
            "it never grows beyond what one epoch allows. The scale in a checkpoint is that of the last epoch alone."
        ),
        needs="two epochs in one call, or a loop that takes the number of the epoch",
        lines=(r"GradScaler\(",),
        reported=("https://github.com/conservationtechlab/animl-py/issues/298",),
    ),
)
