"""Conduct: whether the loop trains what it is handed, returns, and leaves nothing behind."""

from __future__ import annotations

from mnist_loop.bugs.bug import Bug, code

SUBJECT = "conduct"

BUGS = (
    Bug(
        id="trains-nothing",
        title="no training batch goes through the model",
        law="The loop calls the model on training samples and moves its parameters.",
        hint="call the model on each batch of the training loader, in a loop that is really entered",
        broken=code("""
            batches = iter(train_loader)
            progress = ProgressBar(total=sum(1 for _ in batches))
            for images, labels in batches:  # they are all gone
                train_step(images, labels)
                progress.update()
        """),
        fixed=code("""
            progress = ProgressBar(total=len(train_loader))
            for images, labels in train_loader:
                train_step(images, labels)
                progress.update()
        """),
        symptom=(
            "The loop returns without having called the model on training data with gradients on. Nothing else can be "
            "judged then, so this fails on its own: nothing is correct by doing nothing."
        ),
        explains=("no-batches",),
    ),
    Bug(
        id="model-replaced",
        title="a copy is trained, and the model that was handed in stays as it was",
        law="The loop trains the model that it is handed, not a copy of it, unless it returns what it trained.",
        hint="train the model that is handed in, or load the trained state into it before returning",
        broken=code("""
            def train(model, train_loader, loss_fn, optimizer):
                model = copy.deepcopy(model)
                optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
                for images, labels in train_loader:
                    optimizer.zero_grad()
                    loss_fn(model(images), labels).backward()
                    optimizer.step()
        """),
        fixed=code("""
            def train(model, train_loader, loss_fn, optimizer):
                for images, labels in train_loader:
                    optimizer.zero_grad()
                    loss_fn(model(images), labels).backward()
                    optimizer.step()
        """),
        symptom=(
            "Loss and accuracy improve from epoch to epoch, and whoever called the loop then saves or evaluates a "
            "model that has never been trained."
        ),
        explains=("trains-nothing", "step-missing", "optimizer-misses-parameters", "update-differs"),
        lines=(r"deepcopy\((self\.)?\w*(model|net)\w*\)",),
    ),
    Bug(
        id="loop-raises",
        title="the loop raises in a case that it should cope with",
        law="The loop comes back without an error.",
        hint="make the loop work for the case in the finding as it does in the plainest one",
        hints=(
            (
                r"more than 1 value per channel|scalar type|\(0-d tensor\)|0D or 1D target|zero-dimensional",
                "make the loop work for a last batch of a single sample: no squeeze() without dim, BatchNorm with more",
            ),
            (
                r"through the graph a second time|freed|modified by an inplace operation",
                "call backward() once per forward, and keep no tensor with a graph from one batch to the next",
            ),
            (r"[Tt]ried to step \d+ times|total_steps", "give the schedule as many steps as it is stepped"),
            (
                r"unscale_|[Ss]caler|No inf checks were recorded",
                "call scaler.step(optimizer), then scaler.update(), once per step, each after a backward()",
            ),
            (r"invalid for input of size|shape '\[", "take the size of a batch from the batch: images.size(0)"),
            (r"IndexError|StopIteration", "count what the loader really gives: its last batch may be smaller"),
            (r"ZeroDivisionError", "divide by what was really counted, which may be nothing"),
        ),
        broken=code("""
            for images, labels in train_loader:
                outputs = model(images).squeeze()  # (1, 10) becomes (10,)
                loss = loss_fn(outputs, labels)
                loss.backward()
        """),
        fixed=code("""
            for images, labels in train_loader:
                outputs = model(images)
                loss = loss_fn(outputs, labels)
                loss.backward()
        """),
        symptom=(
            "In some of the situations that the loop is tried in, it ends with an exception: a partial last batch, one "
            "epoch, a model with buffers. The finding has the error and the lines of yours that it passed through."
        ),
        catch_all=True,
    ),
    Bug(
        id="loop-hangs",
        title="the loop does not come back within the time limit",
        hint="bound each loop by a number of epochs or steps, or raise --timeout",
        broken=code("""
            loss = float("inf")
            while loss > 0.01:
                loss = train_one_epoch(model, train_loader, loss_fn, optimizer)
        """),
        fixed=code("""
            for epoch in range(max_epochs):
                loss = train_one_epoch(model, train_loader, loss_fn, optimizer)
                if loss <= 0.01:
                    break
        """),
        symptom=(
            "A condition never becomes true, a loader never ends, or a worker, a lock or an input() is waited for. The "
            "loop is ended from outside, and what it was doing at that moment is in the finding."
        ),
        ends=("hang",),
    ),
    Bug(
        id="loop-exits",
        title="the loop ends the program that called it",
        hint="return from the loop, and raise an exception where something is wrong",
        broken=code("""
            for images, labels in train_loader:
                loss = train_step(images, labels)
                if not math.isfinite(loss):
                    sys.exit(1)
        """),
        fixed=code("""
            for images, labels in train_loader:
                loss = train_step(images, labels)
                if not math.isfinite(loss):
                    raise FloatingPointError(f"the loss is {loss}")
        """),
        symptom=(
            "exit(), sys.exit() or os._exit() takes the caller along: the sweep, the notebook, the test suite. What it "
            "had not written yet is lost."
        ),
        lines=(r"\b_?exit\(|\bSystemExit\b",),
        ends=("exit",),
    ),
    Bug(
        id="loop-crashes",
        title="the interpreter crashes in the loop",
        hint="look for native code near the last line in the finding, and run it under python -X faulthandler",
        broken=code("""
            kernels = ctypes.CDLL("./kernels.so")
            for images, labels in train_loader:
                pointer = ctypes.c_void_p(images.data_ptr())
                kernels.normalise(pointer, images.nbytes)  # takes the number of floats, not of bytes
                train_step(images, labels)
        """),
        fixed=code("""
            kernels = ctypes.CDLL("./kernels.so")
            for images, labels in train_loader:
                pointer = ctypes.c_void_p(images.data_ptr())
                kernels.normalise(pointer, images.numel())
                train_step(images, labels)
        """),
        symptom=(
            "A signal ends the process, most often a segmentation fault in an extension, a custom kernel or a "
            "mismatched library. There is no exception to catch and no traceback, only the signal's number."
        ),
        ends=("crash", "pipe"),
    ),
    Bug(
        id="loop-exhausts-memory",
        title="the loop takes all the memory that it may have",
        law="Training on a few images does not use up the memory that the loop may have.",
        hint="keep numbers instead of batches, outputs and graphs from one step to the next",
        broken=code("""
            history = []
            for images, labels in train_loader:
                loss, outputs = train_step(images, labels)
                history.append((images, outputs, loss))
        """),
        fixed=code("""
            history = []
            for images, labels in train_loader:
                loss, outputs = train_step(images, labels)
                history.append(loss.detach())
        """),
        symptom=(
            "The loop reaches the memory limit on data of a few kilobytes and is ended, by a MemoryError or by the "
            "system. On real data it would do so after some epochs, or take the machine with it."
        ),
        explains=("loop-raises",),
        ends=("memory",),
    ),
    Bug(
        id="leaves-global-state",
        severity="cost",
        title="settings of the whole process are changed and not put back",
        law="Global flags, hooks and functions are after the training what they were before it.",
        hint="change global settings within a with block that restores them, and remove each hook that was added",
        broken=code("""
            def evaluate(model, loader):
                model.eval()
                torch.set_grad_enabled(False)
                return sum((model(images).argmax(dim=1) == labels).sum() for images, labels in loader)
        """),
        fixed=code("""
            def evaluate(model, loader):
                model.eval()
                with torch.no_grad():
                    return sum((model(images).argmax(dim=1) == labels).sum() for images, labels in loader)
        """),
        symptom=(
            "After the loop, gradients are off, the default dtype, the number of threads or the deterministic "
            "algorithms are others, a hook is still on the model, or a function of torch is replaced. The loop itself "
            "is fine; whatever runs after it in the same process is slower, or wrong, without a line of its own to "
            "blame."
        ),
        lines=(r"torch\.(\w+\.)*(set_|use_deterministic)\w*\(|chdir\(|register_\w*hook\(",),
        reported=(
            "https://github.com/huggingface/transformers/pull/13257",
            "https://github.com/choyingw/SynergyNet/pull/22",
            "https://github.com/cics-nd/gptorch/pull/14",
        ),
    ),
    Bug(
        id="leaves-threads",
        severity="cost",
        title="threads or processes of the loop are still running when it has returned",
        law="Threads and processes that the loop started have ended when it has.",
        hint="stop and join what the loop has started before it returns",
        broken=code("""
            batches = queue.Queue(maxsize=2)
            threading.Thread(target=fill, args=(batches, train_loader)).start()
            for _ in range(steps):
                train_step(*batches.get())  # fewer than there are: fill() waits on the full queue for ever
        """),
        fixed=code("""
            batches = queue.Queue(maxsize=2)
            thread = threading.Thread(target=fill, args=(batches, train_loader))
            thread.start()
            for _ in range(len(train_loader)):
                train_step(*batches.get())
            thread.join()
        """),
        symptom=(
            "Each call leaves a thread or a worker behind, with the batches that it holds. Memory and processes pile "
            "up, and the program may not end when it is done."
        ),
        lines=(r"\b(Thread|Process|Popen|PoolExecutor|Pool)\(",),
    ),
)
