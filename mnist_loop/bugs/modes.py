"""Train and eval mode, gradients on and off, and what an evaluation changes."""

from __future__ import annotations

from mnist_loop.bugs.bug import Bug, code

SUBJECT = "train and eval mode"
EVAL = r"\.eval\(\)|\.train\((mode=)?False\)"
GRADIENTS = ("gradient-differs", "update-differs")

BUGS = (
    Bug(
        id="trains-in-eval-mode",
        decided_by=("verify", "check"),
        title="the model is in eval mode from the first training batch on",
        law="Every module is in train mode from the first training forward on, unless it is declared otherwise.",
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
        explains=(*GRADIENTS, "state-differs", "train-mode-not-restored", "not-reproducible"),
        lines=(EVAL,),
        reported=(
            "https://github.com/Lightning-AI/pytorch-lightning/issues/20105",
            "https://github.com/autogluon/autogluon/issues/4965",
        ),
    ),
    Bug(
        id="train-mode-assumed",
        severity="info",
        title="the training never calls train(), and relies on the mode that the model comes in",
        law="A loop trains in train mode, also a model that it is handed in eval mode.",
        hint="call model.train() at the beginning of each epoch",
        broken=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                optimizer.step()
        """),
        fixed=code("""
            model.train()
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                optimizer.step()
        """),
        symptom=(
            "A new model is in train mode, so that all is well until one comes from an evaluation or a checkpoint: "
            "then Dropout is off and BatchNorm's statistics stand still. The caller may see to it, which is why this "
            "is no error."
        ),
    ),
    Bug(
        id="train-mode-not-restored",
        decided_by=("verify", "check"),
        title="after the first validation the model stays in eval mode",
        law="After an evaluation every module is in train mode again when training goes on.",
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
        explains=(*GRADIENTS, "state-differs"),
        lines=(EVAL,),
        reported=(
            "https://github.com/joeynmt/joeynmt/issues/184",
            "https://github.com/pytorch/tutorials/issues/1624",
            "https://github.com/wkentaro/pytorch-fcn/issues/57",
        ),
    ),
    Bug(
        id="train-mode-unfreezes",
        title="model.train() wakes modules that are meant to be frozen",
        law="The buffers of a part that is declared frozen do not move: model.train() must not wake its BatchNorm.",
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
        explains=("state-differs",),
        lines=(r"\.train\((True)?\)",),
        reported=("https://github.com/Lightning-AI/pytorch-lightning/pull/18951",),
    ),
    Bug(
        id="teacher-in-train-mode",
        severity="info",
        title="another model, such as a teacher, is called in train mode",
        law="A model beside the one that is trained is in the mode that it should be in.",
        hint="put the teacher into eval mode, and again after each train() of a module that holds it",
        broken=code("""
            teacher = copy.deepcopy(model)
            for images, labels in train_loader:
                with torch.no_grad():
                    wanted = teacher(images)
                train_step(images, labels, wanted)
        """),
        fixed=code("""
            teacher = copy.deepcopy(model).eval()
            for images, labels in train_loader:
                with torch.no_grad():
                    wanted = teacher(images)
                train_step(images, labels, wanted)
        """),
        symptom=(
            "no_grad() changes no mode: Dropout makes the targets random, and BatchNorm normalises them with the batch "
            "and moves the teacher's running statistics. Some do so on purpose, such as momentum encoders: it is an "
            "error only where the declared objective puts the teacher into the other mode."
        ),
        needs="a case in which other models are watched, or declare objective=FUNCTION",
        explains=("objective-differs",),
        lines=(r"deepcopy\(\s*(self\.)?(model|net)\s*\)\s*$",),
        reported=(
            "https://github.com/vrvlive/knowlege-distillation/issues/2",
            "https://github.com/wuzhiyuan2000/FedAgg/issues/2",
        ),
    ),
    Bug(
        id="evaluates-in-train-mode",
        decided_by=("verify", "check"),
        title="test samples are evaluated in train mode",
        law="Each evaluation forward has every module in eval mode, so that it moves no statistics and drops nothing.",
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
        explains=(
            "state-differs",
            "metric-in-train-mode",
            "functional-dropout",
            "evaluation-updates",
            "metric-differs",
        ),
        reported=(
            "https://github.com/udacity/deep-learning-v2-pytorch/issues/3",
            "https://github.com/wolny/pytorch-3dunet/issues/53",
            "https://github.com/microsoft/robustdg/issues/30",
        ),
    ),
    Bug(
        id="metric-in-train-mode",
        title="a metric is computed by another forward of training samples, in train mode",
        law="A metric of training samples is computed from the training's own outputs, or in eval mode.",
        hint="compute training metrics from the outputs that were trained on, or in eval mode",
        broken=code("""
            for images, labels in train_loader:
                train_step(images, labels)
                with torch.no_grad():
                    correct += (model(images).argmax(dim=1) == labels).sum().item()
        """),
        fixed=code("""
            for images, labels in train_loader:
                train_step(images, labels)
            model.eval()
            with torch.no_grad():
                for images, labels in train_loader:
                    correct += (model(images).argmax(dim=1) == labels).sum().item()
            model.train()
        """),
        symptom=(
            "The second forward moves BatchNorm's running statistics a second time for each batch, and draws new "
            "dropout masks: the metric is random and too low, and looking at it changes the model."
        ),
        explains=("state-differs", "metric-differs"),
        reported=("https://github.com/martin-gorner/tensorflow-mnist-tutorial/issues/48",),
    ),
    Bug(
        id="evaluates-with-grad",
        decided_by=("verify", "check"),
        severity="cost",
        title="the evaluation records a graph that no one uses",
        law="Evaluation runs with gradients off: a graph that nobody uses costs memory and time.",
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
        title="the output is random although every module is in eval mode",
        law="With every module in eval mode, two evaluations of one state give the same.",
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
        explains=("input-altered", "normalised-differently", "metric-differs", "evaluation-updates"),
        lines=(r"^(?!.*training).*\bdropout\w*\(",),
        reported=(
            "https://github.com/pytorch/pytorch/issues/26338",
            "https://github.com/Coderx7/SimpleNet/issues/2",
            "https://github.com/pytorch/pytorch/issues/124464",
        ),
    ),
    Bug(
        id="evaluation-updates",
        title="the evaluation trains, or leaves gradients behind that the next step applies",
        law="Evaluation changes no parameter and no gradient, and trains on nothing.",
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
        explains=(
            "zero-grad-missing",
            "state-differs",
            "zero-grad-per-epoch",
            "gradient-differs",
            "selects-on-test",
            "trains-in-eval-mode",
            "train-mode-not-restored",
        ),
        reported=(
            "https://github.com/SKrisanski/FSCT/issues/12",
            "https://github.com/harvardnlp/annotated-transformer/issues/14",
            "https://github.com/araffin/robotics-rl-srl/issues/48",
        ),
    ),
)
