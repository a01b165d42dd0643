"""Bugs of metrics and callbacks."""

from tests.loops.patches import Mutant

TRAIN_SUM = "        total.add_(loss.detach(), alpha=len(labels))\n        count += len(labels)\n"
FILE = "test_metrics.test_"

MUTANTS = [
    Mutant(
        "mean-of-batch-means",
        TRAIN_SUM,
        "        total.add_(loss.detach())\n        count += 1\n",
        FILE + "training_loss_is_the_mean_over_images",
        "training loss is .* but should be",
    ),
    Mutant(
        "accuracy-of-the-worst",
        "outputs.argmax(dim=1)",
        "outputs.argmin(dim=1)",
        FILE + "a_model_that_is_always_right_has_accuracy_one",
        "== 1.0",
    ),
    Mutant(
        "epoch-off-by-one",
        "history.append(Epoch(epoch,",
        "history.append(Epoch(epoch - 1,",
        FILE + "the_history_is_what_was_trained_and_evaluated",
        r"\[0",
    ),
    Mutant(
        "evaluates-before-training",
        "        train_loss = train_one_epoch(model, train_loader, loss_fn, optimizer, device, report)\n"
        "        test = evaluate(model, test_loader, loss_fn, device)\n",
        "        test = evaluate(model, test_loader, loss_fn, device)\n"
        "        train_loss = train_one_epoch(model, train_loader, loss_fn, optimizer, device, report)\n",
        FILE + "the_history_is_what_was_trained_and_evaluated",
        "assert",
    ),
    Mutant("epochs-wrong", "epochs: int = 5", "epochs: int = 6", FILE + "the_lesson_has_five_epochs", "== 5"),
    Mutant(
        "callback-keeps-the-graph",
        "            on_batch(batch, loss.detach())\n",
        "            on_batch(batch, loss)\n",
        FILE + "callbacks_are_told_each_batch_and_its_loss",
        "requires_grad|assert not True",
    ),
    Mutant(
        "callback-told-the-wrong-epoch",
        "partial(on_batch, epoch)",
        "partial(on_batch, 0)",
        FILE + "callbacks_are_told_each_batch_and_its_loss",
        "assert",
    ),
]
