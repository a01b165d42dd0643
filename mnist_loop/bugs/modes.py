"""Modes and state: train and eval mode, gradients on and off, buffers, checkpoints, the weights that are kept."""

from __future__ import annotations

from mnist_loop.bugs.bug import Bug, code

SUBJECT = "modes and state"

BUGS = (
    Bug(
        id="trains-in-eval-mode",
        subject=SUBJECT,
        severity="bug",
        title="the model is in eval mode from the first training batch on",
        hint="call model.train() before training, or declare trains_in_eval_mode=True",
        broken=code("""
            def train(model, train_loader, loss_fn, optimizer):
                # the model comes from an evaluation, or from from_pretrained()
                for images, labels in train_loader:
                    optimizer.zero_grad()
                    loss_fn(model(images), labels).backward()
                    optimizer.step()
        """),
        fixed=code("""
            def train(model, train_loader, loss_fn, optimizer):
                model.train()
                for images, labels in train_loader:
                    optimizer.zero_grad()
                    loss_fn(model(images), labels).backward()
                    optimizer.step()
        """),
        symptom=(
            "Dropout does nothing, and BatchNorm normalises with running statistics that it never updates: those of a "
            "model that has seen no data. A module's training flag is off at a training forward, already at the first "
            "one. A model without such layers does not notice."
        ),
        reported=(
            "https://github.com/Lightning-AI/pytorch-lightning/issues/20105",
            "https://github.com/autogluon/autogluon/issues/4965",
        ),
    ),
    Bug(
        id="train-mode-not-restored",
        subject=SUBJECT,
        severity="bug",
        title="after the first validation the model stays in eval mode",
        hint="call model.train() at the start of each epoch, not once before the first",
        broken=code("""
            model.train()
            for epoch in range(epochs):
                for images, labels in train_loader:
                    optimizer.zero_grad()
                    loss_fn(model(images), labels).backward()
                    optimizer.step()
                evaluate(model, val_loader)  # calls model.eval()
        """),
        fixed=code("""
            for epoch in range(epochs):
                model.train()
                for images, labels in train_loader:
                    optimizer.zero_grad()
                    loss_fn(model(images), labels).backward()
                    optimizer.step()
                evaluate(model, val_loader)  # calls model.eval()
        """),
        symptom=(
            "The first epoch is right. From the first validation on, Dropout is off and BatchNorm's running statistics "
            "stand still, so the training loss drops at once and the model overfits from there. Validating in the "
            "middle of an epoch shows it even earlier."
        ),
        needs="an evaluation between two epochs or within one",
        reported=(
            "https://github.com/joeynmt/joeynmt/issues/184",
            "https://github.com/pytorch/tutorials/issues/1624",
            "https://github.com/wkentaro/pytorch-fcn/issues/57",
        ),
    ),
    Bug(
        id="train-mode-unfreezes",
        subject=SUBJECT,
        severity="bug",
        title="model.train() wakes modules that are meant to be frozen",
        hint="put frozen modules back into eval mode after each model.train()",
        broken=code("""
            model.features.requires_grad_(False)
            model.features.eval()
            for epoch in range(epochs):
                model.train()
                for images, labels in train_loader:
                    train_step(images, labels)
        """),
        fixed=code("""
            model.features.requires_grad_(False)
            for epoch in range(epochs):
                model.train()
                model.features.eval()
                for images, labels in train_loader:
                    train_step(images, labels)
        """),
        symptom=(
            "train() goes through all submodules. The frozen part's parameters stand still, but its BatchNorm "
            "normalises with the batch again and moves its running statistics: the features that were to be kept are "
            "not kept."
        ),
        needs="declare frozen=[...]",
        reported=("https://github.com/Lightning-AI/pytorch-lightning/pull/18951",),
    ),
    Bug(
        id="evaluates-in-train-mode",
        subject=SUBJECT,
        severity="bug",
        title="test samples are evaluated in train mode",
        hint="call model.eval() before evaluating, and model.train() before training goes on",
        broken=code("""
            with torch.no_grad():
                for images, labels in test_loader:
                    correct += (model(images).argmax(dim=1) == labels).sum().item()
        """),
        fixed=code("""
            model.eval()
            with torch.no_grad():
                for images, labels in test_loader:
                    correct += (model(images).argmax(dim=1) == labels).sum().item()
        """),
        symptom=(
            "Dropout is on, so two evaluations of one model differ; BatchNorm normalises each test batch with itself, "
            "so the result depends on the batch size, and its running statistics move towards the test data. no_grad() "
            "prevents none of this."
        ),
        needs="an evaluation",
        reported=(
            "https://github.com/udacity/deep-learning-v2-pytorch/issues/3",
            "https://github.com/wolny/pytorch-3dunet/issues/53",
            "https://github.com/microsoft/robustdg/issues/30",
        ),
    ),
    Bug(
        id="evaluates-with-grad",
        subject=SUBJECT,
        severity="cost",
        title="the evaluation records a graph that no one uses",
        hint="evaluate under torch.no_grad() or torch.inference_mode()",
        broken=code("""
            model.eval()
            for images, labels in test_loader:
                correct += (model(images).argmax(dim=1) == labels).sum().item()
        """),
        fixed=code("""
            model.eval()
            with torch.no_grad():
                for images, labels in test_loader:
                    correct += (model(images).argmax(dim=1) == labels).sum().item()
        """),
        symptom=(
            "The result is the same. Each forward keeps all activations for a backward() that never comes, which takes "
            "time and can take several times the memory: evaluations that run out of it often do so here."
        ),
        needs="an evaluation",
        reported=(
            "https://github.com/skorch-dev/skorch/issues/218",
            "https://github.com/chrischoy/FCGF/issues/15",
        ),
    ),
    Bug(
        id="functional-dropout",
        subject=SUBJECT,
        severity="bug",
        title="the output is random although every module is in eval mode",
        hint="pass training=model.training to functional dropout, or use torch.nn.Dropout",
        broken=code("""
            def predict(model, images):
                hidden = F.relu(model.fc1(images))
                return model.fc2(F.dropout(hidden, 0.5))
        """),
        fixed=code("""
            def predict(model, images):
                hidden = F.relu(model.fc1(images))
                return model.fc2(F.dropout(hidden, 0.5, training=model.training))
        """),
        symptom=(
            "F.dropout is on unless it is told otherwise, and model.eval() cannot reach it. The same image gets a "
            "different output each time, and the accuracy is too low by what dropout costs."
        ),
        needs="an evaluation",
        reported=(
            "https://github.com/pytorch/pytorch/issues/26338",
            "https://github.com/Coderx7/SimpleNet/issues/2",
            "https://github.com/pytorch/pytorch/issues/124464",
        ),
    ),
    Bug(
        id="evaluation-updates",
        subject=SUBJECT,
        severity="bug",
        title="the evaluation trains, or leaves gradients behind that the next step applies",
        hint="keep backward() and step() out of the evaluation",
        broken=code("""
            def run(loader, train):
                model.train(train)
                for images, labels in loader:
                    loss = loss_fn(model(images), labels)
                    loss.backward()
                    if train:
                        optimizer.step()
                        optimizer.zero_grad()
        """),
        fixed=code("""
            def run(loader, train):
                model.train(train)
                with torch.set_grad_enabled(train):
                    for images, labels in loader:
                        loss = loss_fn(model(images), labels)
                        if train:
                            optimizer.zero_grad()
                            loss.backward()
                            optimizer.step()
        """),
        symptom=(
            "Parameters or their .grad change while test data are evaluated. Either the model learns the test set, or "
            "the first step of the next epoch applies the test set's gradient on top of its own."
        ),
        needs="an evaluation",
        reported=(
            "https://github.com/SKrisanski/FSCT/issues/12",
            "https://github.com/harvardnlp/annotated-transformer/issues/14",
            "https://github.com/araffin/robotics-rl-srl/issues/48",
        ),
    ),
    Bug(
        id="best-is-last",
        subject=SUBJECT,
        severity="bug",
        title="the best weights are not copied, and turn into the last ones",
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
        reported=(
            "https://github.com/pytorch/tutorials/pull/188",
            "https://github.com/thunlp/OpenKE/pull/131",
            "https://github.com/zhangj111/astnn/issues/8",
        ),
    ),
    Bug(
        id="averaged-weights-wrong",
        subject=SUBJECT,
        severity="bug",
        title="the moving average of the weights is not w <- d w + (1 - d) p, or leaves the buffers behind",
        hint="update the average after each step with weight 1 - decay for the new parameters, and copy the buffers",
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
        needs="declare average=d",
        reported=("https://github.com/huggingface/diffusers/issues/1864",),
    ),
    Bug(
        id="resume-incomplete",
        subject=SUBJECT,
        severity="bug",
        title="a resumed training is not the one that was interrupted",
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
        reported=(
            "https://github.com/EvolvingLMMs-Lab/OneVision-Encoder/pull/65",
            "https://github.com/huggingface/transformers/issues/11504",
            "https://github.com/huggingface/accelerate/issues/4283",
        ),
    ),
    Bug(
        id="state-differs",
        subject=SUBJECT,
        severity="bug",
        title="buffers such as running statistics are not those of the training batches",
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
    ),
)
