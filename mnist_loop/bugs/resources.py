"""Resources: memory and time that a loop takes without need."""

from __future__ import annotations

from mnist_loop.bugs.bug import OVER_BATCHES, Bug, code

SUBJECT = "resources"

BUGS = (
    Bug(
        id="graph-leak",
        decided_by=("verify", "check"),
        title="the graphs of earlier batches are kept alive",
        law="The graph of a forward is gone two steps later: what is kept of a loss is its value.",
        hint="keep numbers, not graphs: loss.item() or loss.detach()",
        broken=code("""
            total = 0.0
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss = loss_fn(model(images), labels)
                loss.backward()
                optimizer.step()
                total += loss
        """),
        fixed=code("""
            total = 0.0
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss = loss_fn(model(images), labels)
                loss.backward()
                optimizer.step()
                total += loss.detach()
        """),
        symptom=(
            "The sum has a history, which holds on to what each batch's graph still holds. Memory grows with each "
            "step, and the training ends after hours, out of memory, at a line that has nothing to do with it."
        ),
        explains=("retain-graph",),
        lines=(r"\+= *loss\b(?!\.)|append\((loss|outputs?)\)",),
        reported=(
            "https://pytorch.org/docs/stable/notes/faq.html",
            "https://github.com/ray-project/ray/pull/40940",
            "https://github.com/BatsResearch/labelmodels/issues/4",
        ),
    ),
    Bug(
        id="retain-graph",
        decided_by=("verify", "check"),
        severity="cost",
        title="backward() is told to keep a graph that no one goes through again",
        law="A backward pass frees the tensors that it needed: a graph is kept for a second pass only.",
        hint="call loss.backward() without retain_graph=True",
        broken=code("""
            for images, labels in train_loader:
                optimizer.zero_grad()
                loss = loss_fn(model(images), labels)
                loss.backward(retain_graph=True)
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
            "The activations of a batch stay until the next one's have been computed, so that two sets are alive at "
            "once. It is often put in to silence `Trying to backward through the graph a second time`, whose cause is "
            "a tensor from an earlier batch that should have been detached."
        ),
        lines=(r"retain_graph\s*=\s*True|create_graph\s*=\s*True",),
        reported=(
            "https://github.com/pytorch/pytorch/issues/40005",
            "https://github.com/EagleW/Writing-editing-Network/issues/3",
        ),
    ),
    Bug(
        id="sync-every-step",
        severity="cost",
        title="each step waits for the device",
        law="No tensor's value is read into Python in each step: on a GPU each read waits for all work to end.",
        hint="read losses every hundred batches or once an epoch, and sum them on the device until then",
        broken=code("""
            total = 0.0
            for images, labels in train_loader:
                loss = train_step(images, labels)
                total += loss.item()
        """),
        fixed=code("""
            total = torch.zeros((), device=device)
            for images, labels in train_loader:
                loss = train_step(images, labels)
                total += loss.detach()
            total = total.item()
        """),
        symptom=(
            "item(), float(), print() and tolist() on a tensor wait until the GPU has computed it; meanwhile nothing "
            "is queued, and the GPU idles until the next launch. On the CPU it costs nothing."
        ),
        lines=(r"\.item\(\)|\.tolist\(|\.cpu\(|float\(\w*loss",),
        loop_over=OVER_BATCHES,
        reported=(
            "https://github.com/meta-pytorch/torchtune/pull/522",
            "https://github.com/openvdb/fvdb-reality-capture/pull/144",
        ),
    ),
)
