"""Data: which samples are seen, in what order, how often, and as what."""

from __future__ import annotations

from mnist_loop.bugs.bug import OVER_BATCHES, Bug, code

SUBJECT = "data"

BUGS = (
    Bug(
        id="not-shuffled",
        decided_by=("verify", "check"),
        title="the training data come in the order of the data set in every epoch",
        law="Training sees the samples in random order: the handed loader shuffles, and the loop must not undo it.",
        hint="shuffle the training data in each epoch: DataLoader(..., shuffle=True)",
        broken=code("""
            train_loader = DataLoader(train_set, batch_size=64)
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer)
        """),
        fixed=code("""
            train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer)
        """),
        symptom=(
            "Each epoch runs from sample 0 to N - 1. Where the data are sorted by class, a batch holds one class, the "
            "model forgets one after the other, and BatchNorm's statistics are those of the last."
        ),
        needs="declare shuffles_itself=True",
        explains=("same-order-each-epoch",),
        lines=(r"shuffle\s*=\s*False|SequentialSampler\(|\bDataLoader\((?!.*(shuffle|sampler)).*\)",),
        reported=(
            "https://github.com/open-mmlab/mmdetection/issues/1649",
            "https://github.com/ultralytics/yolov5/issues/5622",
        ),
    ),
    Bug(
        id="same-order-each-epoch",
        decided_by=("verify", "check"),
        title="the data are shuffled into the same order in each epoch",
        law="Two epochs see the samples in different orders.",
        hint="seed once, before the first epoch, and call sampler.set_epoch(epoch) where there is a DistributedSampler",
        broken=code("""
            for epoch in range(epochs):
                torch.manual_seed(0)
                for images, labels in train_loader:
                    train_step(images, labels)
        """),
        fixed=code("""
            torch.manual_seed(0)
            for epoch in range(epochs):
                for images, labels in train_loader:
                    train_step(images, labels)
        """),
        symptom=(
            "The order of epoch 2 is that of epoch 1, batch for batch, and so are the dropout masks if the seed is "
            "reset. The same batches meet again and again, and the model learns them instead of the data."
        ),
        needs="a loop that trains several epochs on a shuffled loader",
        reported=(
            "https://github.com/pytorch/pytorch/issues/31771",
            "https://github.com/lucidrains/DALLE-pytorch/pull/230",
        ),
    ),
    Bug(
        id="test-shuffled",
        severity="info",
        title="the test data are shuffled",
        law="Evaluation sees the samples in the order of the data set, so that single predictions can be compared.",
        hint="leave shuffle off for test data",
        broken=code("""
            train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
            test_loader = DataLoader(test_set, batch_size=64, shuffle=True)
            fit(model, train_loader, test_loader, loss_fn, optimizer, device)
        """),
        fixed=code("""
            train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
            test_loader = DataLoader(test_set, batch_size=64)
            fit(model, train_loader, test_loader, loss_fn, optimizer, device)
        """),
        symptom=(
            "The metrics are the same to rounding. But predictions no longer line up with the samples, and each "
            "evaluation draws from the random numbers that the training would have had next."
        ),
        needs="an evaluation",
        reported=(
            "https://github.com/mrdbourke/pytorch-deep-learning/issues/665",
            "https://github.com/aladdinpersson/Machine-Learning-Collection/issues/188",
        ),
    ),
    Bug(
        id="no-batches",
        severity="info",
        title="epochs pass without a single batch",
        law=(
            "A data set smaller than one batch is trained on, or refused with an error; it is not passed over in "
            "silence."
        ),
        hint="keep the last batch, or choose a batch size below the number of samples",
        broken=code("""
            train_loader = DataLoader(train_set, batch_size=64, shuffle=True, drop_last=True)  # 40 samples
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer)
        """),
        fixed=code("""
            train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer)
        """),
        symptom=(
            "With fewer samples than a batch holds, drop_last drops all of them: the epochs end at once, no step is "
            "made, and the untrained model is evaluated as if it were trained. Who drops the last batch on purpose may "
            "have more data, which is why this is no error."
        ),
        explains=("loop-raises",),
        lines=(r"drop_last\s*=\s*True",),
        reported=("https://github.com/braindecode/braindecode/pull/1053",),
    ),
    Bug(
        id="stops-after-first-batch",
        title="an epoch ends before the data do",
        law="An epoch trains on every full batch of the data.",
        hint="remove the break, or declare steps_per_epoch=n",
        broken=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                optimizer.step()
                break  # debugging
        """),
        fixed=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                optimizer.step()
        """),
        symptom=(
            "Most samples are never trained on. Epochs are suspiciously fast, and with shuffling the loss still falls, "
            "because another first batch comes each time."
        ),
        explains=("metric-differs",),
        lines=(r"^\s*break\b",),
        loop_over=OVER_BATCHES,
        reported=(
            "https://github.com/plemeri/UACANet/issues/4",
            "https://github.com/feizc/Perceiver-Music-Generation/issues/1",
        ),
    ),
    Bug(
        id="partial-batch-skipped",
        severity="info",
        title="a partial last batch is drawn, and skipped by hand",
        law="A batch that is drawn is trained on, also a partial one.",
        hint="train on the partial batch too, or say drop_last=True where the loader is built",
        broken=code("""
            for images, labels in train_loader:
                if len(images) < batch_size:
                    continue
                train_step(images, labels)
        """),
        fixed=code("""
            for images, labels in train_loader:
                train_step(images, labels)
            print("all batches, the last one too")
        """),
        symptom=(
            "Up to a batch of samples is left out of each epoch. With shuffling they are others each time, which may "
            "be meant so, and without it they are never seen."
        ),
        explains=("no-batches",),
        lines=(r"if len\(\w+\) *(<|!=)",),
    ),
    Bug(
        id="epochs-miscounted",
        title="one epoch too few or too many is trained",
        law="A loop that is handed the number of epochs trains that many.",
        hint="count the epochs with range(epochs), or range(1, epochs + 1)",
        broken=code("""
            for epoch in range(1, epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer)
                print(f"epoch {epoch} of {epochs}")
        """),
        fixed=code("""
            for epoch in range(1, epochs + 1):
                train_one_epoch(model, train_loader, loss_fn, optimizer)
                print(f"epoch {epoch} of {epochs}")
        """),
        symptom=(
            "The log counts as it should and the training ends one epoch early, or one batch or epoch late. A schedule "
            "that was built for the number of epochs does not come to its end."
        ),
        needs="a whole fit that is handed the number of epochs",
        explains=("stops-after-first-batch",),
        lines=(r"in range\(1, \w*epochs\)|in range\(\w*epochs \+ 1\)",),
    ),
    Bug(
        id="batches-repeated",
        title="samples are trained on twice in an epoch while others are left out",
        law="No sample is trained on twice in an epoch while others are left out.",
        hint="iterate over the loader once per epoch: for images, labels in train_loader",
        broken=code("""
            for _ in range(len(train_loader)):
                images, labels = next(iter(train_loader))
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
            "iter() begins a new pass, so that next() is always its first batch. Unshuffled that is one and the same "
            "batch; shuffled it is a draw with replacement, in which an epoch misses a third of the data. A pass is "
            "set up, with its workers, for each batch."
        ),
        reported=(
            "https://github.com/leohsuofnthu/Pytorch-IterativeFCN/issues/7",
            "https://github.com/wandb/examples/issues/444",
        ),
    ),
    Bug(
        id="evaluation-duplicates",
        title="samples are counted twice in an evaluation",
        law="One evaluation sees no sample twice.",
        hint="evaluate each sample once, without the padding of a DistributedSampler",
        broken=code("""
            sampler = DistributedSampler(test_set, num_replicas=8, rank=rank, shuffle=False)
            test_loader = DataLoader(test_set, batch_size=64, sampler=sampler)
            accuracy = evaluate(model, test_loader)
        """),
        fixed=code("""
            share = Subset(test_set, range(rank, len(test_set), 8))
            test_loader = DataLoader(share, batch_size=64)
            accuracy = evaluate(model, test_loader)
        """),
        symptom=(
            "To give each process as many samples as the others, the sampler repeats some. The metric is that of a "
            "test set that does not exist, and it changes with the number of processes."
        ),
        needs="an evaluation",
        explains=("metric-differs",),
        reported=(
            "https://github.com/pytorch/pytorch/issues/25162",
            "https://github.com/RUCAIBox/RecBole/pull/1872",
        ),
    ),
    Bug(
        id="normalised-differently",
        title="the same image reaches the model as one tensor in training and as another in evaluation",
        law="An image reaches the model as the same tensor in training and in evaluation, but for random augmentation.",
        hint="put training and test images through the same preprocessing",
        broken=code("""
            for images, labels in train_loader:
                train_step((images - 0.1307) / 0.3081, labels)
            model.eval()
            with torch.no_grad():
                for images, labels in test_loader:
                    correct += (model(images).argmax(dim=1) == labels).sum().item()
        """),
        fixed=code("""
            def normalise(images):
                return (images - 0.1307) / 0.3081

            for images, labels in train_loader:
                train_step(normalise(images), labels)
            model.eval()
            with torch.no_grad():
                for images, labels in test_loader:
                    correct += (model(normalise(images)).argmax(dim=1) == labels).sum().item()
        """),
        symptom=(
            "The training loss is good and the test accuracy is bad, often close to chance: it looks like overfitting, "
            "and no regularisation helps. An image that is in both sets enters as two different tensors."
        ),
        needs="an evaluation",
        explains=("input-altered", "metric-differs"),
        lines=(r"/ *255",),
        reported=(
            "https://github.com/mlpack/examples/pull/213",
            "https://github.com/jchen42703/kits19-cnn/issues/22",
            "https://github.com/PolymathicAI/the_well/issues/68",
        ),
    ),
    Bug(
        id="input-altered",
        severity="info",
        title="what reaches the model is not the image, in training and evaluation alike",
        law="The loop hands the model the images that it was handed, up to their shape.",
        hint="check what is done to the images between the loader and the model, such as a second normalisation",
        broken=code("""
            for images, labels in train_loader:  # floats from -1 to 1 already
                optimizer.zero_grad()
                loss_fn(model(images / 255), labels).backward()
                optimizer.step()
        """),
        fixed=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                optimizer.step()
        """),
        symptom=(
            "Augmentation and normalisation within the loop are fine, which is why this is no error. But images that "
            "are divided by 255 twice, or whose axes are exchanged, still train, only worse."
        ),
    ),
    Bug(
        id="split-leak",
        decided_by=("verify", "check"),
        title="test data have an influence on the training",
        law="With other test images the training sees the same inputs: no statistics are fitted on them.",
        hint="split first, and take statistics, vocabularies and samples for training from the training data alone",
        broken=code("""
            images = torch.cat([train_images, test_images])
            mean, std = images.mean(), images.std()
            train_images = (train_images - mean) / std
            test_images = (test_images - mean) / std
        """),
        fixed=code("""
            mean, std = train_images.mean(), train_images.std()
            train_images = (train_images - mean) / std
            test_images = (test_images - mean) / std
        """),
        symptom=(
            "Changing the test images changes the trained weights. The test accuracy is then no longer that of unseen "
            "data: by a hair where only a mean leaks, grossly where samples are in both sets."
        ),
        needs="an evaluation",
        explains=(
            "selects-on-test",
            "input-altered",
            "normalised-differently",
            "evaluation-updates",
            "batches-repeated",
            "stops-after-first-batch",
        ),
        reported=(
            "https://github.com/aikunyi/FourierGNN/issues/10",
            "https://github.com/cornellius-gp/gpytorch/issues/819",
        ),
    ),
    Bug(
        id="validates-on-train",
        decided_by=("verify", "check"),
        severity="info",
        title="all that is evaluated is the data that is trained on",
        law="What is evaluated holds something that is not trained on.",
        hint="evaluate a part of the data that is held out of the training",
        broken=code("""
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer, device)
                accuracy = evaluate(model, train_loader, loss_fn, device)
        """),
        fixed=code("""
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer, device)
                accuracy = evaluate(model, val_loader, loss_fn, device)
        """),
        symptom=(
            "The accuracy that is reported is that of samples that the model has learned by heart. It rises while the "
            "model overfits."
        ),
        needs="an evaluation",
    ),
    Bug(
        id="evaluation-incomplete",
        decided_by=("verify", "check"),
        severity="info",
        title="an evaluation leaves out a part of its data",
        law="An evaluation goes over all samples of its data.",
        hint="build the loader of the evaluation without drop_last, and go through it to its end",
        broken=code("""
            test_loader = DataLoader(test_data, batch_size=64, drop_last=True)
            for images, labels in test_loader:
                correct += (model(images).argmax(dim=1) == labels).sum().item()
        """),
        fixed=code("""
            test_loader = DataLoader(test_data, batch_size=64)
            for images, labels in test_loader:
                correct += (model(images).argmax(dim=1) == labels).sum().item()
        """),
        symptom=(
            "The samples that do not fill a batch, or those after the point at which it stops, have no influence on "
            "the result. It depends on the batch size, and cannot be compared with that of others."
        ),
        needs="an evaluation",
    ),
    Bug(
        id="selects-on-test",
        title="the test labels decide which weights are kept",
        law="With other test labels the loop ends with the same weights: nothing is selected on the test set.",
        hint="choose the weights on validation data, and look at the test data once, at the end",
        broken=code("""
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer)
                accuracy = evaluate(model, test_loader)
                if accuracy > best:
                    best, best_state = accuracy, copy.deepcopy(model.state_dict())
        """),
        fixed=code("""
            for epoch in range(epochs):
                train_one_epoch(model, train_loader, loss_fn, optimizer)
                accuracy = evaluate(model, val_loader)
                if accuracy > best:
                    best, best_state = accuracy, copy.deepcopy(model.state_dict())
        """),
        symptom=(
            "With the test labels permuted, other weights are kept: early stopping or the choice of the best epoch has "
            "seen them. The best of many epochs on the test set is better there than on anything else."
        ),
        needs=(
            "a loader of test data; one that is named val, or any with keeps_best=True declared, is there for the "
            "selection"
        ),
        reported=(
            "https://github.com/xuanmay2701/shapeformer/issues/2",
            "https://github.com/DearCaat/RRT-MIL/issues/22",
        ),
    ),
    Bug(
        id="not-reproducible",
        title="two runs with the same seed differ on the CPU",
        law="Two runs from the same seeds, on the CPU and one thread, train on the same batches to the same bits.",
        hint="draw all random numbers from generators that the seed reaches",
        broken=code("""
            order = np.random.default_rng().permutation(len(train_set))
            for index in order:
                image, label = train_set[index]
                train_step(image.unsqueeze(0), torch.tensor([label]))
        """),
        fixed=code("""
            order = torch.randperm(len(train_set)).tolist()
            for index in order:
                image, label = train_set[index]
                train_step(image.unsqueeze(0), torch.tensor([label]))
        """),
        symptom=(
            "With the same seed, machine and number of threads, the final weights differ in their bits: something is "
            "drawn from the clock, from a generator of its own, or in the order of a set. No result can be checked, "
            "and no other bug be hunted, before this is gone."
        ),
        explains=("gradient-differs", "state-differs"),
        lines=(r"\.seed\(\)|seed\(.*(time|None|urandom)|urandom|SystemRandom|default_rng\(\)",),
        reported=(
            "https://github.com/Novartis/scar/issues/97",
            "https://github.com/ThilinaRajapakse/simpletransformers/issues/1478",
            "https://github.com/skorch-dev/skorch/issues/280",
        ),
    ),
    Bug(
        id="worker-seeds-equal",
        title="each worker of the loader draws the same random numbers from NumPy",
        hint="draw random numbers from torch in the data set, or seed NumPy in worker_init_fn",
        broken=code("""
            class Noisy(Dataset):
                def __len__(self):
                    return len(images)

                def __getitem__(self, index):
                    return images[index] + np.random.normal(), labels[index]

            train_loader = DataLoader(Noisy(), batch_size=64, num_workers=4)
        """),
        fixed=code("""
            class Noisy(Dataset):
                def __len__(self):
                    return len(images)

                def __getitem__(self, index):
                    return images[index] + torch.randn(()), labels[index]

            train_loader = DataLoader(Noisy(), batch_size=64, num_workers=4)
        """),
        symptom=(
            "Before torch 1.9 each worker began with a copy of NumPy's state: four workers made the same four "
            "augmentations, and the same again in each epoch."
        ),
        undecided=(
            "torch from 1.9 on seeds NumPy in each worker itself, and a loop that is handed its loaders cannot change "
            "that."
        ),
        reported=(
            "https://github.com/pytorch/pytorch/issues/5059",
            "https://github.com/pytorch/pytorch/pull/56488",
        ),
    ),
)
