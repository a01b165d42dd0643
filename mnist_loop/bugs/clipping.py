"""Gradient clipping: when it is done, and to which gradient."""

from __future__ import annotations

from mnist_loop.bugs.bug import Bug, code

SUBJECT = "gradient clipping"
CLIP = r"clip_grad_(norm|value)_?\("
EXPLAINS = ("gradient-differs", "update-differs", "clip-missing")

BUGS = (
    Bug(
        id="clip-missing",
        title="gradients longer than the declared clip are applied as they are",
        law="A gradient longer than the declared norm is scaled down to it.",
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
        explains=("gradient-differs",),
        reported=(
            "https://github.com/NVIDIA/OpenSeq2Seq/pull/192",
            "https://github.com/msalhab96/SpeeQ/issues/50",
        ),
    ),
    Bug(
        id="clip-after-step",
        decided_by=("verify", "check"),
        title="gradients are clipped after the step that has used them",
        law="A step applies the clipped gradient; to clip it afterwards changes nothing.",
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
        explains=EXPLAINS,
        lines=(CLIP,),
        reported=(
            "https://github.com/awslabs/graphstorm/issues/1366",
            "https://github.com/VGraphRNN/VGRNN/issues/4",
        ),
    ),
    Bug(
        id="clip-before-backward",
        decided_by=("check",),
        title="gradients are clipped before the backward pass has brought them",
        law="Clipping comes after the backward pass whose gradients it is for.",
        hint="call clip_grad_norm_() between loss.backward() and optimizer.step()",
        broken=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss = loss_fn(model(images), labels)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                loss.backward()
                optimizer.step()
        """),
        fixed=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss = loss_fn(model(images), labels)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
        """),
        symptom="Nothing is there to be clipped, and the gradients are applied as they come, however long they are.",
    ),
    Bug(
        id="clip-of-nothing",
        decided_by=("check",),
        title="the parameters to clip are an iterator that was used up before",
        law="Clipping is given the parameters whose gradients it is to clip.",
        hint="call model.parameters() anew each time, or keep list(model.parameters())",
        broken=code("""
            parameters = model.parameters()
            optimizer = torch.optim.SGD(parameters, lr=0.1)
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
        """),
        fixed=code("""
            parameters = list(model.parameters())
            optimizer = torch.optim.SGD(parameters, lr=0.1)
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
        """),
        symptom=(
            "model.parameters() can be gone through once. The optimizer has done so, clip_grad_norm_ finds nothing, "
            "returns 0 and clips nothing."
        ),
    ),
    Bug(
        id="clip-per-micro-batch",
        title="gradients are clipped before they are all accumulated",
        law="With accumulation, the sum is clipped once before the step, not its parts one by one.",
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
        explains=(*EXPLAINS, "accumulation-mean-of-means", "accumulation-tail"),
        lines=(CLIP,),
        reported=(
            "https://github.com/huggingface/transformers/issues/1563",
            "https://github.com/huggingface/diffusers/pull/721",
        ),
    ),
    Bug(
        id="clip-before-unscale",
        decided_by=("verify", "check"),
        title="gradients are clipped while a GradScaler still has them scaled up",
        law="With a GradScaler, gradients are unscaled before they are clipped.",
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
        explains=(*EXPLAINS, "scaler-bypassed"),
        lines=(CLIP,),
        reported=(
            "https://github.com/milesial/Pytorch-UNet/issues/468",
            "https://github.com/pytorch/examples/issues/1196",
        ),
    ),
)
