"""Learning-rate schedules: when the rate changes."""

from __future__ import annotations

from mnist_loop.bugs.bug import Bug, code

SUBJECT = "learning-rate schedules"
SCHEDULER = "a scheduler that is handed in"
SCHEDULER_STEP = r"\w*sched\w*\.step\("

BUGS = (
    Bug(
        id="scheduler-before-optimizer",
        decided_by=("verify", "check"),
        title="the schedule is stepped before the first optimizer step, and its first value is skipped",
        law="The schedule moves on after the optimizer's steps, so that the first step has the initial learning rate.",
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
        explains=("scheduler-per-batch",),
        lines=(SCHEDULER_STEP,),
        reported=(
            "https://github.com/lincc-frameworks/hyrax/issues/983",
            "https://github.com/lufficc/SSD/pull/98",
        ),
    ),
    Bug(
        id="scheduler-not-stepped",
        decided_by=("verify", "check"),
        title="a learning-rate schedule is built and never stepped",
        law="A schedule of an optimizer that steps is stepped too.",
        hint="call scheduler.step() once an epoch, or once a batch where the schedule counts batches",
        broken=code("""
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10)
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        """),
        fixed=code("""
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10)
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer, device)
                scheduler.step()
        """),
        symptom="The learning rate stays as it was at the start, for the whole training.",
        needs="a learning-rate schedule; info where one call is one epoch, as the caller may step it",
    ),
    Bug(
        id="scheduler-horizon",
        decided_by=("verify", "check"),
        severity="info",
        title="a schedule ends much later, or earlier, than the training",
        law="A schedule that has an end comes to it with the training.",
        hint="give the schedule the number of its steps: epochs, or epochs times the number of batches",
        broken=code("""
            scheduler = CosineAnnealingLR(optimizer, T_max=epochs * len(train_loader))
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer, device)
                scheduler.step()
        """),
        fixed=code("""
            scheduler = CosineAnnealingLR(optimizer, T_max=epochs)
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer, device)
                scheduler.step()
        """),
        symptom=(
            "A horizon in batches that is stepped by epochs leaves the learning rate almost where it began. One in "
            "epochs that is stepped by batches goes through its course in the first epoch, and up again. A OneCycleLR "
            "raises at the first step after its end."
        ),
        needs="a learning-rate schedule with an end",
        explains=("loop-raises",),
        lines=(r"T_max=|total_steps=|OneCycleLR\(|CosineAnnealingLR\(|total_iters=",),
    ),
    Bug(
        id="plateau-mode-wrong",
        title="a plateau schedule waits for an accuracy to fall, or for a loss to rise",
        law='A ReduceLROnPlateau has mode "max" where it is given an accuracy, and "min" where it is given a loss.',
        hint='build the schedule with mode="max" for an accuracy, and with mode="min", the default, for a loss',
        broken=code("""
            schedule = ReduceLROnPlateau(optimizer, patience=2)
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer, device)
                schedule.step(accuracy(model, val_loader))
        """),
        fixed=code("""
            schedule = ReduceLROnPlateau(optimizer, mode="max", patience=2)
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer, device)
                schedule.step(accuracy(model, val_loader))
        """),
        symptom=(
            "Every epoch that is better counts as one without an improvement: the learning rate falls as long as the "
            "training goes well, and soon is too small for it to go on."
        ),
        needs="a ReduceLROnPlateau that the loop steps, on a loss or an accuracy",
        lines=(r"ReduceLROnPlateau\(",),
        reported=("https://github.com/md-mohaiminul/ViS4mer/issues/4",),
    ),
    Bug(
        id="scheduler-per-batch",
        title="a schedule that counts epochs is stepped once per batch",
        law="Within an epoch the learning rate is the same, unless the schedule is declared to be one by batches.",
        hint="call scheduler.step() once per epoch",
        hints=(
            (
                "built for steps",
                'declare schedule="per-batch" if the schedule counts steps, "per-epoch" if it counts epochs',
            ),
        ),
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
        needs=f'{SCHEDULER}; info until schedule="per-epoch" is declared',
        lines=(SCHEDULER_STEP,),
        reported=(
            "https://github.com/ivadomed/ivadomed/pull/55",
            "https://github.com/automl/Auto-PyTorch/pull/210",
            "https://github.com/pytorch/tutorials/pull/640",
        ),
    ),
    Bug(
        id="scheduler-per-epoch",
        title="a schedule that counts batches is stepped once per epoch",
        law="A schedule that is declared to be one by batches moves with each step of the optimizer.",
        hint="call scheduler.step() after each optimizer.step()",
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
            "The schedule hardly begins: a warm-up of 500 steps lasts for 500 epochs, and the learning rate is as good "
            "as zero, or as good as constant, for the whole training."
        ),
        needs=f'{SCHEDULER}; declare schedule="per-batch"',
        lines=(SCHEDULER_STEP,),
    ),
    Bug(
        id="scheduler-per-micro-batch",
        title="the schedule is stepped for each micro-batch, not for each step of the optimizer",
        law="With accumulation, a schedule by steps moves once an optimizer's step, not once a batch.",
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
        explains=("scheduler-before-optimizer",),
        lines=(SCHEDULER_STEP,),
        reported=("https://github.com/h2oai/h2o-llmstudio/issues/663",),
    ),
)
