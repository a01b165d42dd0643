"""Gradients and steps: which gradient a step applies, to which parameters, and how often."""

from __future__ import annotations

from mnist_loop.bugs.bug import BACKWARD, ZERO_GRAD, Bug, code

SUBJECT = "gradients and steps"
OPTIMIZER = r"\b(SGD|Adam|AdamW|NAdam|RAdam|RMSprop|Adagrad|Adadelta)\("
WRITES = r"(mul|add|sub|div|clamp|copy|lerp|sign)_\("  # in place
DIFFERS = ("gradient-differs", "update-differs", "metric-differs")

BUGS = (
    Bug(
        id="zero-grad-missing",
        decided_by=("verify", "check"),
        title="gradients of earlier batches are applied again",
        law="The gradient that a step applies is that of the batches since the last step, and of no other.",
        hint="call optimizer.zero_grad() once per batch, before loss.backward()",
        broken=code("""
            for images, labels in train_loader:
                loss = loss_fn(model(images), labels)
                loss.backward()
                optimizer.step()
        """),
        fixed=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss = loss_fn(model(images), labels)
                loss.backward()
                optimizer.step()
        """),
        symptom=(
            "backward() adds to the gradients that are there already, so step k applies the sum over the batches 1 to "
            "k. The loss falls at first, faster than it should; then the training swings or blows up. A small learning "
            "rate hides it for a long time."
        ),
        explains=(*DIFFERS, "clip-per-micro-batch", "resume-incomplete"),
        lines=(ZERO_GRAD, BACKWARD),
        reported=(
            "https://github.com/meta-pytorch/torchforge/pull/71",
            "https://github.com/pytorch/pytorch/issues/47175",
            "https://github.com/yastrebksv/TennisCourtDetector/issues/7",
        ),
    ),
    Bug(
        id="zero-grad-per-epoch",
        decided_by=("verify", "check"),
        title="gradients are cleared once an epoch, and pile up within it",
        law="Within an epoch, too, a step applies the gradient of the batches since the last step alone.",
        hint="move optimizer.zero_grad() into the loop over the batches, before loss.backward()",
        broken=code("""
            for epoch in range(epochs):
                optimizer.zero_grad()
                for images, labels in train_loader:
                    loss = loss_fn(model(images), labels)
                    loss.backward()
                    optimizer.step()
        """),
        fixed=code("""
            for epoch in range(epochs):
                for images, labels in train_loader:
                    optimizer.zero_grad()
                    loss = loss_fn(model(images), labels)
                    loss.backward()
                    optimizer.step()
        """),
        symptom=(
            "The first step of each epoch is right; step k of it applies the sum over the epoch's first k batches, "
            "which by its end are hundreds of gradients in one. Within one epoch it cannot be told from "
            "zero-grad-missing."
        ),
        explains=(*DIFFERS, "clip-per-micro-batch"),
        lines=(ZERO_GRAD,),
        reported=(
            "https://github.com/pytorch/pytorch/issues/47175",
            "https://github.com/heartcored98/Standalone-DeepLearning/issues/11",
            "https://github.com/salesforce/corr_based_prediction/issues/1",
        ),
    ),
    Bug(
        id="zero-grad-after-backward",
        decided_by=("verify", "check"),
        title="gradients are cleared between backward and step, so that the steps apply nothing",
        law="What a backward pass brought is still there when the step begins.",
        hint="call optimizer.zero_grad() before loss.backward() or after optimizer.step(), not between the two",
        broken=code("""
            for images, labels in train_loader:
                loss = loss_fn(model(images), labels)
                loss.backward()
                optimizer.zero_grad()
                optimizer.step()
        """),
        fixed=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss = loss_fn(model(images), labels)
                loss.backward()
                optimizer.step()
        """),
        symptom=(
            "Each step runs and finds no gradient: the parameters stay as they were, to the bit. The loss is flat from "
            "the first batch on, and nothing raises. (With set_to_none=False, weight decay still shrinks them.)"
        ),
        explains=(*DIFFERS, "graph-detached", "kernel-no-op", "step-missing"),
        lines=(ZERO_GRAD,),
    ),
    Bug(
        id="step-missing",
        decided_by=("verify", "check"),
        title="gradients are computed, and never applied",
        law="Once gradients have arrived, a step is taken and the parameters move.",
        hint="call optimizer.step() after loss.backward()",
        broken=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss = loss_fn(model(images), labels)
                loss.backward()
        """),
        fixed=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss = loss_fn(model(images), labels)
                loss.backward()
                optimizer.step()
        """),
        symptom=(
            "The parameters after the training are those before it, to the bit. The loss only wanders with the "
            "batches, and all costs of a training are paid."
        ),
        explains=(*DIFFERS, "scheduler-before-optimizer"),
        lines=(r"\bopt\w*\.step\b(?!\()", BACKWARD),
        reported=(
            "https://github.com/neuraloperator/Geo-FNO/issues/3",
            "https://github.com/tedlasai/learn2refocus/issues/5",
            "https://github.com/zhaoyuzhi/deepfillv2/issues/6",
        ),
    ),
    Bug(
        id="zero-grad-after-skip",
        title="where a step is left out for a gradient that is nan, the gradient is not cleared",
        law="A gradient that is left out for being nan is cleared before the next batch.",
        hint="call optimizer.zero_grad() also where the step is left out",
        broken=code("""
            for images, labels in train_loader:
                loss_fn(model(images), labels).backward()
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                if torch.isfinite(norm):
                    optimizer.step()
                    optimizer.zero_grad()
        """),
        fixed=code("""
            for images, labels in train_loader:
                loss_fn(model(images), labels).backward()
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                if torch.isfinite(norm):
                    optimizer.step()
                optimizer.zero_grad()
        """),
        symptom=(
            "The nan stays in the gradients, each batch adds to it, and every step from there on is left out as well: "
            "the training goes on and learns nothing, until an epoch begins with a zero_grad(), if one does."
        ),
        needs="a loop that leaves out steps whose gradient is not finite",
        reported=("https://github.com/espnet/espnet/pull/3283",),
    ),
    Bug(
        id="step-outside-loop",
        title="the optimizer steps once an epoch, on the gradient of the last batch alone",
        law="Without accumulation, each batch's gradient is applied before the next one replaces it.",
        hint="move optimizer.step() into the loop over the batches, after backward()",
        broken=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
            optimizer.step()
        """),
        fixed=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                optimizer.step()
        """),
        symptom=(
            "A step that is indented one level too little runs after the loop: all gradients but the last are cleared "
            "unused. The training is as slow as its batches are many, and nothing raises."
        ),
        explains=(
            *("gradient-differs", "steps-skipped", "stops-after-first-batch", "zero-grad-after-backward"),
            *("metric-differs", "step-missing", "trains-nothing"),
        ),
        lines=(r"\bopt\w*\.step\(",),
    ),
    Bug(
        id="step-double",
        decided_by=("verify", "check"),
        title="each batch is stepped twice",
        law="A gradient is applied by one step of its optimizer, not by two.",
        hint="call optimizer.step() once per batch",
        broken=code("""
            def train_step(images, labels):
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                optimizer.step()

            for images, labels in train_loader:
                train_step(images, labels)
                optimizer.step()
        """),
        fixed=code("""
            def train_step(images, labels):
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                optimizer.step()

            for images, labels in train_loader:
                train_step(images, labels)
        """),
        symptom=(
            "The second step applies a gradient that was taken before the first one. With plain SGD that is twice the "
            "learning rate; with momentum or Adam the state is advanced twice as well."
        ),
        explains=("update-differs", "optimizer-recreated", "metric-differs", "scheduler-per-micro-batch", "graph-leak"),
        reported=("https://github.com/mzolfaghari/ECO-pytorch/pull/1",),
    ),
    Bug(
        id="last-gradient-dropped",
        decided_by=("verify", "check"),
        title="the step stands before the backward pass, so that the last gradient is never applied",
        law="A step applies the gradient of the batch before the next batch goes through the model.",
        hint="call optimizer.step() after loss.backward(), in the same turn of the loop",
        broken=code("""
            for images, labels in train_loader:
                loss = loss_fn(model(images), labels)
                optimizer.step()
                optimizer.zero_grad()
                loss.backward()
        """),
        fixed=code("""
            for images, labels in train_loader:
                loss = loss_fn(model(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        """),
        symptom=(
            "The first step finds no gradient and does nothing. Each later step applies the gradient of the batch "
            "before, to a model whose output for the present batch is already computed. The last batch is paid for and "
            "never learned from."
        ),
        explains=(
            *DIFFERS,
            *("zero-grad-after-backward", "zero-grad-missing", "zero-grad-per-epoch", "step-missing", "kernel-no-op"),
            *("graph-detached", "resume-incomplete", "loop-raises"),
        ),
        lines=(r"\bopt\w*\.step\(",),
    ),
    Bug(
        id="steps-skipped",
        severity="info",
        title="steps are left out where the gradient is large",
        law="Each batch that goes through the model has a part in a step.",
        hint="count the steps that are left out, or clip the gradient instead, which keeps its direction",
        broken=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
                if norm > 5.0:
                    continue
                optimizer.step()
        """),
        fixed=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
        """),
        symptom=(
            "A guard against gradients that are not finite, or large, is right. Where it is too narrow, the batches "
            "that the model could learn most from are never learned from, and nothing says so."
        ),
        explains=("sync-every-step",),
    ),
    Bug(
        id="optimizer-misses-parameters",
        decided_by=("verify", "check"),
        title="parameters get a gradient, but no optimizer has them",
        law="Each parameter that is to be trained and gets a gradient is held by an optimizer that steps.",
        hint="build the optimizer last, from all parameters of the model as it is trained",
        broken=code("""
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
            model.fc2 = torch.nn.Linear(128, 10)
            train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        """),
        fixed=code("""
            model.fc2 = torch.nn.Linear(128, 10)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
            train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        """),
        symptom=(
            "Layers that were added, replaced or wrapped after the optimizer was built keep their initial values, "
            "while the optimizer goes on stepping tensors that no forward reads. The rest of the model learns around "
            "them, so the loss falls, though not far."
        ),
        explains=("gradient-differs", "update-differs"),
        lines=(OPTIMIZER,),
        reported=(
            "https://github.com/huggingface/accelerate/issues/3256",
            "https://github.com/pytorch/pytorch/issues/107843",
            "https://github.com/pytorch/pytorch/issues/14467",
        ),
    ),
    Bug(
        id="optimizer-recreated",
        decided_by=("verify", "check"),
        title="the optimizer is built anew in each epoch, and its momentum is lost",
        law="What the optimizer carries from step to step, such as momentum, lasts for the whole training.",
        hint="build the optimizer once, before the loop over the epochs",
        broken=code("""
            for epoch in range(epochs):
                optimizer = torch.optim.Adam(model.parameters())
                train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        """),
        fixed=code("""
            optimizer = torch.optim.Adam(model.parameters())
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        """),
        symptom=(
            "Momentum, Adam's moments and its step count begin at zero again with each epoch: the loss rises at each "
            "epoch's start, and a schedule that holds the old optimizer no longer has an effect. Plain SGD has no "
            "state to lose."
        ),
        needs="a loop that trains several epochs",
        explains=("update-differs",),
        lines=(OPTIMIZER + r"|type\((self\.)?opt\w*\)\(", r"\.state\.clear\("),
        reported=(
            "https://github.com/alan-turing-institute/deepsensor/issues/47",
            "https://github.com/zju3dv/Vox-Fusion/issues/31",
        ),
    ),
    Bug(
        id="frozen-by-accident",
        title="parameters that should be trained have requires_grad off",
        law=(
            "A parameter that is handed in with requires_grad, and not declared frozen, has it in every training "
            "forward."
        ),
        hint="turn requires_grad on again for all that is to be trained, or declare frozen=[...] what is not",
        broken=code("""
            model.requires_grad_(False)
            model.fc2.requires_grad_(True)
            train_one_epoch(model, train_loader, loss_fn, optimizer, device)  # the head alone, to begin with
            train_one_epoch(model, train_loader, loss_fn, optimizer, device)  # meant for the whole model
        """),
        fixed=code("""
            model.requires_grad_(False)
            model.fc2.requires_grad_(True)
            train_one_epoch(model, train_loader, loss_fn, optimizer, device)  # the head alone, to begin with
            model.requires_grad_(True)
            train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        """),
        symptom=(
            "The frozen part keeps the values that it began with, random ones included. The rest learns, so the loss "
            "falls and stops too early; parameters that were handed in trainable have no gradient at any step."
        ),
        explains=DIFFERS,
        lines=(r"requires_grad\s*=\s*False|requires_grad_\(False\)",),
        reported=(
            "https://github.com/nttcslab/byol-a/issues/7",
            "https://github.com/pytorch/vision/issues/2164",
        ),
    ),
    Bug(
        id="frozen-moves",
        title="parameters that are frozen change",
        law="Parameters that are handed in without requires_grad, or declared frozen, are not changed.",
        hint="freeze with requires_grad_(False) before the first step, instead of clearing the gradients",
        broken=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                for parameter in model.fc1.parameters():
                    parameter.grad.zero_()
                optimizer.step()
        """),
        fixed=code("""
            model.fc1.requires_grad_(False)
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                optimizer.step()
        """),
        symptom=(
            "A gradient of zero is still a gradient: weight decay shrinks the parameter at each step, and momentum "
            "that was gathered before keeps moving it. An optimizer passes over a parameter only where its gradient is "
            "None. Turning requires_grad on for all parameters undoes a freeze just as quietly."
        ),
        explains=("update-differs", "optimizer-misses-parameters", "gradient-differs"),
        lines=(r"requires_grad\s*=\s*True|requires_grad_\((True)?\)",),
        reported=(
            "https://github.com/huggingface/diffusers/issues/1009",
            "https://github.com/ultralytics/yolov5/issues/1213",
        ),
    ),
    Bug(
        id="graph-detached",
        decided_by=("verify", "check"),
        title="the loss is cut off from the model, so that no gradient reaches it",
        law="The loss carries the graph of the forward that it was computed from, so that gradients arrive.",
        hint="compute the loss from the model's outputs themselves, without .data, .detach() or torch.tensor()",
        broken=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                outputs = torch.tensor(model(images).tolist(), requires_grad=True)
                loss = loss_fn(outputs, labels)
                loss.backward()
                optimizer.step()
        """),
        fixed=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                outputs = model(images)
                loss = loss_fn(outputs, labels)
                loss.backward()
                optimizer.step()
        """),
        symptom=(
            "torch says so, `element 0 of tensors does not require grad`, until someone silences it with "
            "requires_grad=True: then backward() ends at the copy, the parameters have no gradient, and the training "
            "does nothing."
        ),
        explains=(*DIFFERS, "loop-raises", "step-missing", "kernel-no-op", "trains-nothing"),
        lines=(r"(\.data\b|\.detach\(|\.item\(|tensor\().*requires_grad",),
        reported=(
            "https://github.com/ronghuaiyang/arcface-pytorch/issues/56",
            "https://github.com/LZGMatrix/BOP19_CDPN_2019ICCV/issues/4",
        ),
    ),
    Bug(
        id="kernel-no-op",
        title="a step runs on a gradient that is not zero, and changes nothing",
        law="A parameter with a gradient and a learning rate is moved by the step.",
        hint="make the parameters contiguous and update torch, whose kernel for this device ignored the step",
        broken=code("""
            weight = torch.rand(784, 10, device=device).t()  # not contiguous
            weight.requires_grad_(True)
            optimizer = torch.optim.Adam([weight])  # on "mps", before torch 2.4, the steps changed nothing
        """),
        fixed=code("""
            weight = torch.rand(784, 10, device=device).t().contiguous()
            weight.requires_grad_(True)
            optimizer = torch.optim.Adam([weight])
        """),
        symptom=(
            "Some parameters never change although gradient and learning rate are not zero: the device's kernel wrote "
            "its result to a temporary copy. The loop is right; where it runs is not."
        ),
        explains=("update-differs",),
        lines=(rf"\.data\.{WRITES}",),
        reported=(
            "https://github.com/pytorch/pytorch/issues/118117",
            "https://github.com/pytorch/pytorch/issues/118115",
        ),
    ),
    Bug(
        id="gradient-differs",
        title="a step applies a gradient that is not the loss's, in a way that no known bug explains",
        law="The gradient that a step applies is, to the last digit, the oracle's for the same parameters and batches.",
        hint="apply the gradient as backward() leaves it, or declare what changes it, such as clip=1.0",
        broken=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                for parameter in model.parameters():
                    parameter.grad.sign_()
                optimizer.step()
        """),
        fixed=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                optimizer.step()
        """),
        symptom=(
            "The gradient at a step differs from the one that the same batches give in a replay in float64, by more "
            "than rounding explains, and none of the bugs on this page gives it either. The finding says at which "
            "step, in which parameter and by how much."
        ),
        lines=(rf"\.grad(\.data)?(\.{WRITES}|\s*[-+*/]?=(?!=|\s*None\b))",),
        catch_all=True,
    ),
    Bug(
        id="update-differs",
        title="the parameters do not move as the optimizer says",
        law="Parameters change in steps alone, and in each by what the handed optimizer makes of the gradient.",
        hint="let optimizer.step() alone change the parameters, or declare own_optimizer=True",
        broken=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                optimizer.step()
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter.mul_(0.999)
        """),
        fixed=code("""
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                optimizer.step()
        """),
        symptom=(
            "The gradients are right, but the parameters after the step are not those that the optimizer's own rule "
            "makes of them: something else wrote to them, or the step ran with other settings than the optimizer "
            "shows."
        ),
        lines=(rf"\bp(aram(eter)?)?(\.data\.|\.){WRITES}",),
        catch_all=True,
    ),
    Bug(
        id="replica-bypassed",
        title="the module inside DistributedDataParallel is called, and the replicas drift apart",
        hint="call the wrapped model, not its .module",
        broken=code("""
            replicated = DistributedDataParallel(model)
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(replicated.module(images), labels).backward()
                optimizer.step()
        """),
        fixed=code("""
            replicated = DistributedDataParallel(model)
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(replicated(images), labels).backward()
                optimizer.step()
        """),
        symptom=(
            "The gradients are averaged between processes only where the forward went through the wrapper. Without it "
            "each process trains a model of its own on its share of the data: they differ from the first step on, and "
            "one is kept."
        ),
        undecided="It takes several processes: one alone has nothing to differ from.",
        reported=("https://github.com/kohya-ss/sd-scripts/pull/989",),
    ),
)
