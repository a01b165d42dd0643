"""State: buffers, the best weights, averaged weights, checkpoints."""

from __future__ import annotations

from mnist_loop.bugs.bug import Bug, code

SUBJECT = "state"

BUGS = (
    Bug(
        id="best-is-last",
        title="the best weights are not copied, and turn into the last ones",
        law="A loop that keeps the best state ends with the state of its best evaluation, not with the last one.",
        hint="copy the best state: copy.deepcopy(model.state_dict())",
        broken=code("""
            best = -1.0
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer)
                accuracy = evaluate(model, val_loader)
                if accuracy > best:
                    best, best_state = accuracy, model.state_dict()
            model.load_state_dict(best_state)
        """),
        fixed=code("""
            best = -1.0
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer)
                accuracy = evaluate(model, val_loader)
                if accuracy > best:
                    best, best_state = accuracy, copy.deepcopy(model.state_dict())
            model.load_state_dict(best_state)
        """),
        symptom=(
            "state_dict() returns the live tensors, and the steps that follow write into them. What is loaded, "
            "returned or saved as the best is the last epoch's state, under the best epoch's accuracy."
        ),
        needs="declare keeps_best=True",
        explains=("selects-on-test",),
        lines=(r"^(?!.*(deepcopy|clone|save)).*\bstate_dict\(\)",),
        reported=(
            "https://github.com/pytorch/tutorials/pull/188",
            "https://github.com/thunlp/OpenKE/pull/131",
            "https://github.com/zhangj111/astnn/issues/8",
        ),
    ),
    Bug(
        id="patience-wrong",
        title="early stopping stops while the last improvement is no patience ago, or does not stop",
        law="Early stopping counts the epochs since the last improvement, not all that had none.",
        hint="set the counter to zero where a new best is found, and compare with the best",
        broken=code("""
            for epoch in range(epochs):
                val_loss = train_and_validate(model)
                if val_loss < best:
                    best = val_loss
                elif (stale := stale + 1) >= patience:
                    break
        """),
        fixed=code("""
            for epoch in range(epochs):
                val_loss = train_and_validate(model)
                if val_loss < best:
                    best, stale = val_loss, 0
                elif (stale := stale + 1) >= patience:
                    break
        """),
        symptom=(
            "The training stops while it still gets better, earlier the noisier the metric is. The case has held-out "
            "images whose loss and accuracy follow a plan. Where patience is not declared but only the default of a "
            "parameter, and where a loop stops too late, it is no error but worth a look."
        ),
        needs="a whole fit with a parameter patience that has a default, or declare patience=N",
        reported=(
            "https://github.com/royerlab/cytoself/issues/29",
            "https://github.com/modelscope/ms-swift/pull/5326",
            "https://github.com/ivadomed/ivadomed/issues/867",
        ),
    ),
    Bug(
        id="averaged-weights-wrong",
        title="the moving average of the weights is not w <- d w + (1 - d) p, or leaves the buffers behind",
        law=(
            "Averaged weights are w <- d w + (1 - d) p after each step, and the buffers are averaged or copied with "
            "them. The average begins with the initial weights or with those after the first step, of the training or "
            "of the call."
        ),
        hint="update the average after each step with weight 1 - decay for the new parameters, and copy the buffers",
        hints=(
            (
                "is evaluated",
                "call update_bn(train_loader, averaged) before it evaluates, or copy the buffers with the parameters",
            ),
        ),
        broken=code("""
            optimizer.step()
            with torch.no_grad():
                for average, parameter in zip(averaged.parameters(), model.parameters()):
                    average.lerp_(parameter, decay)
        """),
        fixed=code("""
            optimizer.step()
            with torch.no_grad():
                for average, parameter in zip(averaged.parameters(), model.parameters()):
                    average.lerp_(parameter, 1 - decay)
                for average, buffer in zip(averaged.buffers(), model.buffers()):
                    average.copy_(buffer)
        """),
        symptom=(
            "With d and 1 - d exchanged the average is the last step's weights with a little noise; with a decay that "
            "is itself updated, or an update per epoch, it is something else again. With BatchNorm's buffers left at "
            "their initial values, good weights give bad predictions."
        ),
        needs="declare average=d, or evaluate the averaged model in the loop",
        explains=("state-differs",),
        reported=("https://github.com/huggingface/diffusers/issues/1864",),
    ),
    Bug(
        id="resume-incomplete",
        title="a resumed training is not the one that was interrupted",
        law="Training, saved half-way and loaded into a new process, ends bitwise where it ends without the stop.",
        hint="save and load the optimizer, the scheduler, the random numbers and the epoch together with the model",
        broken=code("""
            torch.save(model.state_dict(), path)

            model.load_state_dict(torch.load(path))
        """),
        fixed=code("""
            rng = torch.get_rng_state()
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": rng}, path)

            state = torch.load(path)
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            torch.set_rng_state(state["rng"])
        """),
        symptom=(
            "k steps, a save, a load and k more steps end elsewhere than 2 k steps in one go: the momentum is gone, "
            "the learning rate is the initial one, or the data come in another order. The loss jumps where the "
            "training resumes."
        ),
        needs="declare save=... and load=...",
        explains=("not-reproducible",),
        reported=(
            "https://github.com/EvolvingLMMs-Lab/OneVision-Encoder/pull/65",
            "https://github.com/huggingface/transformers/issues/11504",
            "https://github.com/huggingface/accelerate/issues/4283",
        ),
    ),
    Bug(
        id="state-differs",
        title="buffers such as running statistics are not those of the training batches",
        law="Buffers such as running statistics are moved by each training forward, once, and by no other.",
        hint="run each training batch through the model once, in train mode, and nothing else in that mode",
        broken=code("""
            model.train()
            with torch.no_grad():
                model(torch.randn(64, 1, 28, 28))  # to see the shapes
            train_one_epoch(model, train_loader, loss_fn, optimizer)
        """),
        fixed=code("""
            model.eval()
            with torch.no_grad():
                model(torch.randn(64, 1, 28, 28))  # to see the shapes
            model.train()
            train_one_epoch(model, train_loader, loss_fn, optimizer)
        """),
        symptom=(
            "The parameters are right, but the buffers differ from those of a replay of the same batches, and none of "
            "the bugs on this page explains it. The predictions in eval mode are off, those in train mode are not."
        ),
        catch_all=True,
    ),
)
